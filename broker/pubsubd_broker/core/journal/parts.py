"""Parts of a node that are kept on disk, as the journal sees them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pubsubd_broker.core.log.log import Log
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Lineage, Losses, Position, StreamView


class KeptStream(Protocol):
    """The node's own stream."""

    @property
    def log(self) -> Log: ...

    @property
    def view(self) -> StreamView: ...

    @property
    def placed(self) -> int:
        """The offset at which the next batch is placed."""

    def begin(
        self, lineage: Lineage, offset: int, losses: Losses, entries: Iterable[Entry]
    ) -> None:
        """Goes on with earlier lives."""

    def commit(self, durable: int) -> None:
        """All before the offset `durable` is on disk."""


class KeptCursor(Protocol):
    """A consumer in the cursor registry."""

    @property
    def cursor(self) -> Position: ...

    @property
    def named(self) -> dict[str, Position]: ...


class KeptCursors(Protocol):
    """The cursor registry."""

    moved: dict[str, None] | None
    """Consumers that acknowledged or were dropped since the keeper looked last."""

    def get(self, consumer: str) -> KeptCursor | None: ...

    def items(self) -> Iterable[tuple[str, KeptCursor]]: ...

    def restore(
        self, consumer: str, cursor: Position, named: dict[str, Position], now_ns: int
    ) -> None: ...


class KeptAnswers(Protocol):
    """The table of publishers and their last answers."""

    def lasts(self) -> dict[bytes, int]:
        """The highest answered sequence of each publisher."""

    def restore(
        self, lasts: Mapping[bytes, int], placed: Iterable[tuple[Entry, int]], *, partial: bool
    ) -> None: ...


class KeptSession(Protocol):
    """A named session."""

    @property
    def kept(self) -> dict[str, Position]:
        """Positions at which the session resumes in the node's next life."""

    @property
    def holder(self) -> bytes | None:
        """The id of the client that took the name last."""

    def kept_in(self, node: str) -> int:
        """The offset of the session's kept position in `node`'s stream; 0 if that is unknown."""


class KeptSessions(Protocol):
    """The named sessions."""

    def named(self, name: str) -> KeptSession | None: ...

    def all_named(self) -> Collection[tuple[str, KeptSession]]: ...

    def restore(self, name: str, positions: dict[str, Position], holder: bytes | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts whose state a checkpoint holds, and with which a later life begins."""

    node: str
    stream: KeptStream
    cursors: KeptCursors
    answers: KeptAnswers
    sessions: KeptSessions

"""A stream as its readers on this node see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.log.pacing import Pacing
from pubsubd_protocol.attach import Answer, At, Claim, Expired, Resume, resolve
from pubsubd_protocol.positions import Position, StreamView

if TYPE_CHECKING:
    from pubsubd_broker.core.sessions.reading import Reading


class Source(Protocol):
    """The log at hand, and somebody who answers for the producer."""

    @property
    def node(self) -> str: ...

    @property
    def log(self) -> Log: ...

    @property
    def pacing(self) -> Pacing: ...

    def answer(self, claim: Claim) -> tuple[StreamView, Answer] | None:
        """The producer's answer, if it can be had here and now."""

    def fetch(self, reading: Reading, claim: Claim, budget: int) -> bool:
        """Has the producer asked for up to `budget` bytes, and `reading.fetched` called.

        False if it can't be asked now.
        """

    def caught_up(self, reading: Reading, claim: Claim) -> None:
        """`reading` goes on at the log at hand, from `claim`: the producer need not keep anything for it."""


def answer_at_hand(source: Source, position: Position) -> Answer | None:
    """What can be said here of going on at `position`; None if the producer has to be asked elsewhere."""
    log = source.log
    index = log.locate(position)
    if index is None:
        here = source.answer(At(position))
        return here[1] if here is not None else None
    item = log[index] if index < log.end else None
    if not isinstance(item, Gap):
        return Resume(position.offset)
    answer = resolve(At(position), item.view)
    # A gap of the replica, not of its reader: the producer may hold it yet.
    return answer if isinstance(answer, Expired) else None

"""A stream as the sessions of this node see it."""

from __future__ import annotations

from typing import Protocol

from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.log.pacing import Pacing
from pubsubd_broker.core.streams.fetching import LaggingReader
from pubsubd_protocol.attach import At, Claim, Expired, Resume, Verdict, resolve
from pubsubd_protocol.positions import Position, StreamView


class Source(Protocol):
    """The log at hand, and a way to have the producer answer."""

    @property
    def node(self) -> str: ...

    @property
    def log(self) -> Log: ...

    @property
    def pacing(self) -> Pacing: ...

    @property
    def origin(self) -> Position:
        """Start of a session that was open before this life of the broker met the stream."""

    def answer(self, claim: Claim) -> tuple[StreamView, Verdict] | None:
        """The producer's answer, if it can be had here and now."""

    def fetch(self, reader: LaggingReader, claim: Claim, budget: int) -> bool:
        """Has the producer asked for up to `budget` bytes, and `reader.fetched` called.

        False if it cannot be asked now.
        """

    def caught_up(self, reader: LaggingReader, claim: Claim) -> None:
        """`reader` goes on at the log at hand, from `claim`: the producer need not keep anything for it."""


def answer_at_hand(source: Source, position: Position) -> Verdict | None:
    """The verdict on going on at `position`, if the log at hand allows one. None: the producer has to be asked."""
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

"""What really happened in every stream: the oracle that a history is held against.

The simulator fills it from inside the producers' brokers. Where real processes are judged it is filled
from what publishers were told, and then knows less: not every message, and no views.
"""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str, int]
"""Epoch in hex, and next offset."""


@dataclass(frozen=True, slots=True)
class Published:
    """One message at its place. `time_ns`: when it was published, or was about to be."""

    topic: str
    payload: bytes
    publisher: bytes
    to: str | None
    time_ns: int


class StreamTruth:
    """All epochs of one node's stream. `capacity`: messages that its ring holds for certain, if known."""

    def __init__(self, capacity: int | None = None) -> None:
        self.epochs: list[str] = []
        self.messages: dict[str, dict[int, Published]] = {}
        self.capacity = capacity
        self.views: set[tuple[str, int, int]] | None = None
        """`(epoch, oldest, next)` of every moment; None where nobody looked."""

    @property
    def end(self) -> Place:
        """Where a reader stands that has everything."""
        return self.epochs[-1], self.next

    @property
    def next(self) -> int:
        return len(self.messages[self.epochs[-1]])

    def begin(self, epoch: str) -> None:
        if epoch not in self.messages:
            self.epochs.append(epoch)
            self.messages[epoch] = {}

    def publish(self, epoch: str, offset: int, message: Published) -> None:
        self.begin(epoch)
        self.messages[epoch][offset] = message

    def held(self, oldest: int) -> None:
        """The ring holds from `oldest` on now."""
        if self.views is None:
            self.views = set()
        self.views.add((self.epochs[-1], oldest, self.next))

    def order(self, place: Place) -> tuple[int, int]:
        """Places of one stream, from the earliest to the latest. A history that it never had is the earliest."""
        return (self.epochs.index(place[0]) if place[0] in self.epochs else -1), place[1]


Truth = dict[str, StreamTruth]
"""Every stream, by node."""

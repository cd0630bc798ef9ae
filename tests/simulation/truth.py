"""What really happened in every stream: the oracle that a history is held against.

The simulator fills it from inside the producers' brokers. Where real processes are judged it is filled
from what publishers were told, and then knows less: not every message, and no views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.simulation.ring import Ring

from pubsubd_protocol.positions import UNTOLD

Place = tuple[str, int]
"""Epoch in hex, and next offset."""

NOWHERE: Final[Place] = (UNTOLD.epoch.hex(), UNTOLD.offset)
"""Where a reader stands that is to be told of a loss, whatever else there is."""


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
        """Of every branch: what an epoch took over from those before it, and its own."""
        self.lineages: dict[str, dict[str, int]] = {}
        """Of every epoch: the earlier ones that it continues, each up to an offset."""
        self.starts: dict[str, int] = {}
        """The first offset that was placed under an epoch itself."""
        self.capacity = capacity
        self.ring: Ring | None = None
        """What the ring has to hold; None where nobody counts."""
        self.views: set[tuple[str, int, int]] | None = None
        """`(epoch, oldest, next)` of every moment; None where nobody looked."""
        self.oldest: Place | None = None
        """The epoch that runs, and what its ring holds from."""

    @property
    def end(self) -> Place:
        """Where a reader stands that has everything."""
        return self.epochs[-1], self.next

    @property
    def next(self) -> int:
        return len(self.messages[self.epochs[-1]])

    def begin(self, epoch: str, after: Place | None = None) -> None:
        """A new epoch. `after`: it goes on with all that another one held before this place."""
        if epoch in self.messages:
            return
        self.epochs.append(epoch)
        self.messages[epoch] = {}
        self.lineages[epoch] = {}
        self.starts[epoch] = 0
        if after is not None:
            earlier, end = after
            older = self.messages[earlier]
            self.messages[epoch] = {offset: older[offset] for offset in range(end)}
            self.starts[epoch] = end
            self.lineages[epoch] = {e: min(n, end) for e, n in self.lineages[earlier].items()}
            self.lineages[epoch][earlier] = end

    def publish(self, epoch: str, offset: int, message: Published) -> None:
        self.begin(epoch)
        self.messages[epoch][offset] = message

    def held(self, oldest: int) -> None:
        """The ring holds from `oldest` on now."""
        if self.views is None:
            self.views = set()
        self.views.add((self.epochs[-1], oldest, self.next))
        self.oldest = self.epochs[-1], oldest

    def connects(self, place: Place, branch: str) -> bool:
        """Whether the history of `branch` contains everything before `place`."""
        return place[0] == branch or place[1] <= self.lineages[branch].get(place[0], -1)

    def latest(self, place: Place) -> Place:
        """The same place, under the latest epoch whose history contains it."""
        for epoch in reversed(self.epochs):
            if self.connects(place, epoch):
                return epoch, place[1]
        return place

    def age(self, epoch: str) -> int:
        """Epochs from the earliest to the latest. A history that the stream never had is the earliest."""
        return self.epochs.index(epoch) if epoch in self.epochs else -1

    def further(self, place: Place, than: Place) -> bool:
        """Whether a reader at `place` has come further than one at `than`."""
        if self.age(place[0]) < self.age(than[0]):
            # On a branch that was given up nobody comes further than on the later one.
            return self.connects(place, than[0]) and place[1] > than[1]
        return not self.connects(than, place[0]) or place[1] > than[1]


Truth = dict[str, StreamTruth]
"""Every stream, by node."""

"""The true content of every stream: the oracle that a history is compared with.

The simulator fills it from inside the producers' brokers. For real processes it is filled from the publishers'
receipts. Then it knows less: not every message, and no views.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from tests.simulation.ring import Ring

from pubsubd_protocol.positions import NO_EPOCH, UNREPORTED_LOSS

Place = tuple[str, int]
"""Epoch in hex, and next offset."""


@dataclass(frozen=True, slots=True)
class End:
    """The recovered end of an earlier history: a later epoch goes on there.

    `place`: the epoch that is continued, and up to which offset. `lost`: the places of accepted messages that are not
    part of the continued history. `proven`: whether the facts let the producer know their number.
    """

    place: Place
    lost: tuple[Place, ...] = ()
    proven: bool = True

    @property
    def may_be_told(self) -> bool:
        return bool(self.lost) or not self.proven


NOWHERE: Final[Place] = (NO_EPOCH.hex(), UNREPORTED_LOSS.offset)
"""The place of a reader that is to be told of a loss in any case."""


@dataclass(frozen=True, slots=True)
class Published:
    """A message at its place. `time_ns`: the time when it was published, or was about to be."""

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
        """Messages by branch: those that an epoch took over from earlier ones, and its own."""
        self.lineages: dict[str, dict[str, int]] = {}
        """By epoch: the earlier ones that it continues, each up to an offset."""
        self.ends: dict[str, End] = {}
        """By epoch that continues another: the place where it goes on, and the lost messages there."""
        self.starts: dict[str, int] = {}
        """The first offset that was placed under an epoch itself."""
        self.capacity = capacity
        self.ring: Ring | None = None
        """The expected content of the ring; None if it is not counted."""
        self.views: set[tuple[str, int, int]] | None = None
        """`(epoch, oldest, next)` of every moment; None if views are not recorded."""
        self.oldest: Place | None = None
        """The present epoch, and the oldest offset of its ring."""

    @property
    def end(self) -> Place:
        """The place of a reader that has everything."""
        return self.epochs[-1], self.next

    @property
    def next(self) -> int:
        return len(self.messages[self.epochs[-1]])

    def end_of(self, epoch: str) -> int:
        """The next offset under an epoch, after all that was accepted under it."""
        return len(self.messages[epoch])

    def begin(
        self,
        epoch: str,
        after: Place | None = None,
        *,
        proven: bool = True,
        forgotten: Collection[str] = (),
    ) -> None:
        """A new epoch. `after`: it continues all that another epoch held before this place. `proven`: see `End`.

        `forgotten`: lives that the producer cannot know. Their accepted messages are not told as lost.
        """
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
            self.ends[epoch] = End(after, tuple(self._not_in(epoch, earlier, forgotten)), proven)

    def _not_in(self, epoch: str, earlier: str, forgotten: Collection[str]) -> Iterator[Place]:
        """The messages accepted under `earlier`, or by lives between it and `epoch`, that are not part of `epoch`."""
        for offset in sorted(self.messages[earlier]):
            if offset >= self.starts[epoch]:
                yield earlier, offset
        between = self.epochs[self.age(earlier) + 1 : self.age(epoch)]
        for life in (life for life in between if life not in forgotten):
            for offset in sorted(self.messages[life]):
                if offset >= self.starts[life]:
                    yield life, offset

    def publish(self, epoch: str, offset: int, message: Published) -> None:
        self.begin(epoch)
        self.messages[epoch][offset] = message

    def held(self, oldest: int) -> None:
        """From now on the ring holds from `oldest` on."""
        if self.views is None:
            self.views = set()
        self.views.add((self.epochs[-1], oldest, self.next))
        self.oldest = self.epochs[-1], oldest

    def connects(self, place: Place, branch: str) -> bool:
        """Whether the history of `branch` contains everything before `place`."""
        return place[0] == branch or place[1] <= self.lineages[branch].get(place[0], -1)

    def ends_between(self, at: Place, to: Place) -> list[End]:
        """The ends that a reader passes on its way, the latest first. Both places are of one history.

        At an end there are two places: before it under the earlier epoch, behind it under the later one.
        """
        passed: list[End] = []
        epoch = max(at[0], to[0], key=self.age)
        reach = self.starts.get(epoch, 0)
        if epoch == at[0] and at[1] >= reach:
            return passed
        while epoch in self.ends and reach >= at[1]:
            end = self.ends[epoch]
            epoch, offset = end.place
            reach = min(reach, offset)
            if self._before(at, (epoch, reach)) and not self._before(to, (epoch, reach)):
                passed.append(end)
        return passed

    def loses(self, at: Place, to: Place) -> list[End]:
        """The ends at which messages were lost."""
        return [end for end in self.ends_between(at, to) if end.lost]

    def _before(self, place: Place, end: Place) -> bool:
        return place[1] < end[1] or (place[1] == end[1] and self.age(place[0]) <= self.age(end[0]))

    def named(self, place: Place) -> Place:
        """The same place as positions name it: under the earliest epoch that reaches it, without a told end between.

        A notice names the latest epoch.
        """
        epoch, offset = place
        reach = self.lineages.get(epoch, {})
        same = [earlier for earlier, end in reach.items() if self._goes_on(earlier, end, place)]
        return min(same, key=self.age, default=epoch), offset

    def _goes_on(self, earlier: str, end: int, place: Place) -> bool:
        if end != place[1]:
            return end > place[1]
        return not any(each.may_be_told for each in self.ends_between((earlier, end), place))

    def latest(self, place: Place) -> Place:
        """The same place, under the latest epoch whose history contains it, with no loss between."""
        for epoch in reversed(self.epochs):
            if self.connects(place, epoch) and not self.loses(place, (epoch, place[1])):
                return epoch, place[1]
        return place

    def age(self, epoch: str) -> int:
        """The rank of an epoch, from the earliest to the latest.

        A history that the stream never had is the earliest.
        """
        return self.epochs.index(epoch) if epoch in self.epochs else -1

    def further(self, place: Place, than: Place) -> bool:
        """Whether a reader at `place` has come further than one at `than`."""
        if self.age(place[0]) < self.age(than[0]):
            # On an abandoned branch a reader never comes further than on the later one.
            return self.connects(place, than[0]) and place[1] > than[1]
        connected = self.connects(than, place[0])
        return not connected or place[1] > than[1] or bool(self.loses(than, place))


Truth = dict[str, StreamTruth]
"""Every stream, by node."""

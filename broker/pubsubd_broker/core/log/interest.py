"""Wakes caught-up readers when an entry matches their filter.

A reader that has read all of a log is parked. Each topic is matched against the filters of all readers once, not once per
entry and reader. An entry that a parked reader does not want costs that reader nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final, Protocol

from pubsubd_broker.core.log.pattern_index import PatternIndex
from pubsubd_protocol.positions import Position
from pubsubd_protocol.topics import Filter

REMEMBERED_TOPICS: Final = 4096
"""Topics whose readers are remembered."""

MOST_PATTERNS: Final = 16_384
"""Patterns in the index. The filters of further readers are matched one by one."""

MOST_LOOKS: Final = 65_536
"""Lookups that matching one entry may cost. An entry that would cost more wakes all parked readers."""


class ParkedReader(Protocol):
    """A reader that can be parked. `told`: the reader knows of all items before this index."""

    filter: Filter
    told: int

    def remind(self) -> None:
        """Has the reader told of its position, in its turn."""

    def unpark(self, index: int, position: Position) -> None:
        """Wakes the reader for the item at `index`, which begins at `position` and may match its filter."""


class _Wanting(dict[str, tuple[ParkedReader, ...]]):
    """Readers that want a topic. Matches a missing topic at its first lookup; later lookups make no call of Python."""

    __slots__ = ("_index", "_others")

    def __init__(
        self, index: PatternIndex[ParkedReader], others: Mapping[ParkedReader, None]
    ) -> None:
        self._index = index
        self._others = others

    def __missing__(self, topic: str) -> tuple[ParkedReader, ...]:
        if len(self) >= REMEMBERED_TOPICS:
            self.clear()
        others = tuple(other for other in self._others if other.filter.matches(topic))
        wanting = self[topic] = self._index.owners(topic) + others
        return wanting


class Interest:
    """The readers of one log that were parked at least once, and those that are parked now."""

    __slots__ = (
        "_by_topic",
        "_everything",
        "_index",
        "_level",
        "_others",
        "_others_looks",
        "_selective",
        "parked",
    )

    def __init__(self) -> None:
        # Ordered, so that equal histories wake in an equal order.
        self._everything: dict[ParkedReader, None] = {}
        # With the filter by which each is known.
        self._selective: dict[ParkedReader, Filter] = {}
        self.parked: dict[ParkedReader, None] = {}
        """The readers that are parked now."""
        self._index: PatternIndex[ParkedReader] = PatternIndex()
        # The selective readers that are not in the index, and the lookups that matching them costs.
        self._others: dict[ParkedReader, None] = {}
        self._others_looks = 0
        self._by_topic = _Wanting(self._index, self._others)
        # Parked readers that got at least one item, each with the index behind its last item.
        self._level: dict[ParkedReader, int] = {}

    def has_level_reader(self, begin: int) -> bool:
        """Whether a parked reader got an item that the log still holds, from `begin` on."""
        while self._level:
            follower, taken = next(iter(self._level.items()))
            if taken > begin:
                return True
            del self._level[follower]
        return False

    def park(self, follower: ParkedReader, taken: int = 0) -> None:
        """Parks `follower`: it has read all items. `taken`: the index behind the last item that it got."""
        if taken:
            self._level[follower] = taken
        if follower not in self._selective and follower not in self._everything:
            self._follow(follower)
        self.parked[follower] = None

    def unpark(self, follower: ParkedReader) -> None:
        """Lets `follower` go on: it reads again for a reason of its own."""
        self.parked.pop(follower, None)
        self._level.pop(follower, None)

    def leave(self, follower: ParkedReader) -> None:
        """Forgets `follower`: it is gone, or gets another filter."""
        self.unpark(follower)
        self._everything.pop(follower, None)
        known_by = self._selective.pop(follower, None)
        if known_by is not None:
            if follower in self._others:
                del self._others[follower]
                self._others_looks -= known_by.looks
            else:
                self._index.remove(follower, known_by.patterns)
            self._by_topic.clear()

    def wake(self, topics: str, index: int, position: Position) -> None:
        """Wakes the parked readers that may want a new entry. `topics`: the entry's, joined by line ends."""
        wanting: Iterable[ParkedReader] = self._everything
        if self._selective:
            # Asked for every entry, so the cheap half of the question is not in the method.
            looks = self._index.looks + self._others_looks
            if (topics.count("\n") + 1) * looks > MOST_LOOKS and self._are_many_new(topics, looks):
                self.wake_all(index, position)
                return
            by_topic = map(self._by_topic.__getitem__, topics.split("\n"))
            wanting = chain(self._everything, chain.from_iterable(by_topic))
        self._wake(wanting, index, position)

    def wake_all(self, index: int, position: Position) -> None:
        """Wakes all parked readers: an item for all of them has come."""
        self._wake(list(self.parked), index, position)

    def remind(self, index: int) -> None:
        """Has parked readers told of their position if they do not know of all items before `index`."""
        for follower in list(self.parked):
            if follower.told < index:
                follower.remind()

    def _follow(self, follower: ParkedReader) -> None:
        wanted = follower.filter
        if wanted.everything:
            self._everything[follower] = None
            return
        self._selective[follower] = wanted
        if self._index.patterns + len(wanted.patterns) <= MOST_PATTERNS:
            self._index.add(follower, wanted.patterns)
        else:
            self._others[follower] = None
            self._others_looks += wanted.looks
        self._by_topic.clear()

    def _are_many_new(self, topics: str, looks: int) -> bool:
        """Whether matching the topics that are not remembered costs more than waking all readers."""
        return len(set(topics.split("\n")) - self._by_topic.keys()) * looks > MOST_LOOKS

    def _wake(self, followers: Iterable[ParkedReader], index: int, position: Position) -> None:
        """Wakes those of `followers` that are parked. Stops when no parked reader is left."""
        for follower in followers:
            if follower in self.parked:
                del self.parked[follower]
                self._level.pop(follower, None)
                follower.unpark(index, position)
                if not self.parked:
                    return

"""Who is woken by what: readers that have read all that a log holds rest, until something comes that they want.

A topic is matched against the filters of all readers once, not once per entry and reader. Whoever rests is not
touched by what it does not want; it stands at the log's end all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from pubsubd_broker.core.log.pattern_index import PatternIndex
from pubsubd_protocol.positions import Position
from pubsubd_protocol.topics import Filter

REMEMBERED_TOPICS: Final = 4096
"""Topics of which it is remembered who wants them."""

MOST_PATTERNS: Final = 16_384
"""Patterns that are kept together, by where their wildcards stand; readers that have more are asked one by one."""

MOST_LOOKS: Final = 65_536
"""What finding out who is woken by one entry may cost; one that would cost more wakes everybody."""


class Follower(Protocol):
    """A reader that can rest. `told`: no item before this index is news to it."""

    filter: Filter
    told: int

    def remind(self) -> None:
        """It is to be told how far it has come, in its turn."""

    def rouse(self, index: int, position: Position) -> None:
        """Something comes at `index` that it may want; `position` is where that begins."""


class _Wanting(dict[str, tuple[Follower, ...]]):
    """Who wants a topic; finds it out for what is missing. Looking up costs no call of Python."""

    __slots__ = ("_index", "_others")

    def __init__(self, index: PatternIndex[Follower], others: Mapping[Follower, None]) -> None:
        self._index = index
        self._others = others

    def __missing__(self, topic: str) -> tuple[Follower, ...]:
        if len(self) >= REMEMBERED_TOPICS:
            self.clear()
        others = tuple(other for other in self._others if other.filter.matches(topic))
        wanting = self[topic] = self._index.owners(topic) + others
        return wanting


class Interest:
    """The readers of one log that have ever rested, and those of them that rest now."""

    __slots__ = (
        "_by_topic",
        "_everything",
        "_index",
        "_level",
        "_others",
        "_others_looks",
        "_resting",
        "_selective",
    )

    def __init__(self) -> None:
        # Ordered, so that equal histories wake in an equal order.
        self._everything: dict[Follower, None] = {}
        # With the filter by which each is known.
        self._selective: dict[Follower, Filter] = {}
        self._resting: dict[Follower, None] = {}
        self._index: PatternIndex[Follower] = PatternIndex()
        # Those of the selective ones that are not in the index, and what asking them costs.
        self._others: dict[Follower, None] = {}
        self._others_looks = 0
        self._by_topic = _Wanting(self._index, self._others)
        # Of those that rest and were ever given something: the index behind the last item of that.
        self._level: dict[Follower, int] = {}

    def somebody_is_level(self, begin: int) -> bool:
        """Whether one that rests was given something that is still held, from `begin` on: who wants nothing does not count."""
        while self._level:
            follower, taken = next(iter(self._level.items()))
            if taken > begin:
                return True
            del self._level[follower]
        return False

    def rest(self, follower: Follower, taken: int = 0) -> None:
        """It has read everything. `taken`: the index behind the last item of which it was given something."""
        if taken:
            self._level[follower] = taken
        if follower not in self._selective and follower not in self._everything:
            self._follow(follower)
        self._resting[follower] = None

    def rise(self, follower: Follower) -> None:
        """It reads again, for a reason of its own."""
        self._resting.pop(follower, None)
        self._level.pop(follower, None)

    def leave(self, follower: Follower) -> None:
        """It is gone, or wants something else from now on."""
        self.rise(follower)
        self._everything.pop(follower, None)
        known_by = self._selective.pop(follower, None)
        if known_by is not None:
            if follower in self._others:
                del self._others[follower]
                self._others_looks -= known_by.looks
            else:
                self._index.remove(follower, known_by.patterns)
            self._by_topic.clear()

    def rouse(self, topics: str, index: int, position: Position) -> None:
        """An entry of these (joined) topics has come: wakes whoever rests and may want it."""
        if not self._resting:
            return
        for follower in self._everything:
            self._wake(follower, index, position)
        if self._selective:
            # Not by a method alone: this is asked for every entry.
            looks = self._index.looks + self._others_looks
            if (topics.count("\n") + 1) * looks > MOST_LOOKS and self._are_many_new(topics, looks):
                self.rouse_all(index, position)
                return
            for wanting in map(self._by_topic.__getitem__, topics.split("\n")):
                for follower in wanting:
                    self._wake(follower, index, position)
                if not self._resting:
                    return

    def rouse_all(self, index: int, position: Position) -> None:
        """Something has come that concerns everybody."""
        for follower in list(self._resting):
            self._wake(follower, index, position)

    def remind(self, index: int) -> None:
        """Has those told how far they have come that rest, and know of less than all before `index`."""
        for follower in list(self._resting):
            if follower.told < index:
                follower.remind()

    def _follow(self, follower: Follower) -> None:
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
        """Whether finding out who wants those that are not remembered costs more than having everybody look."""
        return len(set(topics.split("\n")) - self._by_topic.keys()) * looks > MOST_LOOKS

    def _wake(self, follower: Follower, index: int, position: Position) -> None:
        if follower in self._resting:
            self.rise(follower)
            follower.rouse(index, position)

"""Walks through a reader's history: its places, and the messages that are for it there."""

from __future__ import annotations

from tests.simulation.history import (
    Event,
    Filtered,
    Forgotten,
    Got,
    History,
    Kept,
    Lost,
    Moved,
    Opened,
    Stands,
)
from tests.simulation.truth import NOWHERE, Place, Truth


class Walk:
    """`at`: the reader's place, by node. Every event is shown to a checker first, then taken."""

    def __init__(self, history: History, truth: Truth) -> None:
        self.history = history
        self.truth = truth
        self.at: dict[str, Place] = {}
        self.born_ns = 0
        """The time when its first life began, or the life that only producers could know."""
        self.remembered: dict[str, Place] = {}
        self.stood_before: dict[str, Place] = {}
        """The places of its name in earlier lives, in the memory of any node."""
        self.strictly: frozenset[str] | set[str] = frozenset()
        """The nodes of these places that it cannot have passed meanwhile: its broker has its name, and not that
        place.
        """
        self.told: set[str] = set()
        """Streams in which it was told of a loss since only producers could know its name."""
        self.surely = True
        self.known = True
        """Whether its broker knows its place in its own node's stream, by itself or from the application."""
        self.third: dict[str, dict[str, tuple[Place, str]]] = {}
        """The places of its name that third nodes remember, by stream."""
        self._stood: dict[str, Place] = {}
        self.left: dict[str, set[Place]] = {}
        """Places that its name reached in earlier histories, and left for a later one. A producer may remember them."""
        self._somewhere: dict[str, Place] = {}
        """The last places, without the lives that began without a place."""
        self._told: dict[str, str] = {}
        """By stream in which it lost messages: the continued history, as it was told last."""
        self._changes: list[Filtered] = [Filtered({}, history.wants)]

    def begins(self, opened: Opened) -> None:
        """Set the rules that count from this life on; its places are taken one by one."""
        self.third = opened.third
        self.known = opened.kept in (Kept.NOTHING, Kept.BROKER, Kept.STORED)
        if opened.kept in (Kept.NOTHING, Kept.PRODUCERS, Kept.FORGOTTEN):
            self.surely = opened.surely and opened.kept is not Kept.FORGOTTEN
            # Producers that have not heard that a name was dropped may bring it back where they remember it.
            maybe = {} if self.surely else self._stood
            self.remembered = {**maybe, **opened.remembered}
            self.stood_before = {} if opened.kept is Kept.NOTHING else dict(self._stood)
            if opened.kept is Kept.NOTHING:
                self.left.clear()
            self.at = {}
            self.strictly = frozenset()
            self.told.clear()
            self.born_ns = opened.time_ns
        else:
            # A producer may remember what its broker does not know.
            stood = self._stood
            self.strictly = opened.unknown & stood.keys()
            self.stood_before |= {node: stood[node] for node in self.strictly}
        for node in opened.unknown:
            self.at.pop(node, None)
        if opened.wants is not None:
            begins = Filtered(opened.places, opened.wants)
            # Before the places where a session goes on, its last life's filter has judged.
            goes_on = opened.kept in (Kept.BROKER, Kept.STORED)
            self._changes = [*self._changes, begins] if goes_on else [Filtered({}, opened.wants)]

    def take(self, event: Event) -> None:
        match event:
            case Opened(places=places):
                self.begins(event)
                self.at.update(places)
            case Forgotten(knows, third):
                self.known = self.known and knows
                self.third = {**self.third, **third}
            case Filtered():
                self._changes.append(event)
            case Lost(node, place=place):
                if node in self.at:
                    self.left.setdefault(node, set()).add(self.at[node])
                # A life that it was told of, without reading any of it, may be lost without a loss to the reader.
                self.at[node], self._told[node] = self.truth[node].named(place), place[0]
                self.told.add(node)
            case Stands(node, place) | Moved(node, place):
                self.at[node] = place
            case Got(node, epoch, offset):
                self.at[node] = (epoch, offset + 1)
        self._stood.update(self.at)
        self._somewhere.update({n: place for n, place in self.at.items() if place != NOWHERE})

    def stood(self, node: str) -> Place | None:
        """The reader's place, under the latest name of its history that it was told: an older name may have come
        since.

        A life that began without a place and ended untold has moved nothing: the place before it counts.
        """
        at, told = self.at.get(node), self._told.get(node)
        if at == NOWHERE:
            at = self._somewhere.get(node, at)
        if at is None or told is None:
            return at
        stream = self.truth[node]
        later = stream.age(told) > stream.age(at[0]) and stream.connects(at, told)
        return (told, at[1]) if later and not stream.loses(at, (told, at[1])) else at

    def wanted(self, node: str, branch: str, begin: int, end: int) -> list[int]:
        """The offsets in `begin..end` of `branch` whose messages are for the reader."""
        stream = self.truth[node]
        messages = stream.messages.get(branch, {})
        if end - begin > len(messages):
            offsets = sorted(offset for offset in messages if begin <= offset < end)
        else:
            offsets = [offset for offset in range(begin, end) if offset in messages]
        return [o for o in offsets if self.wants(node, (branch, o))]

    def wants(self, node: str, place: Place) -> bool:
        """Whether the message at `place` is for the reader, by its filter when it stood there."""
        stream = self.truth[node]
        message = stream.messages[place[0]][place[1]]
        for change in reversed(self._changes):
            since = change.places.get(node)
            if since is None or not stream.further(since, place):
                return change.wants(message)
        raise AssertionError("the first filter counts from everywhere")

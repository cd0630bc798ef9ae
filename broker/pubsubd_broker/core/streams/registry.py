"""The cursor registry: the acknowledged cursor of each consumer node, and the places of its named sessions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_PLACES
from pubsubd_protocol.positions import Position


class Registered:
    """The cursor of a consumer node, and the places of its named sessions, kept here for that node's next life.

    `named`: places in this node's stream. `elsewhere`: places in other streams, by name and stream, oldest news first.
    """

    __slots__ = ("connected", "cursor", "elsewhere", "named", "seen_ns")

    def __init__(self, cursor: Position, now_ns: int) -> None:
        self.cursor = cursor
        self.named: dict[str, Position] = {}
        self.elsewhere: dict[tuple[str, str], Position] = {}
        self.connected = False
        self.seen_ns = now_ns

    @property
    def places(self) -> dict[str, dict[str, Position]]:
        """Places in the streams of other nodes, by name and stream."""
        places: dict[str, dict[str, Position]] = {}
        for (name, stream), place in self.elsewhere.items():
            places.setdefault(name, {})[stream] = place
        return places

    def move_elsewhere(
        self,
        named: Mapping[str, Position | None],
        elsewhere: Mapping[str, Mapping[str, Position]],
    ) -> None:
        """Takes news of places in other streams. Drops those of names that are gone, and the oldest beyond `MAX_PLACES`."""
        kept = self.elsewhere
        if any(place is None and name not in elsewhere for name, place in named.items()):
            gone = {name for name, place in named.items() if place is None} - elsewhere.keys()
            kept = {key: place for key, place in kept.items() if key[0] not in gone}
        for name, positions in elsewhere.items():
            for stream, place in positions.items():
                kept.pop((name, stream), None)
                kept[name, stream] = place
        for key in list(kept)[: max(0, len(kept) - MAX_PLACES)]:
            del kept[key]
        self.elsewhere = kept

    def away_longer(self, ttl_ns: int, now_ns: int) -> bool:
        return not self.connected and now_ns - self.seen_ns > ttl_ns


class CursorRegistry:
    """Cursors of at most `limit` consumers. Only acknowledgements move a cursor, and never backwards."""

    __slots__ = ("_consumers", "given_up", "limit", "moved", "removed")

    def __init__(self, limit: int) -> None:
        self._consumers: dict[str, Registered] = {}
        self.limit = limit
        self.removed = 0
        self.given_up = 0
        """The number of removed cursors that made room for another consumer."""
        self.moved: dict[str, None] | None = None
        """Consumers that acknowledged or were dropped since the keeper looked last; None: no keeper looks."""

    def __len__(self) -> int:
        return len(self._consumers)

    def __contains__(self, consumer: str) -> bool:
        return consumer in self._consumers

    def get(self, consumer: str) -> Registered | None:
        return self._consumers.get(consumer)

    def items(self) -> list[tuple[str, Registered]]:
        return sorted(self._consumers.items())

    def admits(
        self, consumer: str, linked: Collection[str], oldest: int, ttl_ns: int, now_ns: int
    ) -> bool:
        """Whether the registry has or can make room for this consumer, beside those that are `linked`."""
        return self._has_room(consumer, linked) or (
            self._least(linked, oldest, ttl_ns, now_ns) is not None
        )

    def make_room(
        self, consumer: str, linked: Collection[str], oldest: int, ttl_ns: int, now_ns: int
    ) -> str | None:
        """Drops the least important cursor if `consumer` finds no room otherwise. Returns the name of the dropped consumer."""
        if self._has_room(consumer, linked):
            return None
        least = self._least(linked, oldest, ttl_ns, now_ns)
        if least is not None:
            self.drop(least)
            self.given_up += 1
        return least

    def _has_room(self, consumer: str, linked: Collection[str]) -> bool:
        known = self._consumers.keys() | linked
        return consumer in known or len(known) < self.limit

    def _least(self, linked: Collection[str], oldest: int, ttl_ns: int, now_ns: int) -> str | None:
        """The consumer whose cursor may be given up for another one: first an expired one, then the one away for longest.

        A consumer without memory and without a cursor loses no message in silence: its sessions get the stream from 0, or
        are told `unseen`. A named session would count as new, and lose messages in silence. Consumers with named sessions
        are thus given up last, and not within the time-to-live. Cost: one look at each consumer.
        """
        away = (
            (r.cursor.offset >= oldest, bool(r.named), r.seen_ns, consumer)
            for consumer, r in self._consumers.items()
            if consumer not in linked
            and not r.connected
            and (not r.named or r.away_longer(ttl_ns, now_ns))
        )
        return min(away, default=(None,))[-1]

    def acknowledge(
        self,
        consumer: str,
        position: Position,
        named: Mapping[str, Position | None],
        now_ns: int,
        elsewhere: Mapping[str, Mapping[str, Position]] | None = None,
    ) -> None:
        """Notes that `consumer` needs no message before `position`. `named`, `elsewhere`: the moves of its named sessions.

        Raises `ProtocolError` for too many names, and then changes nothing.
        """
        registered = self._consumers.get(consumer)
        kept = _moved(registered.named if registered is not None else {}, named, consumer)
        if registered is None:
            registered = self._consumers[consumer] = Registered(position, now_ns)
            registered.connected = True
        registered.named = kept
        registered.move_elsewhere(named, elsewhere or {})
        # An attach at a lower position may read again; the acknowledged cursor stays.
        if position.offset >= registered.cursor.offset:
            registered.cursor = position
        registered.seen_ns = now_ns
        if self.moved is not None:
            self.moved[consumer] = None

    def restore(
        self, consumer: str, cursor: Position, named: dict[str, Position], now_ns: int
    ) -> None:
        """Begins with a cursor that an earlier life of this node kept."""
        registered = self._consumers[consumer] = Registered(cursor, now_ns)
        registered.named = named

    def connected(self, consumer: str, connected: bool, now_ns: int) -> None:
        registered = self._consumers.get(consumer)
        if registered is not None:
            registered.connected = connected
            registered.seen_ns = now_ns

    def drop(self, consumer: str) -> bool:
        """Forgets a consumer. Changes no answer to one that presents its position."""
        if self._consumers.pop(consumer, None) is None:
            return False
        self.removed += 1
        if self.moved is not None:
            self.moved[consumer] = None
        return True

    def expire(self, oldest: int, ttl_ns: int, now_ns: int) -> list[str]:
        """Drops expired cursors of consumers that are away for longer than the time-to-live. Returns their names."""
        gone = [
            consumer
            for consumer, r in self._consumers.items()
            if r.cursor.offset < oldest and r.away_longer(ttl_ns, now_ns)
        ]
        for consumer in gone:
            self.drop(consumer)
        return gone


def _moved(
    kept: Mapping[str, Position], moves: Mapping[str, Position | None], consumer: str
) -> dict[str, Position]:
    """`kept` after `moves`. None in a move: the name is gone. Raises `ProtocolError` for more names than are allowed."""
    moved = {name: place for name, place in kept.items() if name not in moves}
    moved.update((name, place) for name, place in moves.items() if place is not None)
    if len(moved) > MAX_NAMED_SESSIONS:
        raise ProtocolError(
            "named_sessions",
            f"{len(moved)} named sessions of {consumer}, allowed are {MAX_NAMED_SESSIONS}",
        )
    return moved

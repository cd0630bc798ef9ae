"""Remembered names: the places of this node's named sessions, as far as one producer remembers them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from pubsubd_broker.core.limits import PLACES_NS, Now
from pubsubd_broker.core.sessions.source import Source
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_PLACES
from pubsubd_protocol.positions import Position


class NamedSessions(Protocol):
    """The named sessions of this node."""

    def all_named(self) -> Collection[tuple[str, object]]:
        """All of them, by name."""

    def named_cursors(self, source: Source) -> tuple[Collection[str], dict[str, Position]]:
        """All names, and the place up to which each session has acknowledged this stream."""


class RememberedNames:
    """Remembers what `producer` was told, so that each acknowledgement tells it no more than the changes."""

    __slots__ = (
        "_due_ns",
        "_elsewhere",
        "_moved",
        "_named",
        "_own",
        "_producer",
        "_replicas",
        "_sessions",
    )

    def __init__(
        self,
        producer: str,
        sessions: NamedSessions,
        own: Source | None,
        replicas: Mapping[str, Source],
    ) -> None:
        """`own`: this node's stream, if its next life asks its peers for that; else None."""
        self._producer = producer
        self._sessions = sessions
        self._own = own
        self._replicas = replicas
        self._named: dict[str, Position] = {}
        self._elsewhere: dict[str, dict[str, Position]] = {}
        # Whether named sessions moved in other streams since these were told, and when they may be told again.
        self._moved = False
        self._due_ns = 0

    def begin(self, named: Mapping[str, Position]) -> None:
        """The producer has answered the attach: it remembers `named`, and has to hear of all other streams."""
        self._named = dict(named)
        self._moved = True

    def moved(self) -> None:
        """A named session moved in some stream: the producer is to know, in its time."""
        self._moved = True

    def hurry(self) -> None:
        """All that has moved is due now: this node is about to go."""
        self._due_ns = 0

    def due(self, now: Now) -> bool:
        """Whether places in other streams are to be told now."""
        return self._moved and now.mono_ns >= self._due_ns

    def moves(self, source: Source) -> dict[str, Position | None]:
        """Places in `source`, the producer's stream, that the producer lacks, as many as one frame takes.

        Those that are gone come first: it keeps no more than there can be at once.
        """
        told = self._named
        names, stand = self._sessions.named_cursors(source)
        moves: dict[str, Position | None] = {n: None for n in told if n not in names}
        moves.update((n, c) for n, c in stand.items() if told.get(n) != c)
        for name, cursor in list(moves.items())[:MAX_NAMED_SESSIONS]:
            if cursor is None:
                del told[name]
            else:
                told[name] = cursor
        return dict(list(moves.items())[:MAX_NAMED_SESSIONS])

    def moves_elsewhere(
        self, moves: dict[str, Position | None], now: Now
    ) -> dict[str, dict[str, Position]]:
        """Places in other streams than the producer's that the producer lacks. Names that are gone are added to `moves`.

        Those in this node's own stream go at once, as no other node remembers them; but only if a next life asks for it: without
        its stream it could not go on at these places. Those in third streams go now and then: their producers know them exactly.
        """
        told, elsewhere = self._elsewhere, dict[str, dict[str, Position]]()
        sources: list[Source] = [self._own] if self._own is not None else []
        if self.due(now):
            self._moved = False
            self._due_ns = now.mono_ns + PLACES_NS
            sources += (r for name, r in self._replicas.items() if name != self._producer)
            self._forget_gone(moves)
        room = MAX_PLACES - sum(map(len, told.values()))
        for source in sources:
            known = told.setdefault(source.node, {})
            for name, place in self._sessions.named_cursors(source)[1].items():
                if known.get(name) == place or (name not in known and room <= 0):
                    continue
                room -= name not in known
                known[name] = place
                elsewhere.setdefault(name, {})[source.node] = place
        return elsewhere

    def _forget_gone(self, moves: dict[str, Position | None]) -> None:
        """Forgets names and streams that are gone; the names are added to `moves`."""
        told, own = self._elsewhere, self._own.node if self._own is not None else None
        names = {name for name, _ in self._sessions.all_named()}
        for stream, known in list(told.items()):
            moves.update(dict.fromkeys(known.keys() - names))
            told[stream] = {name: place for name, place in known.items() if name in names}
            if stream not in self._replicas and stream != own:
                del told[stream]

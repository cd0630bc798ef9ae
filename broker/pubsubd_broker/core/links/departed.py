"""Departed producers: away, and another node answers at their address. Their replicas make room for others. Pure.

A recreated container is a new producer each time. Without this rule its old names would fill the table of producers for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.links.health import ProducerHealth
from pubsubd_broker.core.streams.replica import Replica


class Departed(NamedTuple):
    """A departed producer. `needed`: some session has not read all that the replica holds."""

    producer: str
    needed: bool
    lost_ns: int


def least_needed(departed: Iterable[Departed], ttl_ns: int, now_ns: int) -> Departed | None:
    """The one whose replica means least: one that no session needs, then the one that is away for longest.

    Giving up a replica that no session needs loses nothing: every session keeps its place in the stream. One that is
    needed stays for the time-to-live.
    """
    may_go = (each for each in departed if not each.needed or now_ns - each.lost_ns > ttl_ns)
    return min(may_go, key=lambda each: (each.needed, each.lost_ns, each.producer), default=None)


class Readers(Protocol):
    """The sessions of the node."""

    def need(self, replica: Replica) -> bool:
        """Whether some session has not read all that `replica` holds, or its application does not know so."""

    def let_go(self, replica: Replica) -> None:
        """Every session that needs nothing of `replica` keeps its place in that stream, and nothing else."""


class Departures:
    """Makes room among `replicas`, of which there are at most `limit` together with those that `links` are about to make."""

    __slots__ = (
        "_health",
        "_links",
        "_readers",
        "_replicas",
        "_targets",
        "_ttl_ns",
        "_unread",
        "given_up",
        "limit",
    )

    def __init__(
        self,
        replicas: dict[str, Replica],
        links: Mapping[str, object],
        targets: Iterable[Target],
        readers: Readers,
        health: ProducerHealth,
        *,
        limit: int,
        ttl_ns: int,
    ) -> None:
        self._replicas = replicas
        self._links = links
        self._targets = targets
        self._readers = readers
        self._health = health
        self.limit = limit
        self._ttl_ns = ttl_ns
        self.given_up = 0
        """Number of replicas that have made room for another one."""
        # Given up while sessions needed them, and not read by all of those yet.
        self._unread: list[Replica] = []

    def has_room(self, producer: str) -> bool:
        known = self._replicas.keys() | self._links.keys()
        return producer in known or len(known) < self.limit

    def make_room(self, producer: str, now_ns: int) -> Departed | None:
        """Gives up the replica that means least, if `producer` would find no room without that, and returns whose it was."""
        if self.has_room(producer):
            return None
        departed = (
            Departed(name, self._readers.need(self._replicas[name]), lost_ns)
            for name, lost_ns in self._away()
        )
        least = least_needed(departed, self._ttl_ns, now_ns)
        if least is not None:
            self.given_up += 1
            self._give_up(least.producer)
        return least

    def expire(self, now_ns: int) -> list[str]:
        """Gives up the replicas that no session needs and whose producers departed longer ago than the time-to-live."""
        for replica in self._unread:
            self._readers.let_go(replica)
        self._unread = [replica for replica in self._unread if self._readers.need(replica)]
        gone = [
            producer
            for producer, lost_ns in self._away()
            if now_ns - lost_ns > self._ttl_ns and not self._readers.need(self._replicas[producer])
        ]
        for producer in gone:
            self._give_up(producer)
        return gone

    def _away(self) -> Iterator[tuple[str, int]]:
        """The departed producers, and since when each is lost."""
        led_to = {target.node for target in self._targets}
        for producer in self._replicas:
            lost_ns = self._health.lost_ns(producer)
            if lost_ns is not None and producer not in self._links and producer not in led_to:
                yield producer, lost_ns

    def _give_up(self, producer: str) -> None:
        replica = self._replicas.pop(producer)
        self._health.forget(producer)
        self._readers.let_go(replica)
        if self._readers.need(replica):
            replica.give_up()
            self._unread.append(replica)

"""Room for one more peer at a bound, made by giving up the one that means least; it is logged."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pubsubd_broker.core.links.departed import Departures
from pubsubd_broker.core.observe.counters import Counters
from pubsubd_broker.core.observe.notices import Notices
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_protocol.errors import ConnectionRefused


class RoomForConsumers:
    """In the cursor registry. `linked`: the consumers that are connected. `oldest`: the first offset that the ring holds now."""

    __slots__ = ("_linked", "_notices", "_oldest", "_registry", "_ttl_ns")

    def __init__(
        self,
        registry: CursorRegistry,
        linked: Collection[str],
        oldest: Callable[[], int],
        ttl_ns: int,
        notices: Notices,
    ) -> None:
        self._registry = registry
        self._linked = linked
        self._oldest = oldest
        self._ttl_ns = ttl_ns
        self._notices = notices

    def check(self, consumer: str, now_ns: int) -> None:
        """Raises `ConnectionRefused` if there are as many others as there may be, and none is given up for this one."""
        crowd = self._linked, self._oldest(), self._ttl_ns, now_ns
        if not self._registry.admits(consumer, *crowd):
            raise ConnectionRefused(
                "too_many_consumers",
                f"{self._registry.limit} consumers are registered, that is the limit, and none can be given up: they are "
                "connected, or keep named subscriptions and were here within --cursor-ttl. Raise --max-consumers, or "
                "drop one with pubsubd cursors drop",
            )

    def make(self, consumer: str, now_ns: int) -> None:
        """Gives up another consumer's cursor if that is needed. Raises `ConnectionRefused` likewise."""
        self.check(consumer, now_ns)
        given_up = self._registry.make_room(
            consumer, self._linked, self._oldest(), self._ttl_ns, now_ns
        )
        if given_up is not None:
            self._notices.warning(
                "cursor.given_up",
                consumer=given_up,
                for_consumer=consumer,
                limit=self._registry.limit,
            )


class RoomForProducers:
    """Among the streams that this node knows."""

    __slots__ = ("_counters", "_departures", "_notices")

    def __init__(self, departures: Departures, counters: Counters, notices: Notices) -> None:
        self._departures = departures
        self._counters = counters
        self._notices = notices

    def expire(self, now_ns: int) -> None:
        """Gives up the streams whose producers departed longer ago than the time-to-live."""
        for producer in self._departures.expire(now_ns):
            self._counters.forget(producer)
            self._notices.info("producer.removed", producer=producer)

    def make(self, producer: str, now_ns: int) -> None:
        """Raises `ConnectionRefused` if as many streams are known as there may be, and none can be given up for this one."""
        most = self._departures.limit
        given_up = self._departures.make_room(producer, now_ns)
        if given_up is not None:
            self._counters.forget(given_up.producer)
            self._notices.warning(
                "producer.given_up",
                producer=given_up.producer,
                for_producer=producer,
                limit=most,
                needed=given_up.needed,
            )
        elif not self._departures.has_room(producer):
            raise ConnectionRefused(
                "too_many_producers",
                f"{most} streams are known already, that is the limit, and none can be given up: their nodes are the last "
                "that answered at a --peer, or subscriptions have not read all of them and they were here within "
                "--cursor-ttl. Raise --max-producers",
            )

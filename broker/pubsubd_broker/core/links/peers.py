"""Table of peers: the replica of each, the links to producers and from consumers, and the health of producers."""

from __future__ import annotations

from typing import Protocol

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.departed import Departures
from pubsubd_broker.core.links.dial_targets import DialTargets
from pubsubd_broker.core.links.health import ProducerHealth
from pubsubd_broker.core.links.naming import BrokerIdentity, conflict
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_broker.core.links.room import RoomForConsumers, RoomForProducers
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.streams.lag import LagWarning
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import At, Claim, Expired, Verdict
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.frames import Attached, CursorExpired
from pubsubd_protocol.positions import Position, StreamView


class PeerObserver(Protocol):
    """Hears of attaches and expiries, in the moment they happen."""

    def consumer_attached(
        self, claim: Claim, registered: Position | None, answer: Verdict
    ) -> None: ...

    def consumer_overrun(self, expired: Expired) -> None: ...

    def registration_expired(self, producer: str, view: StreamView) -> None: ...

    def producer_met(self, producer: str) -> None: ...


class Peers:
    """The peers of one node. A producer's replica stays when its link is lost; a consumer's cursor stays in the registry."""

    def __init__(
        self,
        me: BrokerIdentity,
        *,
        most_producers: int,
        replica_limits: tuple[int, int],
        ttl_ns: int,
        replicas: dict[str, Replica],
        producers: dict[str, ConsumerEnd],
        targets: DialTargets,
        stream: Stream,
        registry: CursorRegistry,
        sessions: Sessions,
        pace: Pace,
        events: Events,
        observer: PeerObserver | None,
        started_ns: int,
    ) -> None:
        """`stream`: this node's own, and `registry` the cursors of consumers in it.

        `replica_limits`: the most messages and bytes of a replica. `ttl_ns`: the time for which an absent peer is kept.
        """
        self.replicas = replicas
        self.producers = producers
        """The link to each producer, from the greeting on."""
        self.consumers: dict[str, ProducerEnd] = {}
        """The link of each consumer, from its attach on."""
        self.health = ProducerHealth(started_ns)
        self.departures = Departures(
            *(replicas, producers, targets, sessions, self.health),
            limit=most_producers,
            ttl_ns=ttl_ns,
        )
        self._room_for_producers = RoomForProducers(
            self.departures, events.counters, events.notices
        )
        self._room_for_consumers = RoomForConsumers(
            registry, self.consumers.keys(), self._oldest, ttl_ns, events.notices
        )
        self._me = me
        self._replica_limits = replica_limits
        self._ttl_ns = ttl_ns
        self._stream = stream
        self._registry = registry
        self._sessions = sessions
        self._pace = pace
        self._events = events
        self._observer = observer
        self._now_ns = started_ns
        self._lag_warning = LagWarning()

    def knows(self, node: str) -> bool:
        """Whether `node` is this one, or this life has met it."""
        met = self.replicas, self._registry, self.consumers
        return node == self._me.node or any(node in each for each in met)

    @property
    def drained(self) -> bool:
        """Whether every connected consumer has acknowledged all that was accepted."""
        return all(end.drained for end in self.consumers.values())

    def tick(self, now: Now) -> None:
        """Lets the links to producers acknowledge what is due."""
        for end in list(self.producers.values()):
            end.tick(now)

    def expire(self, now: Now) -> None:
        """Drops the cursors and the replicas of peers that have been away for too long."""
        self._now_ns = now.mono_ns
        for consumer in self._registry.expire(self._oldest(), self._ttl_ns, now.mono_ns):
            self._events.notices.info("cursor.removed", consumer=consumer)
        self._room_for_producers.expire(now.mono_ns)

    def warn_of_lag(self, now: Now) -> None:
        """Logs the consumer that is about to be overrun, if any is."""
        warning = self._lag_warning.check(self._stream.log, self._registry, now.mono_ns)
        if warning is not None:
            self._events.notices.warning("ring.capacity_warning", **warning)

    def acknowledge(self, now: Now) -> None:
        """Tells every producer all that is acknowledged: this node is about to go."""
        for end in list(self.producers.values()):
            end.acknowledge(now)

    # Producers: peers whose streams this node pulls.

    def clash_with_producer(self, name: str, epoch: bytes) -> tuple[str, str] | None:
        """The refusal of a producer that calls itself `name`, if it is not welcome."""
        link = self.producers.get(name)
        live = [link.epoch] if link is not None else []
        return conflict(name, epoch, self._me.node, self._me.epoch, live)

    def make_room_for_producer(self, producer: str, now_ns: int) -> None:
        """Raises `ConnectionRefused` if as many streams are known as there may be."""
        self._room_for_producers.make(producer, now_ns)

    def claim_of(self, producer: str) -> Claim:
        """The claim that this node presents to `producer`."""
        replica = self.replicas.get(producer)
        if replica is not None:
            return At(replica.registration)
        return self._sessions.lowest_need(producer)

    def producer_attached(self, end: ConsumerEnd, attached: Attached, answer: Verdict) -> Replica:
        """A producer has answered the attach. `answer`: its verdict with figures."""
        producer = end.producer
        replica = self.replicas.get(producer)
        first = replica is None
        if replica is None:
            limits, reader = self._replica_limits, self._me.node
            replica = Replica(producer, reader, attached, answer, *limits, self._pace)
            self.replicas[producer] = replica
            self._sessions.first_contact(replica, attached)
        else:
            if isinstance(answer, Expired):
                self._registration_expired(producer, answer, attached.view)
            replica.attached(attached)
        end.target.attached(producer)
        replica.fetcher = end.fetch
        self.health.heard(producer)
        self._sessions.health_changed()
        position = replica.registration
        self._events.notices.info(
            "peer.attached", peer=producer, offset=position.offset, epoch=position.epoch.hex()
        )
        if first and self._observer is not None:
            self._observer.producer_met(producer)
        return replica

    def registration_expired(self, producer: str, expired: CursorExpired) -> None:
        """A producer has told this node, on a live link, that its ring went past."""
        view = expired.view
        answer = Expired(expired.reason, view.next, expired.missed)
        self._registration_expired(producer, answer, view)

    def producer_lost(self, end: ConsumerEnd, now: Now) -> None:
        """The link to a producer is gone."""
        if self.producers.get(end.producer) is end:
            del self.producers[end.producer]
        if end.replica is not None:
            end.replica.fetcher = None
            self._sessions.link_lost(end.producer)
            self.health.lost(end.producer, now.mono_ns)
            self._sessions.health_changed()
            self._events.notices.warning(
                "peer.lost", peer=end.producer, offset=end.replica.registration.offset
            )

    def _oldest(self) -> int:
        return self._stream.view.oldest

    def _registration_expired(self, producer: str, answer: Expired, view: StreamView) -> None:
        if self._observer is not None:
            self._observer.registration_expired(producer, view)
        told = answer.reason, answer.missed, answer.next
        self._events.expired("registration", producer, *told)

    # Consumers: peers that pull the stream of this node.

    def clash_with_consumer(self, name: str, epoch: bytes) -> tuple[str, str] | None:
        """The refusal of a consumer that calls itself `name`, if it is not welcome."""
        linked = self.consumers.get(name), self.producers.get(name)
        live = [end.epoch for end in linked if end is not None]
        return conflict(name, epoch, self._me.node, self._me.epoch, live)

    def check_consumer(self, name: str, epoch: bytes, now_ns: int) -> None:
        """Raises `ConnectionRefused` if a consumer of this name may not come in now."""
        clash = self.clash_with_consumer(name, epoch)
        if clash is not None:
            raise ConnectionRefused(*clash)
        self._room_for_consumers.check(name, now_ns)

    def attaches(self, end: ProducerEnd) -> bool:
        """A consumer asks for the stream: from now on this is its link. False: it is refused."""
        # Looked at again: between the greeting and this others may have attached.
        clash = self.clash_with_consumer(end.consumer, end.epoch)
        if clash is not None:
            end.connection.refuse(*clash)
            return False
        try:
            self._room_for_consumers.make(end.consumer, self._now_ns)
        except ConnectionRefused as refusal:
            end.connection.refuse(refusal.code, refusal.detail)
            return False
        linked = self.consumers.get(end.consumer)
        if linked is not None:
            # The same broker again: its old connection is dead, and that has not been noticed here. Not at the
            # greeting: a broker that knows two addresses of this one greets, learns so, and leaves again.
            linked.connection.refuse("replaced", f"{end.consumer} has connected anew")
        self.consumers[end.consumer] = end
        return True

    def consumer_attached(self, end: ProducerEnd, claim: Claim, answer: Verdict, now: Now) -> None:
        """A consumer has its answer to the attach."""
        if self._observer is not None:
            registered = self._registry.get(end.consumer)
            cursor = registered.cursor if registered is not None else None
            self._observer.consumer_attached(claim, cursor, answer)
        self._registry.connected(end.consumer, True, now.mono_ns)
        self._events.notices.info(
            "consumer.attached", consumer=end.consumer, offset=end.acknowledged
        )
        known = isinstance(claim, At) or end.consumer in self._registry
        if isinstance(answer, Expired) and known:
            self._consumer_expired(end.consumer, answer)

    def consumer_overrun(self, consumer: str, expired: Expired) -> None:
        """The cursor of a consumer expired on a live link, and the consumer is being told."""
        if self._observer is not None:
            self._observer.consumer_overrun(expired)
        self._consumer_expired(consumer, expired)

    def consumer_lost(self, end: ProducerEnd, now: Now) -> None:
        """The link of a consumer is gone."""
        if self.consumers.get(end.consumer) is end:
            del self.consumers[end.consumer]
            self._registry.connected(end.consumer, False, now.mono_ns)
            self._events.notices.info(
                "consumer.lost", consumer=end.consumer, acknowledged=end.acknowledged
            )

    def _consumer_expired(self, consumer: str, expired: Expired) -> None:
        self._events.counters.expired_at_peers[expired.reason] += 1
        self._events.expired("peer", consumer, expired.reason, expired.missed, expired.next)

"""A node: one broker's stream, its replicas, its sessions, and the links between them. Pure.

The shell gives it connections, bytes and the time; it gives back whose turn it is to send (`turns`), whom to dial
(`due`) and what to log (`notices`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter

from pubsubd_broker.core.access.admission import Admission, Standing
from pubsubd_broker.core.access.quota import Pool
from pubsubd_broker.core.access.remote import Caller
from pubsubd_broker.core.access.validation import objection_to
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.keeper import Keeper, Kept
from pubsubd_broker.core.journal.life import Life, LifeRecord, MemoryRecord
from pubsubd_broker.core.journal.parts import Parts
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.journal.restore import restore
from pubsubd_broker.core.limits import PUBLISH_WINDOW, TICK_NS, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.departed import Departures
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.links.fetch_budget import FetchedShare
from pubsubd_broker.core.links.health import Health
from pubsubd_broker.core.links.naming import conflict
from pubsubd_broker.core.links.peer_recovery import Recall
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_broker.core.links.room import RoomForConsumers, RoomForProducers
from pubsubd_broker.core.links.round_robin import Turns
from pubsubd_broker.core.links.send_budget import Unsent
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.observe.counters import Counters
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.observe.notices import Notices
from pubsubd_broker.core.observe.runtime_info import RuntimeInfo
from pubsubd_broker.core.observer import Observer
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.streams.lag import LagWarning
from pubsubd_broker.core.streams.publishers import Answer, Publisher, Publishers
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.addresses import Address
from pubsubd_protocol.attach import Answer as Verdict
from pubsubd_protocol.attach import At, Claim, Expired
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.frames import Attached, CursorExpired, Query, Refused
from pubsubd_protocol.positions import Epoch, StreamView


def _unanswered(node: Node, query: Query, now: Now) -> str:
    return json.dumps({"error": f"{node.name} answers no queries"})


class Node:
    """`epoch` is this life's: drawn by the shell from the system's entropy, never twice."""

    def __init__(
        self,
        config: Config,
        epoch: Epoch,
        peers: list[Address],
        now: Now,
        kept: Kept | None = None,
        record: LifeRecord | None = None,
        observer: Observer | None = None,
        answer_query: Callable[[Node, Query, Now], str] = _unanswered,
    ) -> None:
        """`kept`: what is kept of it on disk, and what was. `record`: what later lives find of this one.

        `answer_query`: gives the JSON text for a command's query; see `status.report`.
        """
        recovered = kept.recovered if kept is not None else None
        self.config = config
        self.name = config.node
        self.observer = observer
        self.answer_query = answer_query
        self.life = epoch
        self.own_life = Life(epoch, record or MemoryRecord(config.node), recovered)
        self.pace = Pace(config.pace_ns)
        self.stream = Stream(
            config.node,
            epoch,
            ring_messages=config.ring_messages,
            ring_bytes=config.ring_bytes,
            max_message=config.max_message,
            pace=self.pace,
            accepted=self.own_life.record.accepted,
            published=observer.published if observer is not None else None,
        )
        self.publishers = Publishers(config.limits.publishers, PUBLISH_WINDOW)
        self.registry = CursorRegistry(config.limits.consumers)
        self.replicas: dict[str, Replica] = {}
        self.producers: dict[str, ConsumerEnd] = {}
        """The link to each producer, from the greeting on."""
        self.consumers: dict[str, tuple[ProducerEnd, Connection]] = {}
        self.health = Health()
        self.notices = Notices(config.log_repeat_ns)
        self.sessions = Sessions(
            config.node,
            epoch,
            config.limits,
            self.notices,
            own=self.stream,
            replicas=self.replicas,
            producers=self.producers,
            started_ns=now.mono_ns,
        )
        self.targets = [Target(address) for address in dict.fromkeys(peers)]
        known = self.replicas, self.producers, self.targets, self.sessions, self.health
        self.departures = Departures(
            *known, limit=config.limits.producers, ttl_ns=config.cursor_ttl_ns
        )
        self.connections: dict[Connection, None] = {}
        self.admission = Admission(config.limits, config.allowed)
        self.receiving = Pool(config.limits.receive_bytes)
        """What large frames that are coming in take beyond the usual buffers of their connections. As many connections
        as there may be could each leave one half sent.
        """
        self.fetched = FetchedShare(config.limits.fetched_bytes)
        self.unsent = Unsent[Connection](config.limits.unsent_bytes)
        self.turns = Turns[Connection](attrgetter("lane"))
        self.counters = Counters()
        linked, ttl_ns = self.consumers.keys(), config.cursor_ttl_ns
        self.room_for_consumers = RoomForConsumers(
            self.registry, linked, lambda: self.stream.view.oldest, ttl_ns, self.notices
        )
        self.room_for_producers = RoomForProducers(self.departures, self.counters, self.notices)
        self.reports = Events(self.counters, self.notices)
        self.runtime = RuntimeInfo()
        self.draining = False
        self._lag_warning = LagWarning()
        self.started_ns = now.mono_ns
        self._ticked_ns = now.mono_ns
        self.failure: str | None = None
        """Why nothing is accepted any more."""
        self._parts = Parts(config.node, self.stream, self.registry, self.publishers, self.sessions)
        if recovered is not None:
            self._restore(recovered, now)
        self.keeper: Keeper | None = None
        if kept is not None:
            self.keep(kept)
        self.recall: Recall | None = None
        """As long as this node asks its peers for its own stream, and serves nobody."""
        if config.recover_from_peers and recovered is None and self.targets:
            self.recall = Recall(self, now.mono_ns + 2 * config.peer_timeout_ns)
        elif observer is not None:
            observer.stream_began(self.stream, recovered)

    # The shell's side.

    def accept(self, caller: Caller, now: Now, *, peers: bool) -> Connection:
        """Somebody connected, where peers are served or where clients are."""
        admittance = self.admission.enter(caller, self.config.claimant(caller), peers=peers)
        connection = Connection(self, caller, now, peers=peers, admittance=admittance)
        self.connections[connection] = None
        if admittance is Standing.CLOSED:
            self.reports.closed_unheard()
            connection.close()
        return connection

    def due(self, now: Now) -> list[Target]:
        """The addresses to dial now."""
        due = [t for t in self.targets if not self.draining and t.is_due(now.mono_ns)]
        for target in due:
            target.dialling = True
        return due

    def dialled(self, target: Target, caller: Caller, now: Now) -> Connection:
        """The dial succeeded."""
        connection = Connection(self, caller, now, peers=True, target=target)
        self.connections[connection] = None
        target.opened()
        return connection

    def dial_failed(self, target: Target, error: str, now: Now, chance: float) -> None:
        if target.fails(error):
            self.reports.unreachable(target.label, error)
        target.is_self = False
        target.failed(now.mono_ns, chance)

    def pulled(self, now: Now) -> None:
        """Those who were ready have been pulled from: readers may have moved, and who is held may go on."""
        if self.pace.holding:
            self.pace.go_on(now)

    def tick(self, now: Now) -> None:
        """To be called every 50 ms or so: whatever waits for time goes by this."""
        self.pace.go_on(now)
        if self.keeper is not None:
            self.keeper.tick()
        if self.recall is not None:
            self.recall.tick(now)
        for end in list(self.producers.values()):
            end.tick(now)
        if self.draining:
            self.sessions.remind()
        if now.mono_ns - self._ticked_ns < min(self.config.heartbeat_ns // 4, TICK_NS):
            return
        self._ticked_ns = now.mono_ns
        self.notices.tick(now.mono_ns)
        for connection in list(self.connections):
            connection.tick(now)
        for consumer in self.registry.expire(
            self.stream.view.oldest, self.config.cursor_ttl_ns, now.mono_ns
        ):
            self.notices.info("cursor.removed", consumer=consumer)
        self.room_for_producers.expire(now.mono_ns)
        self.sessions.forget_old(self.config.cursor_ttl_ns, now)
        warning = self._lag_warning.check(self.stream.log, self.registry, now.mono_ns)
        if warning is not None:
            self.notices.warning("ring.capacity_warning", **warning)

    def take_secret(self, secret: bytes) -> None:
        """Links that open from now on are proved with `secret`; those that are open stay as they are."""
        self.config = replace(self.config, secret=secret)

    def drain(self) -> None:
        """Accepts nothing more; what was accepted still goes out, and how far every session has come."""
        self.draining = True
        self.sessions.remind()

    def part(self, now: Now) -> None:
        """The last that this life says: how far every session has come, to its application and to the producers."""
        for connection in list(self.connections):
            if connection.end is not None and not connection.closing:
                connection.end.farewell(now)
        for end in list(self.producers.values()):
            end.acknowledge(now)

    @property
    def drained(self) -> bool:
        """Whether every connected consumer and session has what was accepted."""
        settled = self.stream.settled or self.failure is not None
        return (
            settled
            and all(end.drained for end, _ in self.consumers.values())
            and self.sessions.drained
        )

    # The connections' side.

    def publish(
        self,
        batch: Batch,
        publisher: Publisher,
        publisher_id: bytes,
        now: Now,
        connection: Connection,
    ) -> Answer | None:
        """One batch of a publisher. None: it has to wait, and `connection` is asked again."""
        objection = objection_to(batch, self.config.limits, connection.rights, self)
        return self.stream.publish(
            batch, publisher, publisher_id, now, connection, objection=objection
        )

    def recalled(self, recovered: Recovered | None, now: Now) -> None:
        """The peers have answered. `recovered`: what they hold of this node's stream; None if they hold nothing.

        The node serves no client yet. The shell writes the life file first, and then calls `life_begun`.
        """
        assert self.recall is not None
        self.recall.decided, self.recall.recovered = True, recovered
        if self.observer is not None:
            self.observer.peers_answered(recovered, self.recall.ends)
        if recovered is not None:
            self.own_life.recalled(recovered)
            self._restore(recovered, now)
        if self.observer is not None:
            self.observer.stream_began(self.stream, recovered)

    def life_begun(self) -> None:
        """The next life will find this one, whose recall was decided: from now on everybody is served."""
        assert self.recall is not None
        recall, self.recall = self.recall, None
        recovered, proof = recall.recovered, self.own_life.proof
        say = self.notices.info if proof is None or proof.lost == 0 else self.notices.warning
        say(
            "stream.recalled",
            epoch=recovered.state.epoch.hex() if recovered is not None else None,
            lost=recovered.lost if recovered is not None else None,
            oldest=self.stream.view.oldest,
            next=self.stream.next,
            **(proof.told if proof is not None else {}),
        )
        for end in recall.ends:
            end.close()

    def journal_failed(self, reason: str) -> None:
        """What was accepted stays readable; publishers are sent away."""
        self.failure = f"the journal failed: {reason}"
        self.notices.error("journal.failed", reason=reason)
        for connection in list(self.connections):
            if connection.end is not None and connection.end.role == "publisher":
                connection.refuse("journal_failed", self.failure)

    def knows(self, node: str) -> bool:
        """Whether `node` is this one or has ever been met in this life."""
        met = self.replicas, self.registry, self.consumers
        return node == self.name or any(node in each for each in met)

    def attach_claim(self, producer: str) -> Claim:
        """What this node presents to `producer`."""
        replica = self.replicas.get(producer)
        return (
            At(replica.registration) if replica is not None else self.sessions.lowest_need(producer)
        )

    def producer_attached(self, end: ConsumerEnd, attached: Attached, answer: Verdict) -> Replica:
        """A producer answered the attach; `answer` is its verdict with figures."""
        producer = end.producer
        replica = self.replicas.get(producer)
        first = replica is None
        if replica is None:
            limits = self.config.replica_messages, self.config.replica_bytes
            replica = Replica(producer, self.name, attached, answer, *limits, self.pace)
            self.replicas[producer] = replica
            self.sessions.first_contact(replica, attached)
        else:
            if isinstance(answer, Expired):
                self._registration_expired(producer, answer, attached.view)
            replica.attached(attached)
        end.target.attached(producer)
        replica.fetcher = end.fetch
        self.health.heard(producer)
        self.sessions.health_changed()
        position = replica.registration
        self.notices.info(
            "peer.attached", peer=producer, offset=position.offset, epoch=position.epoch.hex()
        )
        if first and self.observer is not None:
            self.observer.producer_met(producer)
        return replica

    def producer_lost(self, end: ConsumerEnd, now: Now) -> None:
        if self.producers.get(end.producer) is end:
            del self.producers[end.producer]
        if end.replica is not None:
            end.replica.fetcher = None
            self.sessions.link_lost(end.producer)
            self.health.lost(end.producer, now.mono_ns)
            self.sessions.health_changed()
            self.notices.warning(
                "peer.lost", peer=end.producer, offset=end.replica.registration.offset
            )

    def attaches(self, end: ProducerEnd, connection: Connection) -> bool:
        """A consumer asks for the stream: from now on this is its link. Or it is refused."""
        # Looked at again: between the greeting and this others may have attached.
        clash = self.clash(end.consumer, end.life)
        if clash is not None:
            connection.refuse(*clash)
            return False
        try:
            self.room_for_consumers.make(end.consumer, self._ticked_ns)
        except ConnectionRefused as refusal:
            connection.refuse(refusal.code, refusal.detail)
            return False
        linked = self.consumers.get(end.consumer)
        if linked is not None:
            # The same broker again: its old connection is dead, it only has not been noticed here. Not at the
            # greeting: a broker that knows two addresses of this one greets, learns so, and leaves again.
            linked[1].refuse("replaced", f"{end.consumer} has connected anew")
        self.consumers[end.consumer] = (end, connection)
        return True

    def consumer_attached(self, end: ProducerEnd, claim: Claim, answer: Verdict, now: Now) -> None:
        if self.observer is not None:
            registered = self.registry.get(end.consumer)
            cursor = registered.cursor if registered is not None else None
            self.observer.consumer_attached(claim, cursor, answer)
        self.registry.connected(end.consumer, True, now.mono_ns)
        self.notices.info("consumer.attached", consumer=end.consumer, offset=end.acknowledged)
        known = isinstance(claim, At) or end.consumer in self.registry
        if isinstance(answer, Expired) and known:
            self._consumer_expired(end.consumer, answer)

    def consumer_overrun(self, consumer: str, expired: Expired) -> None:
        """A consumer's cursor expired on a live link, and it is being told."""
        if self.observer is not None:
            self.observer.consumer_overrun(expired)
        self._consumer_expired(consumer, expired)

    def _consumer_expired(self, consumer: str, expired: Expired) -> None:
        self.counters.expired_at_peers[expired.reason] += 1
        self.reports.expired("peer", consumer, expired.reason, expired.missed, expired.next)

    def consumer_lost(self, end: ProducerEnd, now: Now) -> None:
        linked = self.consumers.get(end.consumer)
        if linked is not None and linked[0] is end:
            del self.consumers[end.consumer]
            self.registry.connected(end.consumer, False, now.mono_ns)
            self.notices.info("consumer.lost", consumer=end.consumer, acknowledged=end.acknowledged)

    def registration_expired(self, producer: str, expired: CursorExpired) -> None:
        """A producer told this node, on a live link, that its ring went past."""
        view = expired.view
        answer = Expired(expired.reason, view.next, expired.missed)
        self._registration_expired(producer, answer, view)

    def _registration_expired(self, producer: str, answer: Expired, view: StreamView) -> None:
        if self.observer is not None:
            self.observer.registration_expired(producer, view)
        self.reports.expired("registration", producer, answer.reason, answer.missed, answer.next)

    def refused_by(self, connection: Connection, refused: Refused) -> None:
        """Somebody turns this node away."""
        target = connection.target
        if target is None:
            told = refused.code, refused.detail
            self.reports.refused_by(connection.label, connection.caller.origin, *told)
            return
        if connection.trusted:
            # Anybody could say so who stands at that address.
            target.is_self = refused.code == "self"
            if self.recall is not None and refused.code == "recovering":
                self.recall.has_nothing(target)
        error = f"{refused.detail} ({refused.code})"
        if target.fails(error):
            self.reports.unreachable(target.label, error)

    def connection_lost(self, connection: Connection, now: Now, chance: float) -> None:
        if connection not in self.connections:
            return
        del self.connections[connection]
        if connection.admittance is not None:
            entered = connection.caller, connection.claimant, connection.admittance
            self.admission.leave(*entered, peers=connection.peers)
        self.turns.forget(connection)
        target = connection.target
        if target is not None:
            target.error = target.error or connection.why_lost
            target.failed(now.mono_ns, chance)

    def clash(self, name: str, life: bytes) -> tuple[str, str] | None:
        """Why a consumer that calls itself `name` is turned away, if it is."""
        linked, producer = self.consumers.get(name), self.producers.get(name)
        live = [end.life for end in (linked and linked[0], producer) if end is not None]
        return conflict(name, life, self.name, self.life, live)

    def keep(self, kept: Kept) -> None:
        """Keeps the node's state on disk from now on, as `kept` says."""
        self.keeper = Keeper(
            self._parts,
            kept,
            failed=self.journal_failed,
            recovering=lambda: self.recall is not None,
        )
        self.sessions.moved = self.keeper.session_moved
        if self.keeper.writes:
            self.stream.durability = self.keeper

    def _restore(self, recovered: Recovered, now: Now) -> None:
        """Begins with what an earlier life left."""
        proved = self.own_life.continues(recovered)
        restore(self._parts, recovered, self.notices, now, proved=proved)

"""A simulated broker process: the core's real node, with simulated sockets, clock and chance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.simulation.broker_socket import BrokerSocket
from tests.simulation.clockwork import MS
from tests.simulation.disk import Disk
from tests.simulation.journals import SimJournal
from tests.simulation.life_record import SimRecord, forget_the_last
from tests.simulation.machine import Machine, Trace
from tests.simulation.samples import Held, Parted, Told, bounded, told_as_it_parts, told_in_time
from tests.simulation.violation import Violation
from tests.simulation.watch import Watch
from tests.simulation.wires import Wire

from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.checkpoint import Checkpoint
from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import Limits, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.sessions.reading_states import PARKED
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.positions import (
    new_epoch,
)
from pubsubd_protocol.proof import NONCE_BYTES

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK_NS = 50 * MS

HEARTBEAT_MS: Final = 200

SECRET: Final = b"what all brokers of the cluster know"


def streams_of(node: Node) -> list[Stream | Replica]:
    """The streams that `node` knows, its own first."""
    return [node.stream, *node.peers.replicas.values()]


class SimBroker:
    """The process of one node over its lives."""

    def __init__(self, world: World, name: str, peers: list[str]) -> None:
        self.world = world
        self.name = name
        self.node: Node | None = None
        self.memory: Recovered | None = None
        """The state that its next life begins with, if it is given a state and has no journal."""
        self.paused = False
        self.doomed: Callable[[], None] | None = None
        """Called at the first contact of its next life."""
        self._peers = peers
        self.sockets: dict[Connection, BrokerSocket] = {}
        self.life = 0
        """The number of its starts."""
        self._chance = world.chance("broker", name, 0)
        self.disk = SimJournal(self) if world.plan.fsync is not None else None
        self.journal = self.disk
        """The journal of its present life; None: a life without one."""
        self.bare = False
        """Whether its next life has no journal."""
        self.machine = Machine(world.chance("machine", name))

    @property
    def recovered_names(self) -> Mapping[str, Collection[str]]:
        """The sessions that its present life knows from its journal, with the streams in which it knows their places."""
        return self.journal.names if self.journal is not None else {}

    @property
    def runs(self) -> bool:
        return self.node is not None and not self.paused

    @property
    def now(self) -> Now:
        return self.world.clockwork.now

    def start(self) -> None:
        plan, memory = self.world.plan, self.memory
        self.journal, self.bare = None if self.bare else self.disk, False
        self.life += 1
        self._chance = self.world.chance("broker", self.name, self.life)
        config = Config(
            node=self.name,
            ring_messages=plan.ring_messages,
            ring_bytes=plan.ring_bytes,
            replica_messages=plan.replica_messages,
            replica_bytes=plan.replica_bytes,
            heartbeat_ns=HEARTBEAT_MS * MS,
            peer_timeout_ns=1000 * MS,
            cursor_ttl_ns=plan.cursor_ttl_ms * MS,
            pace_ns=plan.pace_ms * MS,
            secret=SECRET if plan.secret else None,
            limits=Limits(fetched_bytes=plan.fetched_bytes),
            recover_from_peers=plan.recovers_from_peers
            and plan.fsync in (None, "snapshot")
            and memory is None
            and bool(self._peers),
        )
        epoch = new_epoch(self._chance.randbytes(16))
        self.paused = False
        self.sockets = {}
        self.record = SimRecord(self.name, self.machine, looks_into_folder=self.journal is not None)
        kept = None
        if self.journal is not None:
            kept = self.journal.kept(self.record.evidence)
        elif memory is not None:
            kept = Kept(Fsync.SNAPSHOT, recovered=memory, promised=False)
        peers = [(peer, 1) for peer in self._peers]
        watch = Watch(self, epoch)
        self.node = Node(config, epoch, peers, self.now, kept, self.record, watch)
        if self.node.recovery is None:
            self.node.own_life.begin()
        if self.journal is not None:
            self.journal.begin(self.node)
        self.memory = None
        self._paced_until_ns: int | None = None
        self._dropped = 0
        self._plan_tick(self.life)

    def crash(self, *, silent: bool = False, machine: bool = True) -> None:
        """SIGKILL: memory is gone, the sockets are closed. `silent`: the machine's end, of which no peer is told.

        `machine`: whether its machine may have lost its power with it.
        """
        if self.node is not None:
            power_lost = machine and self.machine.chance.random() < 0.5
            if self.journal is not None:
                power_lost = self.journal.crash(self._chance, machine=machine)
            if power_lost:
                for trace in self.machine.lose_power():
                    forget_the_last(trace, self.machine.chance)
        self._end(silent=silent)

    def _end(self, *, silent: bool = False) -> None:
        self.node = None
        self.paused = False
        for socket in list(self.sockets.values()):
            socket.wire.cut(silent=silent and not socket.wire.local)
        self.sockets = {}

    def stop(self, *, rots: bool = True) -> None:
        """SIGTERM, with time for the journal and the last words only."""
        if self.node is not None and not self.paused:
            self.node.part(self.now)
            told_as_it_parts(self._parted(self.node))
            self.flush()
            for connection, socket in list(self.sockets.items()):
                if socket.wire.local and not socket.wire.broken:
                    socket.part()
                    del self.sockets[connection]
        if self.node is not None:
            snapshot = self.journal is not None and not self.journal.keeps_running
            if self.journal is not None:
                self.journal.stop(rots=rots)
            if self.node.recovery is None:
                self.machine.stops(in_folder=snapshot)
                self.record.leave(self.node.stream.next)
        self._end()

    def put_back(self, copy: tuple[Disk, Trace | None]) -> None:
        """Replace its journal's folder by an older copy."""
        assert self.disk is not None
        disk, witness = copy
        self.disk.put_back(disk)
        self.machine.put_back(witness)

    def copy(self) -> tuple[Disk, Trace | None]:
        """A copy of its journal's folder as it is now."""
        assert self.disk is not None
        folder = self.machine.folder
        kept = None if folder is None else replace(folder, data=bytearray(folder.data))
        return self.disk.copy(), kept

    def begins(self, life: str) -> None:
        """The broker's stream begins to accept messages under this epoch."""
        in_folder = self.journal.keeps_running if self.journal is not None else None
        self.machine.begins(life, in_folder=in_folder)

    def proves(self, epoch: str) -> bool:
        """Whether the number of messages of that epoch missing after recovery can be known."""
        promised = self.journal is not None and self.journal.promises
        return self.machine.proves(epoch, promised=promised)

    def remember(self, less: int, *, proven: bool = True) -> None:
        """Begin its next life with its ring as it is now, without the last `less` entries.

        `proven`: the broker knows how many messages those entries had.
        """
        assert self.disk is None, "a journal has to begin where its stream does"
        assert self.node is not None
        if self.node.recovery is not None:
            return  # The stream is empty.
        stream = self.node.stream
        entries = [stream.log[i] for i in range(stream.log.begin, stream.log.end)]
        kept = [entry for entry in entries if isinstance(entry, Entry)][: -less or None]
        offset = kept[0].first if kept else stream.view.oldest
        end = kept[-1].next if kept else offset
        lineage = tuple((epoch, min(reach, end)) for epoch, reach in stream.view.lineage)
        state = Checkpoint(
            *(self.name, stream.epoch, lineage, offset, {}, {}, {}), losses=stream.view.losses
        )
        sequences = [open_entry(entry).sequence for entry in kept]
        self.memory = Recovered(state, end, kept, sequences)
        self.memory.judge(stream.next - end if proven else None)

    def pause(self) -> None:
        self.paused = True

    def go_on(self) -> None:
        if self.node is not None and self.paused:
            self.paused = False
            for socket in list(self.sockets.values()):
                for pipe in (socket.wire.out, socket.wire.back):
                    pipe.plan()

    def accept(self, wire: Wire, *, peers: bool, label: str) -> BrokerSocket:
        assert self.node is not None
        connection = self.node.accept(self._caller(label), self.now, peers=peers)
        socket = BrokerSocket(self, connection, wire.back, wire)
        self.sockets[connection] = socket
        return socket

    def _caller(self, label: str) -> Remote:
        return Remote(label, host=label, nonce=self._chance.randbytes(NONCE_BYTES))

    def closing(self, but: BrokerSocket) -> set[Connection]:
        """The connections that are about to end."""
        return {c for c, socket in self.sockets.items() if c.closing and socket is not but}

    def lost(self, socket: BrokerSocket) -> None:
        if self.sockets.pop(socket.connection, None) is not None and self.node is not None:
            socket.connection.lost(self.now, self._chance.random())
            self.flush()

    def sent(self, connection: Connection, buffers: list[bytes]) -> None:
        if self.node is not None and buffers:
            role = connection.end.role if connection.end is not None else None
            self.world.tally.sent(self.node, role, buffers)

    def flush(self) -> None:
        node = self.node
        if node is None or self.paused:
            return
        if node.recovery is not None and node.recovery.decided:
            node.own_life.begin()
            node.life_begun()
        rounds = 0
        while node.ready:
            rounds += 1
            if rounds > 10_000:
                raise Violation(f"G6: {self.name} never comes to rest")
            for connection in node.ready.take():
                socket = self.sockets.get(connection)
                if socket is not None:
                    socket.flush()
            node.pulled(self.now)
        if self.journal is not None:
            self.journal.go_on()
        self._check_bounds(node)
        self._plan_pace(node)
        for notice in node.notices.take():
            self.world.noticed(self.name, notice)

    def _plan_pace(self, node: Node) -> None:
        due_ns = node.pace.due_ns
        if due_ns is None or self._paced_until_ns == due_ns:
            return
        self._paced_until_ns = due_ns
        self.world.tally.held(node)
        life = self.life

        def go_on() -> None:
            if self.life == life and self.node is not None and not self.paused:
                self.node.pace.go_on(self.now)
                self.flush()

        self.world.clockwork.after(max(0, due_ns - self.now.mono_ns), go_on)

    def _check_bounds(self, node: Node) -> None:
        if node.links.fetch_budget.dropped > self._dropped:
            self.world.counts["fetched and dropped"] += (
                node.links.fetch_budget.dropped - self._dropped
            )
            self._dropped = node.links.fetch_budget.dropped
        for source in streams_of(node):
            log = source.log
            # Looked at after each event, so the text is made only if it is needed.
            if log.messages > log.max_messages or log.bytes > log.max_bytes:
                bounded(
                    (
                        Held(
                            self.name, f"messages of {source.node}", log.messages, log.max_messages
                        ),
                        Held(self.name, f"bytes of {source.node}", log.bytes, log.max_bytes),
                    )
                )
        told_in_time(self._told(node))

    def _parted(self, node: Node) -> Iterator[Parted]:
        """The place that each reachable end has been told, or is about to be."""
        for connection in self.sockets:
            end = connection.end
            if isinstance(end, SessionEnd) and end.session is not None and not connection.closing:
                for stream, reading in end.session.readings.items():
                    position = reading.position
                    if position is not None:
                        told = position.offset - reading.unreported
                        yield Parted(self.name, connection.label, stream, told, position.offset)
        for producer, link in node.peers.producers.items():
            if link.replica is not None:
                passed = link.replica.registration.offset
                yield Parted(self.name, producer, producer, link._acknowledged, passed)

    def _told(self, node: Node) -> Iterator[Told]:
        """The places that resting sessions were told last, where their applications could be told more."""
        for connection in self.sockets:
            end = connection.end
            if not isinstance(end, SessionEnd) or end.session is None:
                continue
            if connection.closing or not connection.writable:
                continue
            for reading in end.session.readings.values():
                log, cursor = reading.source.log, reading.bookmark.cursor
                if (
                    reading.state is PARKED
                    and cursor is not None
                    and log.begin < log.end
                    and len(log.segments) == 1
                ):
                    oldest = log[log.begin]
                    if isinstance(oldest, Entry):
                        yield Told(
                            self.name,
                            connection.label,
                            reading.source.node,
                            cursor.told,
                            oldest.first,
                        )

    def _plan_tick(self, life: int) -> None:
        def tick() -> None:
            if self.life != life or self.node is None:
                return
            if not self.paused:
                self.node.tick(self.now)
                for target in self.node.due(self.now):
                    self._dial(target, life)
                self.flush()
            late_ns = self._chance.randint(0, self.world.plan.tick_jitter_ms * MS)
            self.world.clockwork.after(TICK_NS + late_ns, tick)

        self.world.clockwork.after(self._chance.randint(0, TICK_NS), tick)

    def _dial(self, target: Target, life: int) -> None:
        peer = self.world.brokers[target.address[0]]

        def arrive() -> None:
            if self.life != life or self.node is None:
                return
            if peer.node is None or self.world.is_cut(self.name, peer.name):
                self.node.dial_failed(target, "refused", self.now, self._chance.random())
                return
            wire = self.world.wire(self.name, peer.name)
            connection = self.node.dialled(target, self._caller(target.label), self.now)
            socket = BrokerSocket(self, connection, wire.out, wire)
            self.sockets[connection] = socket
            wire.join(socket, peer.accept(wire, peers=True, label=self.name))
            self.flush()

        self.world.clockwork.after(self._chance.randint(0, 5 * MS), arrive)

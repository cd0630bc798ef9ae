"""A simulated broker process: the real node of the core, with simulated sockets, clock and chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.checkers import Held, Violation, bounded
from tests.simulation.clockwork import MS
from tests.simulation.truth import Published, StreamTruth
from tests.simulation.wires import Pipe, Wire

from pubsubd_broker.core.config import Config
from pubsubd_broker.core.connection import Connection
from pubsubd_broker.core.dialling import Target
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.publishers import Publisher
from pubsubd_broker.core.stream import Stream
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import Receipt, Rejected
from pubsubd_protocol.positions import new_epoch

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK_NS = 50 * MS


class WatchedStream(Stream):
    """A node's own stream that writes what it accepts into the truth."""

    __slots__ = ("_truth", "_world")

    def watch(self, world: World, truth: StreamTruth) -> None:
        self._world = world
        self._truth = truth
        truth.begin(self.epoch.hex())
        truth.held(0)

    def publish(
        self,
        batch: Batch,
        publisher: Publisher,
        publisher_id: bytes,
        wall_us: int,
        *,
        knows_addressee: bool = True,
    ) -> Receipt | Rejected:
        before = self.next
        outcome = super().publish(
            batch, publisher, publisher_id, wall_us, knows_addressee=knows_addressee
        )
        if self.next > before:
            topics = batch.topics.split("\n")
            index = memoryview(batch.index).cast("H") if batch.index else bytes(batch.count)
            lengths = memoryview(batch.lengths).cast("I")
            start, offset = 0, before
            for which, length in zip(index, lengths, strict=True):
                payload = bytes(batch.payloads[start : start + length])
                start += length
                now_ns = self._world.clockwork.now_ns
                message = Published(topics[which], payload, publisher_id, batch.to, now_ns)
                self._truth.publish(self.epoch.hex(), offset, message)
                offset += 1
            self._truth.held(self.view.oldest)
        return outcome


class BrokerSocket:
    """One connection of a broker."""

    def __init__(self, broker: SimBroker, connection: Connection, out: Pipe, wire: Wire) -> None:
        self.connection = connection
        self.wire = wire
        self._broker = broker
        self._out = out
        self._ended = False

    def bytes_in(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            space = self.connection.space()
            count = min(len(space), len(view))
            space[:count] = view[:count]
            view = view[count:]
            self.connection.received(count, self._broker.now)
        self._broker.flush()

    def has_room(self) -> None:
        self.connection.writable = True
        self.connection.wake()
        self._broker.flush()

    def gone(self) -> None:
        self._broker.lost(self)

    def reads(self) -> bool:
        return self._broker.runs and self.connection.wants_more

    def flush(self) -> None:
        if self._ended:
            return
        if self.connection.writable or self.connection.closing:
            for buffer in self.connection.pull(
                self._broker.world.plan.quantum_bytes, self._broker.now
            ):
                self._out.send(buffer)
        if self.connection.closing:
            self._ended = True
            # The other end learns of it behind the last byte, if it can; this one is done with it soon.
            self._out.finish()
            self._broker.world.clockwork.after(MS, self.gone)
        else:
            self.connection.writable = not self._out.full
            for pipe in (self.wire.out, self.wire.back):
                pipe.plan()


class SimBroker:
    """One node's process over its lives."""

    def __init__(self, world: World, name: str, peers: list[str]) -> None:
        self.world = world
        self.name = name
        self.node: Node | None = None
        self.paused = False
        self._peers = peers
        self._sockets: dict[Connection, BrokerSocket] = {}
        self._life = 0
        self._deferred_ticks = False

    @property
    def runs(self) -> bool:
        return self.node is not None and not self.paused

    @property
    def now(self):  # type: ignore[no-untyped-def]
        return self.world.clockwork.now

    def start(self) -> None:
        plan, chance = self.world.plan, self.world.chance
        config = Config(
            node=self.name,
            ring_messages=plan.ring_messages,
            ring_bytes=plan.ring_bytes,
            replica_messages=plan.replica_messages,
            replica_bytes=plan.replica_bytes,
            heartbeat_ns=200 * MS,
            peer_timeout_ns=1000 * MS,
        )
        epoch = new_epoch(chance.randbytes(16))
        self._life += 1
        self.paused = False
        self._sockets = {}
        self.node = Node(config, epoch, [(peer, 1) for peer in self._peers], self.now)
        stream = WatchedStream(
            self.name,
            epoch,
            ring_messages=config.ring_messages,
            ring_bytes=config.ring_bytes,
            max_message=config.max_message,
        )
        stream.watch(self.world, self.world.truth[self.name])
        self.node.stream = stream
        self._plan_tick(self._life)

    def crash(self) -> None:
        """SIGKILL: memory is gone; the kernel closes the sockets."""
        self.node = None
        self.paused = False
        for socket in list(self._sockets.values()):
            socket.wire.cut(silent=False)
        self._sockets = {}

    def pause(self) -> None:
        self.paused = True

    def go_on(self) -> None:
        if self.node is not None and self.paused:
            self.paused = False
            for socket in list(self._sockets.values()):
                for pipe in (socket.wire.out, socket.wire.back):
                    pipe.plan()

    def accept(self, wire: Wire, *, peers: bool, label: str) -> BrokerSocket:
        assert self.node is not None
        connection = self.node.accept(label, self.now, peers=peers)
        socket = BrokerSocket(self, connection, wire.back, wire)
        self._sockets[connection] = socket
        return socket

    def lost(self, socket: BrokerSocket) -> None:
        if self._sockets.pop(socket.connection, None) is not None and self.node is not None:
            socket.connection.lost(self.now, self.world.chance.random())
            self.flush()

    def flush(self) -> None:
        node = self.node
        if node is None or self.paused:
            return
        rounds = 0
        while node.busy:
            rounds += 1
            if rounds > 10_000:
                raise Violation(f"G6: {self.name} never comes to rest")
            for connection in node.take_ready():
                socket = self._sockets.get(connection)
                if socket is not None:
                    socket.flush()
        self._check_bounds(node)
        for notice in node.notices.take():
            self.world.noticed(self.name, notice)

    def _check_bounds(self, node: Node) -> None:
        for source in node.sources():
            log = source.log
            bounded(
                (
                    Held(self.name, f"messages of {source.node}", log.messages, log.max_messages),
                    Held(self.name, f"bytes of {source.node}", log.bytes, log.max_bytes),
                )
            )

    def _plan_tick(self, life: int) -> None:
        def tick() -> None:
            if self._life != life or self.node is None:
                return
            if not self.paused:
                self.node.tick(self.now)
                for target in self.node.due(self.now):
                    self._dial(target, life)
                self.flush()
            self.world.clockwork.after(TICK_NS, tick)

        self.world.clockwork.after(self.world.chance.randint(0, TICK_NS), tick)

    def _dial(self, target: Target, life: int) -> None:
        peer = self.world.brokers[target.address[0]]

        def arrive() -> None:
            if self._life != life or self.node is None:
                return
            if peer.node is None or self.world.is_cut(self.name, peer.name):
                self.node.dial_failed(target, "refused", self.now, self.world.chance.random())
                return
            wire = self.world.wire(self.name, peer.name)
            connection = self.node.dialled(target, self.now)
            socket = BrokerSocket(self, connection, wire.out, wire)
            self._sockets[connection] = socket
            wire.join(socket, peer.accept(wire, peers=True, label=self.name))
            self.flush()

        self.world.clockwork.after(self.world.chance.randint(0, 5 * MS), arrive)

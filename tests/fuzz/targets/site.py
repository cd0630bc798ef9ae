"""A real node, strangers that play a script to it, and honest clients that must not notice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import contains
from typing import Final, TypeVar

from tests.feeding import feed
from tests.fuzz.scripts import Flag, Op, Step
from tests.unit.core.journal.disk import Disk
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import FETCH_BYTES, SECOND_NS, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.observe.notices import Level
from pubsubd_broker.core.status import report
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    CursorExpired,
    Frame,
    Health,
    Heartbeat,
    Hello,
    Receipt,
    Skip,
    StreamPosition,
    Subscribe,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch, Position
from pubsubd_protocol.proof import NONCE_BYTES

NAME: Final = "node-a"
EPOCH: Final = Epoch(bytes(range(16)))
"""The node's own epoch: that of the sample frames, so that they fit."""

NONCE: Final = b"N" * NONCE_BYTES
SECRET: Final = b"what only brokers know"

WAITS_MS: Final = (1, 60, 300, 1_100, 2_100, 6_100)

_ROUNDS: Final = 10_000
_PATIENCE_S: Final = 30
_CHANCE: Final = 0.5


class Wire:
    """A connection of the node, and its other end. All bytes from the node must be frames."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.open = True
        self._reader = FrameReader(2**26)

    def took(self, data: bytes) -> None:
        for frame in feed(self._reader, data):
            self.said(decode(frame))

    def said(self, frame: Frame) -> None:
        """A stranger ignores the frames themselves."""


W = TypeVar("W", bound=Wire)


class Honest(Wire):
    """A publisher, or a session that wants everything. Its deliveries must have no hole."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.welcomed = False
        self.positions: dict[str, Position] | None = None
        self.receipts: list[Receipt] = []
        self.seen: dict[int, bytes] = {}
        """Payloads of the node's own stream, by offset."""
        self.expired = 0

    def said(self, frame: Frame) -> None:
        match frame:
            case Welcome():
                self.welcomed = True
            case Subscribed(positions):
                self.positions = dict(positions)
            case Receipt():
                self.receipts.append(frame)
            case StreamPosition(node, position):
                assert self.positions is not None
                assert node not in self.positions, "told twice where it stands"
                self.positions[node] = position
            case Entry():
                self._moves(frame.node, frame.first, Position(frame.epoch, frame.next))
                if frame.node == NAME:
                    messages = open_entry(frame)
                    self.seen.update(zip(messages.offsets, messages.raws(), strict=True))
            case Skip(node, epoch, first, following):
                self._moves(node, first, Position(epoch, following))
            case CursorExpired(node, _, _, view):
                assert self.positions is not None
                # The first notice of a stream may be the first mention of that stream.
                self.positions[node] = Position(view.epoch, view.next)
                self.expired += 1
            case Health(lost):
                assert NAME not in lost, "a broker always hears itself"
            case Heartbeat():
                pass
            case _:
                raise AssertionError(f"an honest client is told {frame}")

    def _moves(self, node: str, first: int, to: Position) -> None:
        assert self.positions is not None
        at = self.positions[node].offset
        # A client that stands inside an entry gets all of it.
        assert first <= at < to.offset, f"{first}..{to.offset} of {node} where {at} comes next"
        self.positions[node] = to


class Site:
    """A node and its wires, under a clock that only the script moves. An error of the node is raised here."""

    def __init__(self, flags: Flag, recovered: Recovered | None = None) -> None:
        self._mono_ns = 1_000 * SECOND_NS
        self.wires: list[Wire] = []
        self._by_connection: dict[Connection, Wire] = {}
        tiny, small = Flag.TINY_RING in flags, Flag.TINY_REPLICA in flags
        config = Config(
            NAME,
            ring_messages=8 if tiny else 100_000,
            ring_bytes=8_192 if tiny else 2**22,
            replica_messages=4 if small else 100_000,
            replica_bytes=4_096 if small else 2**22,
            pace_ns=SECOND_NS // 4 if Flag.PACED in flags else 0,
            recover_from_peers=Flag.RECOVERS in flags,
            secret=SECRET if Flag.SECRET in flags else None,
        )
        self._disk = Disk() if Flag.JOURNAL in flags else None
        kept = None
        if self._disk is not None:
            kept = Kept(self._disk.fsync, recovered=recovered)
        addresses = [("one", 1), ("two", 2)]
        self.node = Node(config, EPOCH, addresses, self.now, kept, answer_query=report)
        if self._disk is not None and self.node.keeper is not None:
            self._disk.perform(self.node.keeper.begin())
        self._dial()

    @property
    def now(self) -> Now:
        return Now(self._mono_ns, 1_700_000_000_000_000)

    def perform(self, step: Step) -> None:
        """Perform one step of a script."""
        if step.op in (Op.CLIENT, Op.PEER):
            self.opened(Wire(self._accept(peers=step.op is Op.PEER)))
            return
        if step.op is Op.WAIT:
            self.wait(WAITS_MS[(step.data or b"\0")[0] % len(WAITS_MS)])
            return
        if not self.wires:
            return
        wire = self.wires[(step.wire - 1) % len(self.wires)]
        match step.op:
            case Op.SEND:
                self.send(wire, step.data)
            case Op.DRIBBLE:
                size = 1 + (step.data or b"\0")[0] % 64
                for at in range(1, len(step.data), size):
                    self.send(wire, step.data[at : at + size])
            case Op.DEAF:
                wire.connection.writable = False
            case Op.HEARS:
                wire.connection.writable = True
                wire.connection.wake()
                self.run()
            case Op.LEAVE:
                self.lose(wire)

    def still_serves(self, earlier: Honest | None) -> None:
        """An honest publisher and session come, and an earlier session goes on."""
        self._until(lambda: self.node.recovery is None, "it still asks its peers for its stream")
        session = self.session()
        publisher = self.greeted("publisher", b"H" * 16)
        expired = [each.expired for each in (earlier, session) if each is not None]
        sent = [f"honest {n}".encode() for n in range(3)]
        for sequence, payload in enumerate(sent, 1):
            batch = batch_of([("honest.topic", payload)], sequence=sequence)
            self.send(publisher, encode(batch))
            self._until(partial(_has, publisher.receipts, sequence), "a publisher has no receipt")
        places = [receipt.first for receipt in publisher.receipts]
        assert places == sorted(set(places)), f"receipts out of order: {places}"
        for reader in filter(None, (earlier, session)):
            self._until(partial(contains, reader.seen, places[-1]), "a session does not get it")
            assert [reader.seen[place] for place in places] == sent, "a session read something else"
        assert expired == [each.expired for each in (earlier, session) if each is not None]
        self.is_bounded()

    def is_bounded(self) -> None:
        for log in (self.node.stream.log, *(r.log for r in self.node.peers.replicas.values())):
            _holds_no_more_than_it_may(log)
        for connection in self.node.connections:
            held = sum(map(len, connection.pull(0, self.now)))
            assert held < 2**22, f"{held} bytes wait for one connection"

    # Connections open and close.

    def session(self) -> Honest:
        session = self.greeted("session", b"S" * 16)
        self.send(session, encode(Subscribe((">",), "latest", None, None, None, True)))
        assert session.positions is not None, "an honest session is not served"
        return session

    def greeted(self, role: str, life: bytes) -> Honest:
        honest = self.opened(Honest(self._accept(peers=False)))
        self.send(honest, encode(Hello(MAGIC, VERSION, VERSION, role, "", life)))
        assert honest.welcomed, f"an honest {role} is not welcome"
        return honest

    def opened(self, wire: W) -> W:
        self._by_connection[wire.connection] = wire
        if not isinstance(wire, Honest):
            self.wires.append(wire)
        return wire

    def _accept(self, *, peers: bool) -> Connection:
        return self.node.accept(_caller(peers=peers), self.now, peers=peers)

    def lose(self, wire: Wire) -> None:
        if wire.open:
            wire.open = False
            del self._by_connection[wire.connection]
            wire.connection.lost(self.now, _CHANCE)
            self.run()

    # The part of a shell.

    def send(self, wire: Wire, data: bytes) -> None:
        rest = memoryview(data)
        connection = wire.connection
        while rest and wire.open and not connection.closing and connection.wants_more:
            space = connection.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            connection.received(count, self.now)
            rest = rest[count:]
            self.run()

    def wait(self, milliseconds: int) -> None:
        self._mono_ns += milliseconds * 1_000_000
        self.node.tick(self.now)
        self._dial()
        self.run()

    def run(self) -> None:
        """Run until no end has anything more to send at this moment."""
        for _ in range(_ROUNDS):
            for connection in self.node.ready.take():
                wire = self._by_connection.get(connection)
                if wire is not None and (connection.writable or connection.closing):
                    wire.took(b"".join(connection.pull(FETCH_BYTES, self.now)))
                    if connection.closing:
                        self.lose_quietly(wire)
            self.node.pulled(self.now)
            if self.node.recovery is not None and self.node.recovery.decided:
                self.node.own_life.begin()
                self.node.life_begun()
            self._write()
            if not self.node.ready:
                break
        else:
            raise AssertionError("they talk without end")
        for notice in self.node.notices.take():
            assert notice.level is not Level.ERROR, f"{notice.event} {notice.fields}"

    def lose_quietly(self, wire: Wire) -> None:
        assert not isinstance(wire, Honest), "an honest client is cut off"
        wire.open = False
        del self._by_connection[wire.connection]
        wire.connection.lost(self.now, _CHANCE)

    def _write(self) -> None:
        keeper = self.node.keeper
        while keeper is not None and (work := keeper.take(self.now)) is not None:
            assert self._disk is not None
            self._disk.perform(work)
            keeper.done(self.now)

    def _dial(self) -> None:
        for target in self.node.due(self.now):
            self.opened(Wire(self.node.dialled(target, _caller(peers=True), self.now)))
        self.run()

    def _until(self, there: Callable[[], bool], what: str) -> None:
        for _ in range(_PATIENCE_S * 4):
            if there():
                return
            self.wait(250)
        raise AssertionError(what)


def _caller(*, peers: bool) -> Remote:
    """The one function that makes callers. All have one nonce, so that a seed can hold a proof that fits."""
    if peers:
        return Remote("a stranger", host="192.0.2.1", nonce=NONCE)
    return Remote("a stranger", uid=0, gid=0, nonce=NONCE)


def _has(receipts: list[Receipt], count: int) -> bool:
    return len(receipts) >= count


def _holds_no_more_than_it_may(log: Log) -> None:
    assert log.messages <= log.max_messages, f"{log.messages} messages in a log"
    assert log.bytes <= log.max_bytes, f"{log.bytes} bytes in a log"
    assert log.reserved_messages >= 0
    assert log.reserved_bytes >= 0

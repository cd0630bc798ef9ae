"""Simulated applications: the SDK's pure cores, with simulated sockets to their own broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.simulation.brokers import SimBroker
from tests.simulation.checkers import Place, Reader, Violation
from tests.simulation.clockwork import MS
from tests.simulation.truth import Published
from tests.simulation.wires import Pipe, Wire

from pubsubd.batching import Failed, Outgoing, Placed
from pubsubd.codecs import RAW
from pubsubd.errors import PubSubError
from pubsubd.inbox import Inbox
from pubsubd.outbox import Outbox
from pubsubd.resume import Event, Session
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    Ack,
    CursorExpired,
    Frame,
    Hello,
    Receipt,
    Refused,
    Rejected,
    Skip,
    Subscribed,
    Told,
    Welcome,
)
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Position, dump_positions, load_positions
from pubsubd_protocol.topics import Filter

if TYPE_CHECKING:
    from tests.simulation.world import World

LARGEST_FRAME = 32 * 2**20


class ClientSocket:
    """A connection to the application's own broker, greeted and cut into frames."""

    def __init__(
        self, world: World, broker: SimBroker, owner: Publisher | Subscriber, hello: Hello
    ) -> None:
        self.wire: Wire = world.wire(broker.name, broker.name)
        self.alive = True
        self._owner = owner
        self._reader = FrameReader(LARGEST_FRAME)
        self._out: Pipe = self.wire.out
        self.wire.join(self, broker.accept(self.wire, peers=False, label=owner.name))
        self.send(hello)

    def send(self, frame: Frame) -> None:
        self.write(encode(frame))

    def write(self, data: bytes) -> None:
        if self.alive:
            self._out.send(data)

    def bytes_in(self, data: bytes) -> None:
        for view in self._reader.feed(data):
            if self.alive:
                self._owner.received(self, decode(view))

    def has_room(self) -> None:
        """An application's writes are small; the outbox's window bounds them."""

    def gone(self) -> None:
        if self.alive:
            self.alive = False
            self._owner.lost(self)

    def reads(self) -> bool:
        return not self.alive or self._owner.reads()

    def cut(self) -> None:
        self.wire.cut(silent=False)


class Publisher:
    """Publishes on one node; retries what was not answered, as the SDK does."""

    def __init__(self, world: World, name: str, broker: SimBroker) -> None:
        self.world = world
        self.name = name
        self.id = world.chance.randbytes(16)
        self._broker = broker
        self._outbox = Outbox(name)
        self._socket: ClientSocket | None = None
        self._spoke_to: bytes | None = None
        self._welcomed = False
        self._count = 0
        self._sent: list[tuple[Outgoing, list[bytes]]] = []
        self._connect()

    def publish(self, topic: str, to: str | None, messages: int) -> None:
        if not self._welcomed:
            return
        for _ in range(messages):
            self._count += 1
            payload = f"{self.name}/{self._count}".encode()
            outgoing = self._outbox.put(topic, payload, to, 3600.0)
            if not self._sent or self._sent[-1][0] is not outgoing:
                self._sent.append((outgoing, []))
            self._sent[-1][1].append(payload)
        self._outbox.end_turn(self.world.clockwork.now_ns / 1e9)
        self._pump()

    def check_outcomes(self) -> int:
        """G2, on the publishing side: accepted is placed where the receipt says, refused is nowhere."""
        accepted = 0
        stream = self.world.truth.streams[self._broker.name]
        everywhere = [m.payload for epoch in stream.messages.values() for m in epoch]
        for outgoing, payloads in self._sent:
            match outgoing.outcome:
                case Placed(epoch=epoch, first=first):
                    held = [
                        m.payload for m in stream.messages[epoch][first : first + len(payloads)]
                    ]
                    if held != payloads:
                        raise Violation(
                            f"G2: {self.name} was told {first} of {epoch} for {payloads}, there is {held}"
                        )
                    accepted += len(payloads)
                case Failed() if isinstance(outgoing.outcome.error(), PubSubError):
                    kept = set(everywhere).intersection(payloads)
                    if kept and "unknown" not in str(outgoing.outcome.error()):
                        raise Violation(
                            f"G2: {self.name} was refused {sorted(kept)}, which are in the stream"
                        )
        for epoch, messages in stream.messages.items():
            payloads = [m.payload for m in messages]
            if len(set(payloads)) != len(payloads):
                raise Violation(f"G2: {self._broker.name} placed a message twice in {epoch}")
        return accepted

    def reads(self) -> bool:
        return True

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        if socket is not self._socket:
            return
        match frame:
            case Welcome():
                self._spoke_to = frame.life
                self._welcomed = True
                self._outbox.connected(frame.node, frame.window, frame.max_message)
            case Receipt():
                self._outbox.receipt(frame)
            case Rejected():
                self._outbox.rejected(frame)
            case Refused():
                socket.cut()
                return
            case _:
                raise Violation(f"{self.name} received {frame}")
        self._pump()

    def lost(self, socket: ClientSocket) -> None:
        self._outbox.disconnected("lost")
        self._socket = None
        self.world.clockwork.after(self.world.chance.randint(1, 200) * MS, self._connect)

    def cut(self) -> None:
        if self._socket is not None:
            self._socket.cut()

    @property
    def idle(self) -> bool:
        return not any(True for _ in self._outbox.unfinished())

    def _connect(self) -> None:
        if self._socket is None:
            if self._broker.node is None:
                self.world.clockwork.after(100 * MS, self._connect)
                return
            hello = Hello(MAGIC, VERSION, VERSION, "publisher", "", self.id, self._spoke_to)
            self._socket = ClientSocket(self.world, self._broker, self, hello)

    def _pump(self) -> None:
        if self._socket is not None:
            self._socket.write(b"".join(self._outbox.writable()))


class Subscriber:
    """One session over its application's lives; everything it is handed goes through the checkers.

    `keeps`: "nothing" (an application that never restarts), "position" (stores it with its state), "name".
    """

    def __init__(
        self,
        world: World,
        name: str,
        broker: SimBroker,
        patterns: tuple[str, ...],
        *,
        keeps: str,
        start: str,
        mute: Publisher | None,
        pace_ms: int,
    ) -> None:
        self.world = world
        self.name = name
        self.id = mute.id if mute is not None else world.chance.randbytes(16)
        self.broker = broker
        self.keeps = keeps
        self.stopped = False
        self.lives = 1
        self.resumes = 0
        self._patterns = patterns
        self._echo = mute is None
        self._start = start
        self._pace_ms = pace_ms
        self._filter = Filter(patterns)
        self.checked = self._new_reader()
        self._socket: ClientSocket | None = None
        self._life = 0
        self._stored: str | None = None
        # Where a named session stood, as far as producers know it, when its own broker forgot it.
        self._remembered: dict[str, Place] = {}
        self._memory_lost = False
        # Whether its broker has ever had to learn of it from producers.
        self._lived_before = False
        self._begin(None)
        self._connect(0)

    def _begin(self, positions: dict[str, Position] | None) -> None:
        """A life begins, with nothing but what was kept."""
        name = self.name if self.keeps == "name" else None
        self._session = Session(self._patterns, self._start, positions, name, self._echo)
        self._inbox = Inbox(RAW)
        self._inbox.begin(positions or {})
        self._stood = False
        self._known: set[str] = set()
        self._acknowledged: dict[str, Position] = {}
        self._oldest: dict[tuple[str, str, int], int] = {}
        self._plan_consume(self._life)

    def restart(self) -> None:
        """The application's process dies and comes back with what it kept."""
        if self.keeps == "nothing" or not self._stood:
            return
        self._life += 1
        self.lives += 1
        if self._socket is not None:
            self._socket.alive = False
            self._socket.cut()
            self._socket = None
        if self.keeps == "position":
            assert self._stored is not None
            positions = load_positions(json.loads(self._stored))
            self.checked.resumes((n, (p.epoch.hex(), p.offset)) for n, p in positions.items())
            self._begin(positions)
        else:
            self._begin(None)
        life = self._life
        self.world.clockwork.after(
            self.world.chance.randint(1, 500) * MS, lambda: self._connect(life)
        )

    def cut(self) -> None:
        if self._socket is not None:
            self._socket.cut()

    def reads(self) -> bool:
        return not self._inbox.full

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        if socket is not self._socket:
            return
        session = self._session
        match frame:
            case Welcome():
                socket.send(session.subscribe())
                if session.stood:
                    self.resumes += 1
            case Subscribed():
                self._known = set(frame.positions)
                self._subscribed(frame)
            case Told():
                self._known.add(frame.node)
                self._put(session.told(frame))
            case Entry():
                self._put(session.entry(frame))
            case Skip():
                self._put(session.skip(frame))
            case CursorExpired():
                self._known.add(frame.node)
                self._inbox.put(session.expired(frame))
                view = frame.view
                self._oldest[frame.node, view.epoch.hex(), view.next] = view.oldest
            case Refused():
                socket.cut()
            case _:
                raise Violation(f"{self.name} received {frame}")

    def lost(self, socket: ClientSocket) -> None:
        if socket is self._socket:
            self._socket = None
            life = self._life
            self.world.clockwork.after(
                self.world.chance.randint(1, 300) * MS, lambda: self._connect(life)
            )

    def broker_lost_memory(self) -> None:
        """Its broker crashed: of a named session only the producers know now, if they do."""
        self._memory_lost = True
        self._remembered = {}
        for node, place in self.checked.at.items():
            producer = self.world.brokers[node].node
            registered = producer.registry.get(self.broker.name) if producer is not None else None
            if (
                registered is not None
                and self.name in registered.named
                and node != self.broker.name
            ):
                self._remembered[node] = place

    @property
    def has_all(self) -> bool:
        return all(self.checked.has_all(node) for node in self.world.brokers)

    def _connect(self, life: int) -> None:
        if self._life != life or self._socket is not None or self.stopped:
            return
        if self.broker.node is None:
            self.world.clockwork.after(100 * MS, lambda: self._connect(life))
            return
        self._known = set()
        hello = Hello(MAGIC, VERSION, VERSION, "session", "", self.id)
        self._socket = ClientSocket(self.world, self.broker, self, hello)

    def _subscribed(self, answer: Subscribed) -> None:
        first = not self._session.stood
        news = self._session.subscribed(answer)
        if not first:
            self._memory_lost = False
            for moved in news:
                self._inbox.put(moved)
            return
        self._stood = True
        if self.lives == 1:
            self.checked.born_ns = self.world.clockwork.now_ns
        self._inbox.begin(self._session.received)
        if self.lives > 1 and self.keeps == "name":
            if self._memory_lost:
                # Only producers can know this session; what they do not know begins anew.
                self.checked = self._new_reader()
                self.checked.remembered = self._remembered
                self._lived_before = True
            else:
                places = [(n, (p.epoch.hex(), p.offset)) for n, p in answer.positions.items()]
                self.checked.resumes(places)
        self._memory_lost = False
        self._look()
        self._keep()

    def _put(self, event: Event | None) -> None:
        if event is not None:
            self._inbox.put(event)

    def _plan_consume(self, life: int) -> None:
        def consume() -> None:
            if self._life != life or self.stopped:
                return
            self._consume(self.world.chance.randint(1, 50))
            self.world.clockwork.after(
                self.world.chance.randint(0, self._pace_ms) * MS + MS, consume
            )

        self.world.clockwork.after(MS, consume)

    def _consume(self, most: int) -> None:
        inbox = self._inbox
        for _ in range(most):
            if inbox.told:
                inbox.pass_gap()
            if not inbox.messages and inbox.notice is None and not inbox.advance():
                break
            self._look()
            if inbox.notice is not None:
                notice = inbox.notice
                self._expired(
                    notice.node, notice.reason, notice.missed, (notice.epoch, notice.next)
                )
                inbox.told = True
            else:
                message = inbox.messages.pop()
                self.checked.message(
                    message.node, message.epoch, message.offset, message.topic, message.raw
                )
            self._look()
        self._look()
        if self._stood:
            self._keep()
        if self._socket is not None and inbox.room:
            self._socket.wire.back.plan()

    def _look(self) -> None:
        """What the application can see of its position, and what has become new in it."""
        for node, position in self._inbox.positions().items():
            place = (position.epoch.hex(), position.offset)
            at = self.checked.at.get(node)
            if at is None:
                self.checked.stands(node, place)
            elif at != place:
                self.checked.moves(node, place)

    def _expired(
        self, node: str, reason: Reason, missed: int | None, place: tuple[str, int]
    ) -> None:
        oldest = self._oldest[node, *place]
        at = self.checked.at.get(node)
        own = node == self.broker.name and self._lived_before
        if own and at is not None and at[0] == place[0] and reason is Reason.STATE_LOST:
            self.checked.lost_own(node, place, oldest)
            return
        self.checked.expires(node, reason, missed, place, oldest)

    def _keep(self) -> None:
        """What a next life needs, kept with all that was handed out."""
        positions = self._inbox.positions()
        if self.keeps == "position":
            self._stored = json.dumps(dump_positions(positions))
        elif self.keeps == "name" and self._socket is not None:
            for node, position in self._inbox.settled(
                self._inbox.messages[-1].offset if self._inbox.messages else None
            ).items():
                if node not in self._known or self._acknowledged.get(node) == position:
                    continue
                if self.world.chance.random() < 0.7:
                    self._acknowledged[node] = position
                    self._socket.send(Ack(node, position))

    def _new_reader(self) -> Reader:
        now_ns = self.world.clockwork.now_ns
        earliest = self._start == "earliest"
        return Reader(self.name, self.world.truth, self._wants, now_ns, earliest=earliest)

    def _wants(self, message: Published) -> bool:
        return (
            self._filter.wants(message.topic)
            and (message.to is None or message.to == self.broker.name)
            and (self._echo or message.publisher != self.id)
        )

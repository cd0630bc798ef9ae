"""Nodes and their clients, connected by pipes in memory, under a clock that only the test moves.

    net = Net()
    net.start("a"); net.start("b", peers=["a"])
    net.run()                      # until all ends are quiet
    net.advance(1.5)               # seconds, tick by tick

A node that has a disk is kept on it, as far as `write` is called. A pipe can be cut, or made to swallow what goes one
way. `Subscriber` checks on its own account that no
offset is missing or comes twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from tests.feeding import feed
from tests.unit.core.journal.disk import Disk
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.access.remote import Channel, Remote
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.life import MemoryRecord
from pubsubd_broker.core.journal.whole_end import Evidence, Found, lost_at
from pubsubd_broker.core.limits import FETCH_BYTES, SECOND_NS, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.observe.notices import Notice
from pubsubd_broker.core.observer import Observer
from pubsubd_broker.core.status import report
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    Ack,
    CursorExpired,
    FilterSet,
    Frame,
    Hello,
    Query,
    Receipt,
    Refused,
    Rejected,
    Report,
    SetFilter,
    Skip,
    StreamPosition,
    Subscribe,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch, Position
from pubsubd_protocol.proof import NONCE_BYTES

F = TypeVar("F", bound=Frame)

TICK_S = 0.25
CHANCE = 0.5


class Pipe:
    """Two connections, or a connection and a raw client, and the bytes between them."""

    def __init__(self, net: Net, dialler: Connection | RawClient, server: Connection) -> None:
        self.net = net
        self.ends: tuple[Connection | RawClient, Connection] = (dialler, server)
        self.open = True
        self.swallows: set[Connection | RawClient] = set()
        """Ends whose bytes are lost on the way. Neither end notices."""
        self.sent: dict[Connection | RawClient, int] = {dialler: 0, server: 0}
        """Bytes that each has sent, lost ones too."""

    def swallow(self, sender: Connection | RawClient) -> None:
        self.swallows.add(sender)

    def other(self, end: Connection | RawClient) -> Connection | RawClient:
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def carry(self, sender: Connection | RawClient, data: bytes) -> None:
        self.sent[sender] += len(data)
        if self.open and data and sender not in self.swallows:
            self.net.deliver(self.other(sender), data)

    def cut(self, *notices: Connection | RawClient) -> None:
        """Ends the pipe. Only the ends in `notices` learn of it; by default both."""
        if self.open:
            self.open = False
            self.net.pipes.remove(self)
            for end in notices or self.ends:
                self.net.lose(end)


class Net:
    """All that there is in one test."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.pipes: list[Pipe] = []
        self.notices: dict[str, list[Notice]] = {}
        self.unreachable: set[tuple[str, str]] = set()
        """(from, to): a dial that fails."""
        self.observers: dict[str, Observer] = {}
        """Observers of nodes, by name."""
        self.mute: set[str] = set()
        """Nodes that accept connections and never speak."""
        self.witnessed = False
        """Whether a node's next life finds how far the one before it had accepted, as where only the process died."""
        self.lives_wait = False
        """Whether the disk takes its time to note a life that peers gave its history: until `begin_lives`."""
        self.crash_on: Callable[[Connection], bool] = lambda connection: False
        self._mono_ns = 1_000 * SECOND_NS
        self._wall_us = 1_700_000_000_000_000
        self.certificates: dict[str, frozenset[str]] = {}
        """Nodes that use TLS, and the names in the certificate of each."""
        self._epochs = 0
        self._callers = 0
        self._peers: dict[str, list[str]] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._disks: dict[str, Disk] = {}
        self._records: dict[str, MemoryRecord] = {}

    @property
    def now(self) -> Now:
        return Now(self._mono_ns, self._wall_us)

    def step_wall_clock(self, seconds: float) -> None:
        self._wall_us += int(seconds * 1_000_000)

    def new_epoch(self) -> Epoch:
        self._epochs += 1
        return Epoch(self._epochs.to_bytes(16))

    # Nodes.

    def start(
        self, name: str, peers: Sequence[str] = (), disk: Disk | None = None, **options: Any
    ) -> Node:
        """Starts a node that dials `peers`. Options are those of `Config`; the pace is 0 unless it is given.

        `disk`: on which it is kept, in this life and, by `restart`, in those to come.
        """
        options.setdefault("pace_ns", 0)
        self._peers[name], self._options[name] = list(peers), options
        config = Config(node=options.pop("called", name), **options)
        addresses = [(peer, 1) for peer in peers]
        record = self._record(config.node, in_folder=disk is not None)
        kept = None
        if disk is not None:
            self._disks[name] = disk
            judge = partial(lost_at, evidence=record.evidence) if self.witnessed else None
            kept = disk.kept(config.node, judge)
        observer = self.observers.get(name)
        node = Node(config, self.new_epoch(), addresses, self.now, kept, record, observer, report)
        self.nodes[name] = node
        if node.recovery is None:
            node.own_life.begin()
        if disk is not None and node.keeper is not None:
            disk.perform(node.keeper.begin())
        self.notices.setdefault(name, [])
        return node

    def _record(self, node: str, *, in_folder: bool) -> MemoryRecord:
        """With what the life before it left, if anything."""
        former = self._records.get(node) if self.witnessed else None
        evidence = Evidence(boot=b"b" * 16)
        if former is not None and former.left is not None:
            left = Found(former.left, bound=True)
            evidence = replace(evidence, folder=left if in_folder else None, beside=left)
        elif former is not None:
            # It never began: what was there before it still is.
            evidence = former.evidence
        record = self._records[node] = MemoryRecord(node, evidence)
        return record

    def stop(self, name: str, *, silently: bool = False) -> None:
        """Crashes a node: only its disk is left. `silently`: no other end notices, as when the machine is gone."""
        node = self.nodes.pop(name)
        for pipe in list(self.pipes):
            ours = [end for end in pipe.ends if end in node.connections]
            if ours and silently:
                for end in pipe.ends:
                    pipe.swallow(end)
            elif ours:
                pipe.cut(*(end for end in pipe.ends if end not in ours))

    def restart(self, name: str, **changes: Any) -> Node:
        """The same node in a new life, without its past but for what is on its disk."""
        if name in self.nodes:
            self.stop(name)
        disk = self._disks.get(name)
        return self.start(name, self._peers[name], disk, **(self._options[name] | changes))

    def write(self, name: str) -> None:
        """Does all writes of the node's journal, and lets waiting publishers go on."""
        keeper = self.nodes[name].keeper
        assert keeper is not None
        while (work := keeper.take(self.now)) is not None:
            self._disks[name].perform(work)
            keeper.done(self.now)
            self.run()

    # Links.

    def link(self, consumer: str, producer: str) -> Pipe:
        """The open link over which `consumer` pulls `producer`'s stream."""
        for pipe in self.pipes:
            dialler, server = pipe.ends
            if (
                isinstance(dialler, Connection)
                and dialler in self.nodes[consumer].connections
                and server in self.nodes[producer].connections
            ):
                return pipe
        raise AssertionError(f"{consumer} has no link to {producer}")

    def linked(self, consumer: str, producer: str) -> bool:
        try:
            self.link(consumer, producer)
        except AssertionError:
            return False
        return True

    def part(self, one: str, other: str) -> None:
        """No link between these two, neither now nor later."""
        self.unreachable |= {(one, other), (other, one)}
        for a, b in ((one, other), (other, one)):
            if self.linked(a, b):
                self.link(a, b).cut()

    def heal(self, one: str, other: str) -> None:
        self.unreachable -= {(one, other), (other, one)}

    # Time.

    def run(self) -> None:
        """Runs until no end has more to say at this moment."""
        for _ in range(10_000):
            self._dial()
            if not self.lives_wait:
                self.begin_lives()
            if not any(node.ready for node in self.nodes.values()):
                self._collect()
                return
            for node in list(self.nodes.values()):
                for connection in node.ready.take():
                    self._pump(node, connection)
                node.pulled(self.now)
        raise AssertionError("they talk without end")

    def begin_lives(self) -> None:
        """Notes the lives for which it is known what they go on with."""
        for node in self.nodes.values():
            if node.recovery is not None and node.recovery.decided:
                node.own_life.begin()
                node.life_begun()

    def advance(self, seconds: float) -> None:
        """Lets time pass, tick by tick."""
        while seconds > 0:
            step = min(TICK_S, seconds)
            seconds -= step
            self._mono_ns += int(step * SECOND_NS)
            self._wall_us += int(step * 1_000_000)
            for node in list(self.nodes.values()):
                node.tick(self.now)
            self.run()

    # Moves of the pipes.

    def deliver(self, end: Connection | RawClient, data: bytes) -> None:
        if isinstance(end, RawClient):
            end.took(data)
            return
        node = self.node_of(end)
        if node is None:
            return
        rest = memoryview(data)
        while rest:
            space = end.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            try:
                if self.crash_on(end):
                    raise RuntimeError("a bug")
                end.received(count, self.now)
            except Exception as error:
                if not isinstance(error, RuntimeError):
                    raise
                end.failed(error)
            rest = rest[count:]

    def lose(self, end: Connection | RawClient) -> None:
        if isinstance(end, RawClient):
            end.lost = True
        elif self.node_of(end) is not None:
            end.lost(self.now, CHANCE)

    def node_of(self, connection: Connection) -> Node | None:
        for node in self.nodes.values():
            if connection in node.connections:
                return node
        return None

    def events(self, name: str) -> list[str]:
        """The names of a node's notices, in order."""
        self._collect()
        return [notice.event for notice in self.notices[name]]

    def said(self, name: str, event: str) -> list[dict[str, object]]:
        """The fields of every notice of this kind."""
        self._collect()
        return [notice.fields for notice in self.notices[name] if notice.event == event]

    def _collect(self) -> None:
        for name, node in self.nodes.items():
            self.notices[name] += node.notices.take()

    def _dial(self) -> None:
        for name, node in list(self.nodes.items()):
            for target in node.due(self.now):
                self._connect(name, node, target)

    def remote(self, label: str, channel: Channel | None = None) -> Remote:
        """A remote end of which only the label is known."""
        self._callers += 1
        nonce = self._callers.to_bytes(NONCE_BYTES)
        return Remote(label, host=f"{label} {self._callers}", nonce=nonce, channel=channel)

    def _channels(self, name: str, called: str) -> tuple[Channel | None, Channel | None]:
        """The two ends of a TLS channel, as each end knows the other."""
        if name not in self.certificates:
            return None, None
        binding = f"channel {self._callers}".encode()
        return (
            Channel(self.certificates[called], binding),
            Channel(self.certificates[name], binding),
        )

    def _connect(self, name: str, node: Node, target: Target) -> None:
        called = target.address[0]
        if called not in self.nodes or (name, called) in self.unreachable:
            node.dial_failed(target, "no answer", self.now, CHANCE)
            return
        ours, theirs = self._channels(name, called)
        dialled = node.dialled(target, self.remote(target.label, ours), self.now)
        accepted = self.nodes[called].accept(self.remote(name, theirs), self.now, peers=True)
        pipe = Pipe(self, dialled, accepted)
        if called in self.mute:
            pipe.swallow(accepted)
            pipe.swallow(dialled)
        self.pipes.append(pipe)

    def _pump(self, node: Node, connection: Connection) -> None:
        pipe = next((pipe for pipe in self.pipes if connection in pipe.ends), None)
        if pipe is None:
            return
        if not (connection.writable or connection.closing):
            connection.go_on(self.now)
            return
        pipe.carry(connection, b"".join(connection.pull(FETCH_BYTES, self.now)))
        if connection.closing:
            pipe.cut()


class RawClient:
    """A remote end that sends frames of a test's choice. `frames`: the node's answers."""

    def __init__(
        self,
        net: Net,
        name: str,
        role: str = "control",
        *,
        peer: str = "",
        life: bytes = b"",
        spoke_to: bytes | None = None,
        greets: bool = True,
        peers: bool | None = None,
        remote: Remote | None = None,
    ) -> None:
        self.net = net
        self.node_name = name
        self.life = life or net.new_epoch()
        self.frames: list[Frame] = []
        self.lost = False
        self._reader = FrameReader(2**30)
        at_peers = role == "peer" if peers is None else peers
        remote = remote or net.remote(f"raw {role}")
        self.connection = net.nodes[name].accept(remote, net.now, peers=at_peers)
        self.pipe = Pipe(net, self, self.connection)
        net.pipes.append(self.pipe)
        if greets:
            self.send(Hello(MAGIC, VERSION, VERSION, role, peer, self.life, spoke_to))

    def send(self, *frames: Frame) -> None:
        for frame in frames:
            self.send_bytes(encode(frame))

    def send_bytes(self, data: bytes) -> None:
        self.pipe.carry(self, data)
        self.net.run()

    def took(self, data: bytes) -> None:
        for frame in feed(self._reader, data):
            self.frames.append(decode(frame))

    def cut(self) -> None:
        self.pipe.cut()
        self.net.run()

    def stop_reading(self) -> None:
        """Fills the socket buffer of this end for good."""
        self.connection.writable = False

    def read_on(self) -> None:
        self.connection.writable = True
        self.connection.wake()
        self.net.run()

    def forget(self) -> None:
        """Forgets what it was answered, but for the greeting."""
        del self.frames[1:]

    def of(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    @property
    def last(self) -> Frame:
        return self.frames[-1]

    @property
    def refusal(self) -> str | None:
        """The code with which it was turned away."""
        refused = self.of(Refused)
        return refused[0].code if refused else None

    @property
    def detail(self) -> str:
        """The detail of the refusal."""
        return self.of(Refused)[0].detail

    @property
    def welcome(self) -> Welcome:
        return self.of(Welcome)[0]


class Publisher(RawClient):
    """Publishes one batch at a time."""

    def __init__(self, net: Net, name: str, **options: Any) -> None:
        super().__init__(net, name, "publisher", **options)
        self.sequence = 0

    def publish(
        self, *payloads: bytes | str, topic: str = "t", to: str | None = None
    ) -> Receipt | Rejected:
        self.sequence += 1
        return self.batch(self.sequence, *payloads, topic=topic, to=to)

    def fill(self, batches: int, payload: bytes = b"") -> None:
        """Publishes this number of batches, each of one message."""
        for _ in range(batches):
            self.publish(payload)

    def batch(
        self,
        sequence: int,
        *payloads: bytes | str,
        topic: str = "t",
        to: str | None = None,
        retry: bool = False,
    ) -> Receipt | Rejected:
        messages = [(topic, p.encode() if isinstance(p, str) else p) for p in payloads or (b"",)]
        self.send(batch_of(messages, sequence=sequence, retry=retry, to=to))
        answer = self.last
        assert isinstance(answer, (Receipt, Rejected)), answer
        return answer


class Subscriber(RawClient):
    """A session's client. `log` is what it was given, a word or an offset at a time.

    Raises at once where an offset is missing, comes twice, or comes before the session was told its place.
    """

    def __init__(
        self,
        net: Net,
        name: str,
        *patterns: str,
        start: str = "latest",
        positions: dict[str, Position] | None = None,
        born: bytes | None = None,
        session: str | None = None,
        echo: bool = True,
        life: bytes = b"",
        acknowledged: dict[str, Position] | None = None,
        remote: Remote | None = None,
        session_id: bytes | None = None,
    ) -> None:
        self.positions: dict[str, Position] = dict(positions or {})
        self.log: dict[str, list[object]] = {}
        self.payloads: list[bytes] = []
        self.filter_set: dict[str, Position] | None = None
        self.born = born
        self.session = session
        self.session_id = session_id
        self.resumed = False
        self.subscribed = False
        super().__init__(net, name, "session", life=life, remote=remote)
        self.send(
            Subscribe(
                patterns or (">",), start, positions, born, session, echo, acknowledged, session_id
            )
        )

    def again(self, *patterns: str, name: str | None = None) -> Subscriber:
        """The same session over a new connection, as it would present itself."""
        return Subscriber(
            self.net,
            name or self.node_name,
            *patterns,
            positions=dict(self.positions),
            born=self.born,
            session=self.session,
            life=self.life,
            session_id=self.session_id,
        )

    def acknowledge(
        self, node: str, position: Position | None = None, *, noticed: bool = False
    ) -> None:
        losses = [f for f in self.frames if isinstance(f, CursorExpired) and f.node == node]
        epoch = losses[-1].view.epoch if noticed and losses else None
        self.send(Ack(node, position or self.positions[node], noticed=noticed, loss=epoch))

    def change(self, *patterns: str) -> None:
        self.send(SetFilter(patterns))

    def of_node(self, node: str) -> list[object]:
        """Offsets and words, as they came."""
        return self.log.get(node, [])

    def took(self, data: bytes) -> None:
        before = len(self.frames)
        super().took(data)
        for frame in self.frames[before:]:
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Subscribed(positions, born, resumed):
                self.positions = positions | self.positions
                self.born, self.resumed, self.subscribed = self.born or born, resumed, True
            case StreamPosition(node, position):
                assert node not in self.positions, f"told twice of {node}"
                self.positions[node] = position
                self._note(node, f"told {position.offset}")
            case Entry():
                held = self._follows(frame.node, frame.first, frame.next)
                columns = open_entry(frame)
                for offset, raw in zip(columns.offsets, columns.raws(), strict=True):
                    if offset >= held:
                        self._note(frame.node, offset)
                        self.payloads.append(raw)
                self.positions[frame.node] = Position(frame.epoch, frame.next)
            case Skip(node, epoch, first, following):
                self._follows(node, first, following)
                self.positions[node] = Position(epoch, following)
            case CursorExpired(node, reason, _, view):
                self.positions[node] = view.place(view.next)
                self._note(node, str(reason))
            case FilterSet(positions):
                self.filter_set = positions

    def _follows(self, node: str, first: int, following: int) -> int:
        assert node in self.positions, f"a message of {node} before a position in it"
        held = self.positions[node].offset
        assert first <= held, f"{node}: {held}..{first} is missing"
        assert held < following, f"{node}: {first}..{following} comes twice"
        return held

    def _note(self, node: str, what: object) -> None:
        self.log.setdefault(node, []).append(what)


def query(net: Net, name: str, what: str, argument: str | None = None) -> str:
    """The answer of a node to a command, as JSON text."""
    client = RawClient(net, name, "control")
    client.send(Query(what, argument))
    answer = client.last
    client.cut()
    assert isinstance(answer, Report)
    return answer.json

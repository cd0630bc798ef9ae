"""Connections from outside the cluster: under a name of another node, or with invented positions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from tests.simulation.broker_socket import BrokerSocket
from tests.simulation.brokers import SimBroker, streams_of
from tests.simulation.client_socket import ClientSocket
from tests.simulation.liars.lies import Falsehood
from tests.simulation.liars.producers import TOO_FAR, TOO_LONG, false_entry
from tests.simulation.violation import Violation

from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    CursorExpired,
    Frame,
    Hello,
    Refused,
    Skip,
    StreamPosition,
    Subscribe,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.positions import UNREPORTED_LOSS, Epoch, Position

if TYPE_CHECKING:
    from tests.simulation.world import World


def _hello(name: str, life: bytes, *, magic: str = MAGIC) -> Hello:
    return Hello(magic, VERSION, VERSION, "peer", name, life)


_GREETINGS: Final[Mapping[str, Falsehood]] = {
    "another protocol": Falsehood("greeting", (_hello("liar", bytes(16), magic="kafka"),)),
    "a name that is none": Falsehood("greeting", (_hello("-", bytes(16)),)),
    "no greeting": Falsehood("unexpected_frame", (false_entry("liar", Epoch(bytes(16)), 0),)),
    "too long a greeting": Falsehood("frame_length", (TOO_LONG,)),
}

GREETINGS: Final = {f"stranger: {name}": false for name, false in _GREETINGS.items()}


class Stranger:
    """Sends one frame, and hears the answer. It does not come back."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        """Ignores all frames."""

    def lost(self, socket: ClientSocket) -> None:
        self._world.lies.answered(self)

    def reads(self) -> bool:
        return True


def greets_wrongly(world: World, name: str, chance: random.Random, draw: int) -> bool:
    broker = running(world, chance)
    if broker is None:
        return False
    socket = ClientSocket(world, broker, Stranger(world, f"stranger {draw}"), peers=True)
    receiver = socket.wire.out.receiver
    assert isinstance(receiver, BrokerSocket)
    world.lies.tell(name, GREETINGS[name], socket.wire.out, receiver)
    return True


class Impostor(Stranger):
    """Greets under another's name. It must be refused with this code as long as the owner is there."""

    def __init__(self, world: World, draw: int, what: str, code: str, rightful: _Rightful) -> None:
        super().__init__(world, f"impostor {draw}")
        self._what = what
        self._code = code
        self._rightful = rightful

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        match frame:
            case Refused(code) if code == self._code:
                self._world.counts[f"noticed: {self._what}"] += 1
            case Refused("recovering"):
                pass
            case _ if self._rightful():
                raise Violation(f"lies: {self._what} was answered {frame}, expected {self._code}")
        self._world.lies.answered(self)
        socket.cut()


_Rightful = Callable[[], bool]
"""Whether the name's owner is still linked."""


def _own_name(
    world: World, chance: random.Random
) -> tuple[SimBroker, Hello, str, _Rightful] | None:
    broker = running(world, chance)
    if broker is None:
        return None
    return broker, _hello(broker.name, bytes(16)), "name_in_use", lambda: True


def _itself(world: World, chance: random.Random) -> tuple[SimBroker, Hello, str, _Rightful] | None:
    broker = running(world, chance)
    if broker is None or broker.node is None:
        return None
    life = broker.life
    return broker, _hello(broker.name, broker.node.epoch), "self", lambda: broker.life == life


def _others_name(
    world: World, chance: random.Random
) -> tuple[SimBroker, Hello, str, _Rightful] | None:
    links = [w for w in world.links() if _attached(w.out.receiver)]
    if not links:
        return None
    link = chance.choice(links)
    name, producer = link.ends
    hello = _hello(name, bytes(16))
    return world.brokers[producer], hello, "name_in_use", lambda: _attached(link.out.receiver)


def _attached(end: object) -> bool:
    """Whether this end serves a consumer that has attached."""
    if not isinstance(end, BrokerSocket) or end.is_gone or end.connection.closing:
        return False
    producer = end.connection.end
    return isinstance(producer, ProducerEnd) and producer._cursor is not None


_NAMES: Final[
    Mapping[
        str,
        Callable[[World, random.Random], tuple[SimBroker, Hello, str, _Rightful] | None],
    ]
] = {
    "the receiver's own name": _own_name,
    "the receiver's own name and life": _itself,
    "the name of a broker that is linked": _others_name,
}

NAMES: Final = {f"stranger: {name}": who for name, who in _NAMES.items()}


def impersonates(world: World, name: str, chance: random.Random, draw: int) -> bool:
    found = NAMES[name](world, chance)
    if found is None:
        return False
    broker, hello, code, rightful = found
    if broker.node is None:
        return False
    if world.plan.secret:
        # The impostor does not even learn which name is taken.
        code, rightful = "secret", lambda: True
    world.say(f"{name}, to {broker.name}")
    owner = Impostor(world, draw, name, code, rightful)
    world.lies.asked(owner)
    ClientSocket(world, broker, owner, peers=True).send(hello)
    return True


def running(world: World, chance: random.Random) -> SimBroker | None:
    brokers = [b for b in world.brokers.values() if b.node is not None]
    return chance.choice(brokers) if brokers else None


class MadeUp(Stranger):
    """A session that presents positions that it never had.

    It must be told of each, before any message of that stream.
    """

    def __init__(
        self, world: World, draw: int, broker: SimBroker, what: str, positions: dict[str, Position]
    ) -> None:
        super().__init__(world, f"made-up {draw}")
        self._broker = broker
        self._what = what
        self._presented = positions
        self._left = set(positions)

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        match frame:
            case Welcome() | Subscribed() | Refused():
                pass
            case CursorExpired(node) if node in self._left:
                self._judge(frame)
                self._left.remove(node)
                if not self._left:
                    self._world.counts[f"noticed: {self._what}"] += 1
                    self._world.lies.answered(self)
                    socket.cut()
            case Entry(node=node) | Skip(node=node) | StreamPosition(node=node) if (
                node in self._left
            ):
                raise Violation(f"lies: {self.name} was not told of {node} before {frame}")
            case _:
                pass

    def _judge(self, expired: CursorExpired) -> None:
        presented = self._presented[expired.node]
        known = expired.view.reach(presented.epoch) is not None
        right = Reason.AHEAD if known else Reason.STATE_LOST
        if expired.reason is not right or expired.missed is not None:
            raise Violation(f"lies: {self.name} presented {presented}, was told {expired}")


def _far(broker: SimBroker, chance: random.Random) -> dict[str, Position]:
    """Positions beyond the end of every stream that this broker knows."""
    assert broker.node is not None
    far = chance.choice([10**6, TOO_FAR])
    return {
        s.node: Position(s.log.end_position.epoch, s.log.end_position.offset + far)
        for s in streams_of(broker.node)
    }


def _foreign(broker: SimBroker, chance: random.Random) -> dict[str, Position]:
    """Positions in histories that no node ever had."""
    assert broker.node is not None
    epoch = Epoch(chance.randbytes(16))
    return {
        s.node: Position(epoch, chance.choice([0, 3, TOO_FAR])) for s in streams_of(broker.node)
    }


_POSITIONS: Final = {
    "positions beyond every end": _far,
    "positions of no history": _foreign,
}
POSITIONS: Final = {f"session: {name}": made_up for name, made_up in _POSITIONS.items()}


def makes_up_positions(world: World, name: str, chance: random.Random, draw: int) -> bool:
    broker = running(world, chance)
    if broker is None or broker.node is None or broker.node.recovery is not None:
        return False
    positions = POSITIONS[name](broker, chance)
    owner = MadeUp(world, draw, broker, name, positions)
    named = owner.name if chance.random() < 0.5 else None
    world.say(f"{owner.name} on {broker.name} presents {sorted(positions)}")
    world.lies.asked(owner)
    socket = ClientSocket(world, broker, owner)
    socket.send(Hello(MAGIC, VERSION, VERSION, "session", "", chance.randbytes(16)))
    socket.send(
        Subscribe((">",), "latest", {**positions, "elsewhere": UNREPORTED_LOSS}, None, named, True)
    )
    return True

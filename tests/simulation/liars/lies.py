"""What was said and is not true: each lie has to end its own connection, soon, with the error that names the rule."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simulation.brokers import BrokerSocket
from tests.simulation.clockwork import MS
from tests.simulation.truth import Truth
from tests.simulation.violation import Violation
from tests.simulation.wires import Pipe

from pubsubd_broker.core.links.connection import Connection
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Frame

if TYPE_CHECKING:
    from tests.simulation.world import World

FALSE: Final = b"nobody published this"
"""What every false message holds: whoever is handed it has been lied to."""

LONGEST_MS: Final = 10_000
"""Virtual time within which a lie is noticed, or the connection is broken by something else."""

LOOKS_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Falsehood:
    """What goes over the wire, and the kind of violation that it has to be."""

    kind: str
    said: tuple[Frame | bytes, ...]

    @property
    def wire(self) -> bytes:
        return b"".join(each if isinstance(each, bytes) else encode(each) for each in self.said)


@dataclass(frozen=True, slots=True)
class Lie:
    """One that was told. It has been heard when `end` bytes of `pipe` have come to `receiver`."""

    name: str
    kind: str
    receiver: BrokerSocket
    pipe: Pipe
    end: int
    told_ns: int

    @property
    def heard(self) -> bool:
        return self.pipe.arrived >= self.end and self.receiver.connection.wants_more


Forge = Callable[[BrokerSocket, list[bytes]], tuple[list[bytes], str] | None]
"""Makes a lie of what a broker is about to write: what it writes instead, and the kind; None: not of this."""


class Lies:
    """Those of one run that nobody has noticed yet, and those that wait for their moment."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: list[Lie] = []
        self._armed: dict[str, Forge] = {}
        self._asked: set[object] = set()

    def tell(self, name: str, false: Falsehood, pipe: Pipe, receiver: BrokerSocket) -> None:
        """Says it now, behind all that was said before."""
        pipe.send(false.wire)
        self._await(name, false.kind, receiver, pipe, pipe.sent)

    def asked(self, stranger: object) -> None:
        """Somebody asks for what it must not get: it waits to be told so, or that its connection is gone."""
        self._asked.add(stranger)

    def answered(self, stranger: object) -> None:
        self._asked.discard(stranger)

    def arm(self, name: str, forge: Forge) -> bool:
        """The next thing that any broker writes, of which `forge` can make a lie, becomes one."""
        if name in self._armed:
            return False
        self._armed[name] = forge
        return True

    def disarm(self) -> None:
        """No further lie is told."""
        self._armed.clear()

    def forge(self, socket: BrokerSocket, pipe: Pipe, buffers: list[bytes]) -> list[bytes]:
        """What `socket` writes, honest or not, as it goes into `pipe`."""
        receiver = pipe.receiver
        if not self._armed or not buffers or not isinstance(receiver, BrokerSocket):
            return buffers
        for name, forge in self._armed.items():
            forged = None if socket.deaf or receiver.deaf else forge(socket, buffers)
            if forged is not None:
                del self._armed[name]
                said, kind = forged
                socket.deaf = True
                self._await(name, kind, receiver, pipe, pipe.sent + sum(map(len, said)))
                return said
        return buffers

    def accused(self, node: str, label: object, kind: object) -> bool:
        """`node` says that the other end of a connection broke the protocol: whether that one has lied so."""
        for lie in self._told:
            receiver = lie.receiver
            if (
                (receiver.broker.name, receiver.connection.label, lie.kind) == (node, label, kind)
                and receiver.connection.closing
                and not receiver.is_gone
            ):
                self._told.remove(lie)
                self._world.counts[f"noticed: {lie.name}"] += 1
                return True
        return False

    def heard(self, receiver: BrokerSocket, before: Set[Connection]) -> None:
        """Something came in; `before`: the other connections of that broker that were to end anyway."""
        if any(lie.receiver is receiver for lie in self._told) and receiver.connection.closing:
            more = receiver.broker.closing(receiver) - before
            if more:
                labels = [connection.label for connection in more]
                raise Violation(f"lies: {receiver.broker.name} has cut off {labels} as well")

    def _await(self, name: str, kind: str, receiver: BrokerSocket, pipe: Pipe, end: int) -> None:
        now_ns = self._world.clockwork.now_ns
        lie = Lie(name, kind, receiver, pipe, end, now_ns)
        self._world.say(f"{name}, to {receiver.broker.name} over {receiver.connection.label}")
        self._told.append(lie)
        self._plan_look(lie)

    def _plan_look(self, lie: Lie) -> None:
        def look() -> None:
            if not any(lie is told for told in self._told):
                return
            late = self._world.clockwork.now_ns - lie.told_ns > LONGEST_MS * MS
            if lie.receiver.is_gone or lie.receiver.connection.closing:
                # Something else broke the connection before it was heard.
                self._told.remove(lie)
                self._world.counts["lies lost on their way"] += 1
            elif lie.heard or late:
                node = lie.receiver.broker.name
                raise Violation(
                    f"lies: {node} did not notice {lie.name!r}, expected was {lie.kind}"
                )
            else:
                self._plan_look(lie)

        self._world.clockwork.after(LOOKS_MS * MS, look)

    def nothing_stuck(self, truth: Truth) -> None:
        """What a lying publisher said is in no stream. What others said no reader is handed: that is G2."""
        for node, stream in truth.items():
            for epoch, messages in stream.messages.items():
                for offset, message in messages.items():
                    if FALSE in message.payload:
                        raise Violation(f"lies: {node} placed one at {offset} of {epoch}")

    @property
    def settled(self) -> bool:
        return not self._told and not self._asked

"""False frames: each has to end its own connection, soon, with the error that names the broken rule."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simulation.broker_socket import BrokerSocket
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
"""The content of every false message: a reader that is handed it was lied to."""

LONGEST_MS: Final = 10_000
"""Virtual time within which a lie is noticed, or the connection breaks for another reason."""

LOOKS_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Falsehood:
    """The false bytes, and the kind of violation that they are."""

    kind: str
    said: tuple[Frame | bytes, ...]

    @property
    def wire(self) -> bytes:
        return b"".join(each if isinstance(each, bytes) else encode(each) for each in self.said)


@dataclass(frozen=True, slots=True)
class Lie:
    """A told lie. It has been heard when `end` bytes of `pipe` have come to `receiver`."""

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
"""ReadyQueue the buffers that a broker is about to write into a lie: other buffers, and the kind. None if it cannot."""


class Lies:
    """The lies of one run that are not noticed yet, and those that wait for their moment."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told: list[Lie] = []
        self._armed: dict[str, Forge] = {}
        self._asked: set[object] = set()

    def tell(self, name: str, false: Falsehood, pipe: Pipe, receiver: BrokerSocket) -> None:
        """Send the lie now, behind all earlier frames."""
        pipe.send(false.wire)
        self._await(name, false.kind, receiver, pipe, pipe.sent)

    def asked(self, stranger: object) -> None:
        """A stranger asks for something that it must not get.

        It waits to be told so, or for the end of its connection.
        """
        self._asked.add(stranger)

    def answered(self, stranger: object) -> None:
        self._asked.discard(stranger)

    def arm(self, name: str, forge: Forge) -> bool:
        """Turn the next writing of any broker into a lie, if `forge` can."""
        if name in self._armed:
            return False
        self._armed[name] = forge
        return True

    def disarm(self) -> None:
        """Tell no further lie."""
        self._armed.clear()

    def forge(self, socket: BrokerSocket, pipe: Pipe, buffers: list[bytes]) -> list[bytes]:
        """The buffers that go into `pipe` when `socket` writes, honest or not."""
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
        """`node` reports a broken protocol at the other end of a connection: whether that end has lied so."""
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
        """Bytes came in. `before`: the other connections of that broker that were to end anyway."""
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
                # The connection broke for another reason before the lie was heard.
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
        """No message of a lying publisher is in a stream. G2 checks that no reader is handed a false message."""
        for node, stream in truth.items():
            for epoch, messages in stream.messages.items():
                for offset, message in messages.items():
                    if FALSE in message.payload:
                        raise Violation(f"lies: {node} placed one at {offset} of {epoch}")

    @property
    def settled(self) -> bool:
        return not self._told and not self._asked

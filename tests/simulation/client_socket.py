"""A simulated application's connection to its own broker, greeted and cut into frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tests.feeding import feed
from tests.simulation.brokers import SimBroker
from tests.simulation.wires import Pipe, Wire

from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.frames import Frame, Hello
from pubsubd_protocol.framing import FrameReader

if TYPE_CHECKING:
    from tests.simulation.world import World

LARGEST_FRAME = 32 * 2**20


class Owner(Protocol):
    """The application behind the connection."""

    name: str

    def received(self, socket: ClientSocket, frame: Frame) -> None: ...
    def lost(self, socket: ClientSocket) -> None: ...
    def reads(self) -> bool: ...


class ClientSocket:
    """A connection to the application's own broker, greeted and cut into frames."""

    def __init__(
        self,
        world: World,
        broker: SimBroker,
        owner: Owner,
        hello: Hello | None = None,
        *,
        peers: bool = False,
    ) -> None:
        """`peers`: whether the connection comes to the door for brokers."""
        self.wire: Wire = world.wire(broker.name, broker.name)
        self.alive = True
        self._world = world
        self._owner = owner
        self._reader = FrameReader(LARGEST_FRAME)
        self._out: Pipe = self.wire.out
        self.other = broker.accept(self.wire, peers=peers, label=owner.name)
        self.wire.join(self, self.other)
        if hello is not None:
            self.send(hello)

    def send(self, frame: Frame) -> None:
        self.write(encode(frame))

    def write(self, data: bytes) -> None:
        if self.alive:
            self._out.send(data)

    def bytes_in(self, data: bytes) -> None:
        self._world.came(self._owner.name, data)
        for view in feed(self._reader, data):
            if self.alive:
                self._owner.received(self, decode(view))

    def has_room(self) -> None:
        """An application's writes are small; the outbox's window bounds them."""

    def finish(self) -> None:
        """Say goodbye: the broker may still answer."""
        self._out.finish()

    def ended(self) -> bool:
        return False

    def gone(self) -> None:
        if self.alive:
            self.alive = False
            self._owner.lost(self)

    def reads(self) -> bool:
        return not self.alive or self._owner.reads()

    def cut(self) -> None:
        self.wire.cut(silent=False)

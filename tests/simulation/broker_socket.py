"""A broker's end of a simulated connection: bytes go to the node's `Connection` and come from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.clockwork import MS
from tests.simulation.wires import Pipe, Wire

from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_protocol.positions import Position

if TYPE_CHECKING:
    from tests.simulation.brokers import SimBroker


class BrokerSocket:
    """A broker's end of one connection."""

    def __init__(self, broker: SimBroker, connection: Connection, out: Pipe, wire: Wire) -> None:
        self.connection = connection
        self.wire = wire
        self.broker = broker
        self.deaf = False
        """Whether this end has told a lie, and ignores all answers to it."""
        self.passed: dict[str, Position] = {}
        """The place of the session behind this end when its application sent its last word."""
        self._out = out
        self._ended = False

    def bytes_in(self, data: bytes) -> None:
        if self.deaf:
            return
        self.broker.world.came(f"{self.broker.name} {self.connection.label}", data)
        others = self.broker.closing(self)
        view = memoryview(data)
        while view:
            space = self.connection.space()
            count = min(len(space), len(view))
            space[:count] = view[:count]
            view = view[count:]
            self.connection.received(count, self.broker.now)
        self.broker.world.lies.heard(self, others)
        self.broker.flush()

    def has_room(self) -> None:
        self.connection.writable = True
        self.connection.wake()
        self.broker.flush()

    def ended(self) -> bool:
        if self.deaf or self.is_gone:
            return False
        end = self.connection.end
        if isinstance(end, SessionEnd) and end.session is not None:
            self.passed = end.session.positions
        stays = self.connection.finished()
        self.broker.flush()
        return stays

    def part(self) -> None:
        """The broker's process ends cleanly: all that it wrote arrives, and it hears nothing more."""
        self.deaf = True
        self._out.finish()

    def gone(self) -> None:
        self.broker.lost(self)

    @property
    def may_lie(self) -> bool:
        """Whether this end can write now, exactly behind all that it has written."""
        said = not self.connection._outbox
        return said and self.broker.runs and not (self.deaf or self._ended or self.wire.broken)

    @property
    def is_gone(self) -> bool:
        """Whether the broker has given this end up, or lives another life by now."""
        return self.broker.sockets.get(self.connection) is not self

    def reads(self) -> bool:
        return self.broker.runs and (self.deaf or self.connection.wants_more)

    @property
    def nothing_under_way(self) -> bool:
        """Whether all that this end wrote has arrived."""
        return self._out.empty

    def flush(self) -> None:
        if self._ended:
            return
        if self.connection.writable or self.connection.closing:
            world = self.broker.world
            buffers = self.connection.pull(world.plan.quantum_bytes, self.broker.now)
            self.broker.sent(self.connection, buffers)
            buffers = world.lies.forge(self, self._out, buffers)
            for buffer in buffers:
                self._out.send(buffer)
        else:
            self.connection.go_on(self.broker.now)
        if self.connection.closing:
            self._ended = True
            # The other end learns of it behind the last byte, if it can. This end is given up soon.
            self._out.finish()
            self.broker.world.clockwork.after(MS, self.gone)
        else:
            self.connection.writable = not self._out.full
            for pipe in (self.wire.out, self.wire.back):
                pipe.plan()

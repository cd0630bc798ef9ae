"""A simulated publishing application: the SDK's outbox over a simulated connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.brokers import SimBroker
from tests.simulation.client_socket import ClientSocket
from tests.simulation.clockwork import MS
from tests.simulation.receipts import Published
from tests.simulation.violation import Violation

from pubsubd.batching import BatchFailed, OutgoingBatch, Placed
from pubsubd.errors import PublishUnknown
from pubsubd.outbox import Outbox
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    Frame,
    Heartbeat,
    Hello,
    Receipt,
    Refused,
    Rejected,
    Welcome,
)

if TYPE_CHECKING:
    from tests.simulation.world import World


class Sent:
    """A batch, and its publisher's knowledge of it."""

    def __init__(self, outgoing: OutgoingBatch) -> None:
        self.outgoing = outgoing
        self.payloads: list[bytes] = []
        self.written_ns: int | None = None
        """The time of its writing, if its answer was undisturbed since."""
        self.waited_ns: int | None = None
        self.ahead = 0
        """The unanswered batches before it when it was written."""


class Publisher:
    """Publishes on one node; retries unanswered batches, as the SDK does."""

    def __init__(
        self, world: World, name: str, broker: SimBroker, *, copy_of: Publisher | None = None
    ) -> None:
        self.world = world
        self.name = name
        self._chance = world.chance("publisher", name)
        self.id = self._chance.randbytes(16)
        if copy_of is not None:
            self.id = copy_of.id_in(self)
        self.broker = broker
        self._outbox = Outbox(name)
        self._socket: ClientSocket | None = None
        self._spoke_to: bytes | None = None
        self._welcomed = False
        self._count = 0
        self._sent: list[Sent] = []
        self._by_batch: dict[int, Sent] = {}
        """By the `id` of the batch object, which lives as long."""
        self._done = 0
        """All batches before this one have their answer."""
        self._connect()

    def id_in(self, copy: Publisher) -> bytes:
        """The id of a copy of this publisher in another process, which the copy draws, as in the SDK."""
        return copy.id

    def publish(self, topic: str, to: str | None, messages: int) -> bool:
        if not self._welcomed:
            return False
        for _ in range(messages):
            self._count += 1
            payload = f"{self.name}/{self._count}".encode()
            outgoing = self._outbox.put(topic, payload, to, 3600.0)
            if not self._sent or self._sent[-1].outgoing is not outgoing:
                self._sent.append(Sent(outgoing))
                self._by_batch[id(outgoing)] = self._sent[-1]
            self._sent[-1].payloads.append(payload)
        self._outbox.end_turn(self.world.clockwork.now_ns / 1e9)
        self._pump()
        return True

    def history(self) -> list[Published]:
        """The answers to all that it published."""
        return [self._seen(sent) for sent in self._sent]

    def disturbed(self) -> None:
        """The broker was paused, or the connection cut: an answer may take its time."""
        for sent in self._sent:
            sent.written_ns = None

    def reads(self) -> bool:
        return True

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        if socket is not self._socket:
            return
        match frame:
            case Welcome():
                self._spoke_to = frame.epoch
                self._welcomed = True
                for outgoing in self._outbox.connected(frame):
                    self._answered(outgoing)
            case Receipt():
                self._answered(self._outbox.receipt(frame))
            case Rejected():
                self._answered(self._outbox.rejected(frame))
            case Refused():
                socket.cut()
                return
            case Heartbeat():
                return
            case _:
                raise Violation(f"{self.name} received {frame}")
        self._pump()

    def lost(self, socket: ClientSocket) -> None:
        self.disturbed()
        self._outbox.disconnected("lost")
        self._socket = None
        self.world.clockwork.after(self._chance.randint(1, 200) * MS, self._connect)

    def cut(self) -> None:
        if self._socket is not None:
            self.disturbed()
            self._socket.cut()

    @property
    def socket(self) -> ClientSocket | None:
        return self._socket

    @property
    def unanswered(self) -> int:
        """The batches that have no answer yet, written or not."""
        return sum(1 for _ in self._outbox.unfinished())

    @property
    def idle(self) -> bool:
        return self.unanswered == 0

    def _connect(self) -> None:
        if self._socket is None:
            if self.broker.node is None:
                self.world.clockwork.after(100 * MS, self._connect)
                return
            hello = Hello(MAGIC, VERSION, VERSION, "publisher", "", self.id, self._spoke_to)
            self._socket = ClientSocket(self.world, self.broker, self, hello)

    def _pump(self) -> None:
        if self._socket is None:
            return
        self._socket.write(b"".join(self._outbox.writable()))
        if not self.broker.paused:
            while self._done < len(self._sent) and self._sent[self._done].outgoing.outcome:
                self._done += 1
            # Far more than the window: only written batches count.
            unanswered = self._sent[self._done : self._done + 200]
            for ahead, sent in enumerate(unanswered):
                written = sent.outgoing.batch is not None and not sent.outgoing.batch.retry
                if written and sent.written_ns is None:
                    sent.written_ns, sent.ahead = self.world.clockwork.now_ns, ahead

    def _answered(self, outgoing: OutgoingBatch | None) -> None:
        sent = self._by_batch.get(id(outgoing))
        if sent is not None and sent.written_ns is not None:
            sent.waited_ns = self.world.clockwork.now_ns - sent.written_ns

    def _seen(self, sent: Sent) -> Published:
        outcome = sent.outgoing.outcome
        placed = outcome if isinstance(outcome, Placed) else None
        unknown = isinstance(outcome, BatchFailed) and isinstance(outcome.error(), PublishUnknown)
        return Published(
            self.name,
            self.broker.name,
            tuple(sent.payloads),
            placed.epoch if placed is not None else None,
            placed.first if placed is not None else None,
            isinstance(outcome, BatchFailed) and not unknown,
            sent.waited_ns,
            sent.ahead,
        )

"""The publishing side of a blocking client: one connection for all threads, and the outbox behind it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from pubsubd.accumulator import check_target
from pubsubd.batching import BatchFailed, OutgoingBatch, Placed
from pubsubd.chance import chance
from pubsubd.codecs import Codec
from pubsubd.connection import unexpected
from pubsubd.encoding import all_encoded, encoded
from pubsubd.errors import ClientClosed, EncodeError, PublishUnknown
from pubsubd.failures import Failures, failure_of
from pubsubd.loss import cut_off, reason
from pubsubd.outbox import Outbox
from pubsubd.receipts import Receipt, Receipts
from pubsubd.redial import Redial
from pubsubd.sync.bell import Bell
from pubsubd.sync.guard import Guard
from pubsubd.sync.many import BROKEN_OFF, SharedMany, Together
from pubsubd.sync.service import Service
from pubsubd.sync.wire import RECONNECT_S, Wire, WireDialler
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.frames import Receipt as Accepted
from pubsubd_protocol.frames import Rejected, Welcome
from pubsubd_protocol.topics import check_publishable


class SharedPublisher:
    """Writes the messages of all threads, and reconnects while a thread waits for an outcome.

    A message is written at once, unless a thread waits for the answer to an earlier one: then that thread writes all
    that has come meanwhile, together, as soon as it has the answer.
    """

    def __init__(
        self,
        dialler: WireDialler,
        on_lost: Callable[[PubSubError], None],
        on_restored: Callable[[], None],
    ) -> None:
        """The two functions are called by a thread that serves the connection."""
        self.node = ""
        self._dialler = dialler
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._guard = Guard(self._begin_anew)
        self._service = Service(self._guard, self._serve, self._leave)
        self._bell = Bell()
        self._outbox = Outbox(dialler.socket)
        self._failures = Failures()
        self._wire: Wire | None = None
        self._welcome: Welcome | None = None
        self._retired: list[Wire] = []
        """Connections that are lost, until no thread can be waiting on their sockets."""
        self._redial = Redial()
        self._next_dial_s = 0.0
        self._expires_s = math.inf
        """The earliest deadline of a batch, or a time before it."""
        self._news: deque[Callable[[], None]] = deque()
        self._ended = False
        """Whether no more messages are taken."""
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._wire is not None

    def open(self) -> None:
        """Connect. Raises at once if that fails."""
        dialler = self._dialler
        try:
            opened = dialler.dial("publisher", self._bell, dialler.timeout_s)
        except BaseException:
            self._bell.close()
            raise
        self._guard.change(self._connected, *opened)

    # For the application's threads

    def publish(self, topic: Any, raw: bytes, to: Any, timeout_s: float) -> Receipt:
        """Publish a message, and wait until it is accepted. Raises its failure."""
        outbox, outgoing, at = self._guard.change(self._put, topic, raw, to, timeout_s, 1)
        self._service.wait(lambda: outgoing.outcome is not None or self._outbox is not outbox)
        self._tell()
        placed = self._placed(outgoing)
        return Receipt(placed.node, placed.epoch, placed.first + at)

    def send(self, topic: Any, raw: bytes, to: Any, timeout_s: float) -> None:
        """Publish a message, and wait only while the window is full. Raises earlier failures, once."""
        if self._outbox.full or self._stuck:
            self._service.wait(self._has_room)
        failure = self._taken_failure() if self._failures.first is not None else None
        if failure is not None:
            raise failure
        self._guard.change(self._put, topic, raw, to, timeout_s, 0)
        if self._wire is None:
            # An attempt to connect, if one is due: no other thread may be there to make it.
            self._service.wait(
                lambda: self._wire is not None or time.monotonic() < self._next_dial_s,
                time.monotonic() + RECONNECT_S,
            )
        elif self._stuck:
            self._service.wait(lambda: not self._stuck)
        self._tell()

    def publish_many(
        self, codec: Codec, topic: Any, payloads: Iterable[Any], to: Any, timeout_s: float
    ) -> Receipts:
        """Publish payloads in order, and wait until all are accepted. Raises the first failure as soon as it is known."""
        many = SharedMany(self._outbox)
        together = [*payloads] if isinstance(payloads, Collection) else []
        raws = all_encoded(codec, topic, together)
        many.add(self._guard.change(self._put_many, topic, raws, to, timeout_s))
        broke: BaseException | None = None
        if not isinstance(payloads, Collection):
            try:
                self._feed(many, codec, topic, payloads, to, timeout_s)
            except Exception as error:
                broke = error
        self._service.wait(lambda: many.decided(self._outbox))
        if many.failure is not None:
            raise many.failure from broke
        if broke is not None:
            raise broke
        return many.receipts

    def flush(self) -> None:
        """Wait until all messages taken so far have an outcome. Raises the first failure that no caller got."""
        covered, failure = self._settled(math.inf)
        failure = failure or failure_of(covered)
        if failure is not None:
            raise failure

    def stop_taking(self) -> None:
        """Take no more messages: those that come get `ClientClosed`."""
        self._ended = True
        self._service.wake()

    def close(self, timeout_s: float) -> PubSubError | None:
        """Wait up to `timeout_s` for the answers due, then give up the rest. Returns the error that `flush` would raise.

        It cleans up even if a signal's handler raises.
        """
        self.stop_taking()
        try:
            self._settled(time.monotonic() + timeout_s)
        finally:
            self._guard.change(self._give_up)
            self._service.wake()
            if not self._service.served:
                self._leave()
        self._tell()
        return self._taken_failure()

    # Waits

    def _settled(self, deadline_s: float) -> tuple[list[OutgoingBatch], PubSubError | None]:
        """Wait for the outcome of all messages taken so far. Returns their batches, and the failure to raise."""
        with self._guard.lock:
            outbox, covered = self._outbox, list(self._outbox.unfinished())

        def done() -> bool:
            return self._outbox is not outbox or all(o.outcome is not None for o in covered)

        self._service.wait(done, deadline_s)
        return covered, self._taken_failure()

    def _has_room(self) -> bool:
        return not (self._outbox.full or self._stuck) or self._ended

    @property
    def _stuck(self) -> bool:
        """Whether the socket has not taken all that was written."""
        wire = self._wire
        return wire is not None and wire.choked

    def _placed(self, outgoing: OutgoingBatch) -> Placed:
        outcome = outgoing.outcome
        if outcome is None:
            raise PublishUnknown(BROKEN_OFF)
        if isinstance(outcome, BatchFailed):
            raise outcome.error()
        return outcome

    def _feed(
        self,
        many: SharedMany,
        codec: Codec,
        topic: Any,
        payloads: Iterable[Any],
        to: Any,
        timeout_s: float,
    ) -> None:
        """Publish payloads as they come, up to the end of the input or the first failure."""
        for payload in payloads:
            try:
                raw = encoded(codec, topic, payload)
            except EncodeError as error:
                error.add_note(
                    f"this is payload {many.taken + 1}; the payloads before it are published"
                )
                raise
            many.add(self._guard.change(self._put_many, topic, [raw], to, timeout_s))
            if not self._has_room():
                self._service.wait(lambda: self._has_room() or many.failing(self._outbox))
            many.settle(self._outbox)
            if many.failure is not None:
                return

    # Serving the connection: one thread at a time, without the lock

    def _serve(self, deadline_s: float) -> None:
        """Wait until something comes, or until `deadline_s`, and deal with it."""
        self._close_retired()
        wire = self._wire
        due_s = min(deadline_s, self._expires_s)
        if wire is not None:
            wire.wait(due_s - time.monotonic())
            self._guard.change(self._turn)
        else:
            self._reconnect(due_s)
        self._tell()

    def _reconnect(self, due_s: float) -> None:
        """Dial once, if an attempt is due. Otherwise sleep until then, but not beyond `due_s`."""
        now_s = time.monotonic()
        if now_s < self._next_dial_s:
            self._bell.wait(min(self._next_dial_s, due_s) - now_s)
            self._guard.change(self._expire)
            return
        timeout_s = min(self._dialler.timeout_s, max(RECONNECT_S, due_s - now_s))
        try:
            wire, welcome = self._dialler.dial("publisher", self._bell, timeout_s)
        except PubSubError as why:
            self._guard.change(self._not_reached, why)
        else:
            self._guard.change(self._restored, wire, welcome)

    def _leave(self) -> None:
        """No thread serves any more: write all that was left for the one that did, and close what it used."""
        if self._outbox.unwritten:
            self._guard.change(self._pump)
        self._close_retired()
        if self._closed:
            self._bell.close()

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.pop().close()

    def _tell(self) -> None:
        """Call the application's functions for what has happened."""
        while self._news:
            self._news.popleft()()

    # Changes, each a step of the guard

    def _put(
        self, topic: Any, raw: bytes, to: Any, timeout_s: float, watched: int
    ) -> tuple[Outbox, OutgoingBatch, int]:
        """Take a message. Returns its batch, and its number in it. `watched`: 1 if the caller waits for the outcome."""
        self._check_takes(to)
        try:
            outgoing = self._outbox.put(topic, raw, to, timeout_s)
        except TypeError:
            check_publishable(topic)  # The topic is not hashable; this raises a better error.
            raise
        outgoing.watched += watched
        at = outgoing.count - 1
        self._write()
        return self._outbox, outgoing, at

    def _put_many(self, topic: Any, raws: list[bytes], to: Any, timeout_s: float) -> list[Together]:
        self._check_takes(to)
        check_publishable(topic)
        runs = self._outbox.put_many(topic, raws, to, timeout_s)
        for outgoing, _, count in runs:
            outgoing.watched += count
        self._write()
        return runs

    def _check_takes(self, to: Any) -> None:
        if self._ended:
            raise ClientClosed("this client is closed")
        check_target(to)

    def _write(self) -> None:
        """Write what was taken, at once or with what else comes until the next answer."""
        deadline_s = self._outbox.end_turn(time.monotonic())
        if deadline_s is not None and deadline_s < self._expires_s:
            self._expires_s = deadline_s
        if not (self._service.served and self._outbox.in_flight):
            self._pump()

    def _pump(self) -> None:
        """Write as much as the window and the socket take."""
        wire = self._wire
        if wire is None or wire.choked:
            return
        buffers = self._outbox.writable()
        if buffers:
            wire.write(buffers)
            if wire.choked:
                # The thread that serves waits for room, too.
                self._bell.ring()
            if wire.broken:
                self._turn()

    def _turn(self) -> None:
        """Take what has come, and write what may go out."""
        wire = self._wire
        if wire is not None:
            try:
                for frame in wire.receive():
                    match frame:
                        case Accepted():
                            done = self._outbox.receipt(frame)
                        case Rejected():
                            done = self._outbox.rejected(frame)
                        case _:
                            raise unexpected(frame)
                    if done is not None:
                        self._failures.note(done)
                self._pump()
            except PubSubError as why:
                self._lost(why)
        self._expire()

    def _expire(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._expires_s:
            self._finish(self._outbox.expire(now_s))
            next_s = self._outbox.next_deadline()
            self._expires_s = math.inf if next_s is None else next_s

    def _finish(self, batches: list[OutgoingBatch]) -> None:
        for outgoing in batches:
            self._failures.note(outgoing)

    def _connected(self, wire: Wire, welcome: Welcome) -> None:
        self._dialler.identity.spoke_to = welcome.epoch
        self.node = welcome.node
        self._welcome = welcome
        self._wire = wire
        self._finish(self._outbox.connected(welcome))
        self._pump()

    def _restored(self, wire: Wire, welcome: Welcome) -> None:
        if self._closed:
            wire.close()
            return
        self._redial.stood(time.monotonic())
        self._connected(wire, welcome)
        self._news.append(self._on_restored)

    def _not_reached(self, why: PubSubError) -> None:
        self._outbox.lost_because = reason(why)
        self._plan_dial()
        self._expire()

    def _lost(self, why: PubSubError) -> None:
        self._retire()
        self._finish(cut_off(self._outbox, self._dialler.identity, why))
        self._plan_dial()
        self._news.append(lambda: self._on_lost(why))

    def _plan_dial(self) -> None:
        now_s = time.monotonic()
        self._next_dial_s = now_s + self._redial.pause_s(now_s, chance())

    def _retire(self) -> None:
        """Leave the connection. The thread that waits on its socket, or the next one that serves, closes it."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._retired.append(wire)
            self._bell.ring()

    def _give_up(self) -> None:
        self._closed = True
        self._finish(self._outbox.give_up_all("the client was closed"))
        self._retire()

    def _taken_failure(self) -> PubSubError | None:
        return self._guard.change(self._failures.take)

    def _begin_anew(self) -> None:
        """Give up all unanswered messages: a change of the outbox was broken off, so what it holds is uncertain."""
        failed = BatchFailed(PublishUnknown(BROKEN_OFF))
        old, self._outbox = self._outbox, Outbox(self._dialler.socket)
        if self._welcome is not None:
            # The limits of the last connection, by which messages are taken until the next one.
            self._outbox.connected(self._welcome)
            self._outbox.disconnected(BROKEN_OFF)
        self._dialler.identity.renew()
        self._retire()
        self._next_dial_s = 0.0
        with suppress(Exception):
            for outgoing in list(old.unfinished()):
                outgoing.outcome = failed
                self._failures.note(outgoing)
        # The broken-off change may have held further messages.
        self._failures.note_unknown(failed)
        self._service.wake()

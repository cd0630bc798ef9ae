"""The publishing side of a client: one connection, and the outbox behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pubsubd.accumulator import Accumulator
from pubsubd.batching import BatchFailed, OutgoingBatch, Placed
from pubsubd.connection import BrokerConnection, BrokerDialler, unexpected
from pubsubd.failures import failure_of
from pubsubd.loss import cut_off, reason
from pubsubd.outbox import Outbox
from pubsubd.redial import Redial
from pubsubd.unavailable import connection_lost
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.frames import Frame, Receipt, Rejected


class Publisher:
    """Writes what its accumulator takes, and reconnects until it is closed."""

    def __init__(
        self,
        dialler: BrokerDialler,
        on_lost: Callable[[PubSubError], None],
        on_restored: Callable[[], None],
        check_home: Callable[[], None],
    ) -> None:
        self.outbox = Outbox(dialler.socket)
        self.node = ""
        self._dialler = dialler
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._check_home = check_home
        self._loop = loop = asyncio.get_running_loop()
        self.accumulator = Accumulator(
            self.outbox, check_home, lambda: loop.call_soon(self.accumulator.end_turn), self._write
        )
        self._connection: BrokerConnection | None = None
        self._lost: asyncio.Future[PubSubError] = self._loop.create_future()
        self._keeper: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    async def start(self) -> None:
        """Connect. Raises at once if that fails."""
        await self._connect()
        self._keeper = self._loop.create_task(self._keep(), name="pubsubd publisher")

    async def placed(self, outgoing: OutgoingBatch, count: int) -> Placed:
        """Wait for the outcome of `count` messages of a batch. Raises the failure."""
        if outgoing.outcome is None:
            watcher = self._loop.create_future()
            outgoing.watchers.append(watcher)
            outgoing.watched += count
            await watcher
        outcome = outgoing.outcome
        assert outcome is not None
        if isinstance(outcome, BatchFailed):
            raise outcome.error()
        return outcome

    async def room(self) -> None:
        """Wait until the window has room, or the publisher takes no more."""
        while self.outbox.full and not self.accumulator.ended:
            self._room.clear()
            await self._room.wait()

    def pump(self) -> None:
        """Write as much as the window and the socket take."""
        connection = self._connection
        if connection is not None and not connection.choked:
            buffers = self.outbox.writable()
            if buffers:
                connection.write(buffers)

    async def flush(self) -> None:
        """Wait until all messages taken so far have an outcome. Raises the first failure that no caller got."""
        covered = list(self.outbox.unfinished())
        await self._ends(covered)
        # Another task's flush may have got the failure already; this caller must get it, too.
        failure = self.accumulator.failures.take() or failure_of(covered)
        if failure is not None:
            raise failure

    async def ready(self) -> None:
        """Wait until a message may be sent. Raises the first failure of earlier messages, once."""
        await self.room()
        if self.accumulator.failures.first is not None:
            self._check_home()
            failure = self.accumulator.failures.take()
            assert failure is not None
            raise failure

    def stop_taking(self) -> None:
        """Take no more messages. Callers that wait for room, or come later, get `ClientClosed`."""
        self.accumulator.end()
        self._room.set()

    async def close(self, timeout_s: float) -> PubSubError | None:
        """Wait up to `timeout_s` for the answers due, then give up the rest. Returns the error that `flush` would raise.

        Call it once. It cleans up even if it is cancelled.
        """
        self.stop_taking()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ends(list(self.outbox.unfinished()))
        finally:
            self._ended = True
            if self._keeper is not None:
                self._keeper.cancel()
            if self._timer is not None:
                self._timer.cancel()
            connection, self._connection = self._connection, None
            self._finish(self.outbox.give_up_all("the client was closed"))
            if connection is not None:
                await connection.close()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])
        return self.accumulator.failures.take()

    def received(self, connection: BrokerConnection, frame: Frame) -> None:
        match frame:
            case Receipt():
                done = self.outbox.receipt(frame)
            case Rejected():
                done = self.outbox.rejected(frame)
            case _:
                raise unexpected(frame)
        self._finish([done] if done is not None else [])
        self.pump()

    def lost(self, connection: BrokerConnection, why: PubSubError) -> None:
        if connection is self._connection:
            self._connection = None
            self._finish(cut_off(self.outbox, self._dialler.identity, why))
            self._on_lost(why)
            # At the end of an event loop, the future may be cancelled already.
            if not self._lost.done():
                self._lost.set_result(why)

    def writable(self, connection: BrokerConnection) -> None:
        try:
            self.pump()
        except Exception as error:
            self._broken(error)
            raise

    async def _connect(self) -> None:
        connection, welcome = await self._dialler.dial("publisher", self)
        self._dialler.identity.spoke_to = welcome.epoch
        self.node = welcome.node
        self._lost = self._loop.create_future()
        self._connection = connection
        self._finish(self.outbox.connected(welcome))
        self.pump()

    async def _keep(self) -> None:
        redial = Redial()
        while True:
            await self._lost
            # Redial after any refusal: an administrator may lift it, and each publish has its own deadline.
            await redial.until_connected(self._connect, self._never)
            self._on_restored()

    def _never(self, why: PubSubError) -> bool:
        self.outbox.lost_because = reason(why)
        return False

    def _write(self) -> None:
        """Write what this turn has brought, as far as the window and the socket take it."""
        try:
            deadline = self.outbox.end_turn(self._loop.time())
            if deadline is not None:
                self._wake_at(deadline)
            self.pump()
        except Exception as error:
            self._broken(error)
            raise

    def _broken(self, error: Exception) -> None:
        """Fail all batches after a fault in a callback of the event loop: no caller sees that error, and none may wait on."""
        why = f"{type(error).__name__} in the client: {error}"
        self._finish(self.outbox.give_up_all(why))
        if self._connection is not None:
            self._connection.fail(connection_lost(self._dialler.socket, error))

    def _wake_at(self, deadline: float) -> None:
        if self._ended:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer = None
        try:
            self._finish(self.outbox.expire(self._loop.time()))
            deadline = self.outbox.next_deadline()
            if deadline is not None:
                self._wake_at(deadline)
        except Exception as error:
            self._broken(error)
            raise

    def _finish(self, batches: list[OutgoingBatch]) -> None:
        for outgoing in batches:
            for watcher in outgoing.watchers:
                if not watcher.done():
                    watcher.set_result(None)
            self.accumulator.failures.note(outgoing)
        self._settle_room()

    def _settle_room(self) -> None:
        if not self.outbox.full:
            self._room.set()

    async def _ends(self, batches: list[OutgoingBatch]) -> None:
        watchers = []
        for outgoing in batches:
            watcher = self._loop.create_future()
            outgoing.watchers.append(watcher)
            watchers.append(watcher)
        for watcher in watchers:
            await watcher

"""The reader of one session: takes its events from the link, and hands them to the task that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pubsubd.callbacks import Callbacks
from pubsubd.connection import BrokerDialler
from pubsubd.errors import ClientClosed, CursorExpired, copy_of
from pubsubd.health import HealthEvent, NodeBack, NodeLost
from pubsubd.inbox import Inbox
from pubsubd.iterating import Telling, Turn
from pubsubd.messages import Message
from pubsubd.options import SubscriptionOptions
from pubsubd.resume import Event
from pubsubd.session_link import SessionLink
from pubsubd.settling import Settling, pass_told
from pubsubd_protocol.frames import Subscribed
from pubsubd_protocol.positions import Position


class Reader:
    """Between a session's link and the application: `ready` waits, `inbox` has the events."""

    def __init__(
        self,
        dialler: BrokerDialler,
        options: SubscriptionOptions,
        check_open: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        """`check_open`: gives the event loop of the open subscription, or raises why the caller may not wait."""
        self.inbox = Inbox(options.codec)
        self.link = SessionLink(dialler, options.session(), self, waits=options.wait)
        self.settling: Settling | None = None
        """The acknowledgements; None without a name."""
        if options.name is not None:
            self.settling = Settling(
                self.inbox, self.link, _at_the_end_of_the_turn, manual=options.manual_ack
            )
        self._options = options
        self._check_open = check_open
        self._telling = None if options.on_expired is None else Telling(options.on_expired)
        self._callbacks = Callbacks()
        self._turn = Turn()
        self._waiter: asyncio.Future[None] | None = None
        """Done when something came for the task that waits."""
        self._stopped = False

    def stop(self) -> None:
        """Hand out no more, and wake the waiting task."""
        self._stopped = True
        self._wake()
        self.inbox.close()
        if self.settling is not None:
            self.settling.now()
        self.link.stop()
        if self._telling is not None:
            self._telling.cancel()

    async def ended_telling(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for a call of `on_expired` that `stop` cancelled."""
        if self._telling is not None:
            await self._telling.ended(timeout_s)

    # For the application

    async def ready(self, *, tell: bool = False, status: bool = False) -> None:
        """Wait until the inbox has an event in hand. A cancelled wait loses nothing.

        `tell`: tell the application of gaps, and wait for messages behind them. `status`: return for news of health,
        too. Raises like iterating a `Subscription`.
        """
        loop = self._check_open()
        if self._turn.ends:
            # A cancelled task gives its turn back when it runs next.
            await asyncio.sleep(0)
        self._turn.take(loop)
        inbox = self.inbox
        try:
            pass_told(inbox, self.settling)
            while True:
                if inbox.in_hand:
                    if not tell or inbox.notice is None:
                        return
                    await self._tell(inbox.notice)
                    self._check_stopped()
                    pass_told(inbox, self.settling)
                elif status and self.link.health.news:
                    return
                elif not self._advance():
                    if self.link.failure is not None:
                        raise copy_of(self.link.failure)
                    self._waiter = loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                    self._check_stopped()
        finally:
            self._turn.give_back()

    def take(self) -> Message | CursorExpired:
        """Take the event in hand."""
        inbox = self.inbox
        if inbox.notice is not None:
            inbox.told = True
            return inbox.notice
        if inbox.batch is not None:
            inbox.spread()
        message = inbox.messages.pop()
        if self.settling is not None:
            self.settling.handed(message)
        return message

    def _advance(self) -> bool:
        """Take the next event in hand. False if none has arrived."""
        found = self.inbox.advance()
        if self.link.paused and self.inbox.room:
            self.link.resume()
        if self.settling is not None:
            self.settling.soon()
        return found

    async def _tell(self, notice: CursorExpired) -> None:
        """Tell the application of the gap in hand. The gap is passed when `on_expired` has returned."""
        if self._telling is None:
            self.inbox.told = True
            raise notice
        self.inbox.told = await self._telling.done(notice)

    def _check_stopped(self) -> None:
        if self._stopped:
            raise ClientClosed("this subscription is closed")

    # From the session

    def begins(self, answer: Subscribed) -> None:
        self.inbox.begin(self.link.session.received)
        if self.settling is not None:
            self.settling.stands(answer)

    def acknowledged(self) -> dict[str, Position] | None:
        return None if self.settling is None else self.settling.resumes()

    def resumes(self) -> None:
        if self.settling is not None:
            self.settling.soon()

    def arrived(self, event: Event) -> None:
        if self.inbox.put(event) and self.settling is not None:
            # No earlier event waits for the application, so the move is settled at once.
            self.settling.soon()
        self._wake()
        if self.inbox.full:
            self.link.pause()

    def health(self, changes: list[HealthEvent]) -> None:
        for change in changes:
            match change:
                case NodeLost() if self._options.on_lost is not None:
                    self._callbacks.call(self._options.on_lost, change)
                case NodeBack() if self._options.on_restored is not None:
                    self._callbacks.call(self._options.on_restored, change)
        self._wake()

    def ended(self) -> None:
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _at_the_end_of_the_turn(callback: Callable[[], None]) -> None:
    """Have `callback` called at the end of this turn of the event loop."""
    asyncio.get_running_loop().call_soon(callback)

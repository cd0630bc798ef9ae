"""A subscription: the ways to iterate one session, and the application's position in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Literal, Self, overload

from pubsubd import arguments
from pubsubd.batch import Batch
from pubsubd.connection import GOODBYE_S, BrokerDialler
from pubsubd.ending import Ending
from pubsubd.errors import ClientClosed, CursorExpired, InvalidArgument
from pubsubd.fork_mark import mark
from pubsubd.forks import begins_anew, check_process, keep
from pubsubd.health import HealthEvent, State
from pubsubd.home import Home, this_thread
from pubsubd.iterating import Iterating
from pubsubd.messages import Message
from pubsubd.options import SubscriptionOptions
from pubsubd.reader import Reader
from pubsubd.resume import within_bound
from pubsubd.session_link import Stored
from pubsubd_protocol.positions import dump_positions
from pubsubd_protocol.topics import check_asked, check_pattern


class Subscription:
    """Made by `client.subscribe`; open it with `async with` or `await`. Belongs to the event loop that opens it.

    Opening raises `BrokerUnavailable`, `ConnectionRefused`, `NameInUse` or `ProtocolError`. After a later loss the
    subscription goes on where it was, by itself.

    Iterating yields messages. At a gap, `on_expired` is called before the next message. If it raises, it is called
    again when the application asks for the next message. Without `on_expired`, iterating raises `CursorExpired` at
    the gap; iterating again goes on behind the gap. It raises `ClientClosed` once the subscription is closed,
    `AlreadyIterating` in a second task, `WrongEventLoop` in another event loop, and `NameInUse` or `ConnectionRefused`
    if the broker ended the subscription.
    """

    def __init__(
        self,
        dialler: BrokerDialler,
        options: SubscriptionOptions,
        *,
        on_open: Callable[[Subscription], None],
        on_close: Callable[[Subscription], None],
        again: Callable[[], Subscription],
    ) -> None:
        """`again`: makes a closed subscription with the same options."""
        self._dialler = dialler
        self._options = options
        self._on_open = on_open
        self._on_close = on_close
        self._again = again
        self._closed = False
        self._begin()
        begins_anew(self)

    def _begin(self) -> None:
        """Set the state of a subscription that is not open and has read nothing."""
        self._reader = Reader(self._dialler, self._options, self._check_open)
        # At hand here, because each message needs them.
        self._inbox = self._reader.inbox
        self._settling = self._reader.settling
        self._link = self._reader.link
        self._home = Home("subscription")
        self._open_in: int | None = None
        """The thread that iterates the subscription; None while it is not open."""
        self._opener: asyncio.Task[None] | None = None
        self._ending = Ending(self._end)

    def forked(self) -> None:
        """In a forked child: leave the session to the parent. The child may open a session of its own."""
        keep(self._reader, self._home, self._opener, self._ending)
        self._begin()

    def __reduce__(self) -> tuple[Callable[[], Subscription], tuple[()]]:
        """A copy has the same options. It is not open and has read nothing."""
        return self._again, ()

    # Opening and closing

    def __await__(self) -> Generator[object, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the subscription. Messages that were received and not handed out are dropped.

        Iterating elsewhere, or later, raises `ClientClosed`. Calling `close` again is harmless. If the caller is
        cancelled, the end goes on, and the next `close` waits for it. Afterwards `position` stands behind all that
        the broker skipped because it did not match.
        """
        check_process()
        if not self._ending.over:
            self._home.enter()
        self.stop()
        await self._ending.reached()

    def stop(self) -> None:
        """Stop handing out, and wake the waiting task. `close` does the rest."""
        if self._closed:
            return
        self._closed = True
        self._open_in = None
        self._reader.stop()

    async def _end(self) -> None:
        if self._opener is not None:
            self._opener.cancel()
            await asyncio.wait([self._opener])
        await self._link.close()
        await self._reader.ended_telling(GOODBYE_S)
        self._on_close(self)

    # For the application

    @property
    def position(self) -> Stored:
        """`{node: [epoch, next offset]}` behind all messages that were handed out; survives `json.dumps`.

        Store it together with the effects of the messages: `subscribe(position=…)` goes on exactly there. A position
        has at most 1,024 nodes; beyond that, the nodes that have been unreachable for longest are left out.
        """
        return dump_positions(within_bound(self._inbox.positions(), self._link.health.unreachable))

    @property
    def state(self) -> State:
        """State of the subscription's connection to its broker."""
        if self._closed or self._link.failure is not None:
            return State.CLOSED
        if not self._link.opened:
            return State.CONNECTING
        return State.CONNECTED if self._link.stands else State.LOST

    @property
    def unreachable(self) -> dict[str, float]:
        """The nodes that are not heard now, the own broker's included, each with the start of the silence (Unix time).

        Silence of such a node does not mean that it publishes nothing. Its messages come when it is back.
        """
        return dict(self._link.health.unreachable)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns in force, with those that were added, without those that were removed."""
        return self._link.session.patterns

    @property
    def resumed(self) -> bool:
        """Whether the broker knew this subscription's name, and went on at the acknowledged position."""
        return self._link.session.resumed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        messages = self._inbox.messages
        if not messages or this_thread() != self._open_in or not mark[0]:
            await self._reader.ready(tell=True)
            self._inbox.spread()
            messages = self._inbox.messages
        message = messages.pop()
        if self._settling is not None:
            self._settling.handed(message)
        return message

    @overload
    def events(self, *, status: Literal[False] = False) -> Iterating[Message | CursorExpired]: ...

    @overload
    def events(
        self, *, status: Literal[True]
    ) -> Iterating[Message | CursorExpired | HealthEvent]: ...

    def events(
        self, *, status: bool = False
    ) -> Iterating[Message | CursorExpired] | Iterating[Message | CursorExpired | HealthEvent]:
        """Messages and gaps (`CursorExpired`) in order, for `match`. `on_expired` is not called.

        A gap is yielded, not raised; all other errors are raised as in plain iteration. Cancelling a wait loses nothing.
        `status=True`: also `NodeLost` and `NodeBack`, for the own broker's node too, as soon as they are known.
        """
        arguments.flag("status", status)
        return Iterating(self._next_status) if status else Iterating(self._next_event)

    def batches(self) -> Iterating[Batch]:
        """Messages that were published together, as a `Batch` each, never empty. Gaps are handled as in plain iteration."""
        return Iterating(self._next_batch)

    async def ack(self, message: Message) -> None:
        """With `ack="manual"`: acknowledge `message` and all before it in its stream.

        Raises `InvalidArgument` without `ack="manual"`, or if `message` is not a `Message`; `ClientClosed`.
        """
        if self._settling is None or not self._settling.manual:
            raise InvalidArgument('ack() works only with subscribe(name=…, ack="manual")')
        if not isinstance(message, Message):
            raise InvalidArgument(f"ack() takes a pubsubd.Message, not {arguments.shown(message)}")
        self._check_open()
        self._settling.acknowledge(message)

    async def add(self, *patterns: str) -> Stored:
        """Subscribe to further patterns. Returns the positions from which they count, as `position` has them.

        Raises `InvalidTopic`. Raises `ConnectionRefused` for a pattern that this user may not read, or over a limit. The subscription then
        goes on with its old patterns.
        """
        self._check_open()
        for pattern in patterns:
            check_asked(pattern)
        return await self._link.change_filter(add=patterns)

    async def remove(self, *patterns: str) -> Stored:
        """Remove patterns. Returns the positions up to which they counted. An unknown pattern is ignored.

        Raises `InvalidTopic` if no pattern would be left.
        """
        self._check_open()
        for pattern in patterns:
            check_pattern(pattern)
        return await self._link.change_filter(drop=patterns)

    # Handing out

    async def _next_event(self) -> Message | CursorExpired:
        # As in `__anext__`: a message in hand needs no turn and no look at the event loop.
        if not self._inbox.messages or this_thread() != self._open_in or not mark[0]:
            await self._reader.ready()
        return self._reader.take()

    async def _next_status(self) -> Message | CursorExpired | HealthEvent:
        health = self._link.health
        in_hand = self._inbox.messages and not health.news
        if not in_hand or this_thread() != self._open_in or not mark[0]:
            await self._reader.ready(status=True)
        return health.take() or self._reader.take()

    async def _next_batch(self) -> Batch:
        await self._reader.ready(tell=True)
        batch = self._inbox.take_batch()
        if self._settling is not None:
            self._settling.handed_together(batch)
        return batch

    async def _open(self) -> Self:
        check_process()
        self._home.enter()
        if not self._closed and not self._link.opened:
            self._on_open(self)
            if self._opener is None:
                self._opener = asyncio.create_task(self._link.open(), name="pubsubd subscribe")
            opener = self._opener
            try:
                await asyncio.wait([opener])
                if not opener.cancelled():
                    opener.result()
            except BaseException:
                self.stop()
                self._ending.begin()
                raise
            if not self._closed:
                self._open_in = this_thread()
        self._check_open()
        return self

    def _check_open(self) -> asyncio.AbstractEventLoop:
        """The event loop in which the subscription is open. Raises `ClientClosed`, `WrongEventLoop`."""
        check_process()
        self._home.check()
        loop = self._home.loop
        if self._closed:
            raise ClientClosed("this subscription is closed")
        if not self._link.opened or loop is None:
            raise ClientClosed(
                "open the subscription first, in the process that reads it: `async with` or `await` it"
            )
        return loop

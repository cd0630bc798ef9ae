"""A subscription: one session over all of its connections, and the ways to iterate it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from types import TracebackType
from typing import Final, Self

from pubsubd.acks import Acks
from pubsubd.codecs import Codec
from pubsubd.connection import Connection, Dialler, unexpected
from pubsubd.errors import BrokerUnavailable, ClientClosed, CursorExpired, NameInUse
from pubsubd.inbox import Inbox
from pubsubd.messages import Message
from pubsubd.redial import Redial
from pubsubd.resume import Event, Session
from pubsubd_protocol import codec as wire
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ConnectionRefused, InvalidTopic, ProtocolError, PubSubError
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.frames import FilterSet, Frame, SetFilter, Skip, Subscribed, Told
from pubsubd_protocol.positions import Position, dump_positions
from pubsubd_protocol.topics import Filter

NAME_GRACE_S: Final = 5.0
"""So long after a loss the broker may still take our own old connection for another holder of the name."""

MAX_VIOLATIONS: Final = 3
"""So many protocol errors in a row, with nothing received between, and the subscription gives up."""

Stored = dict[str, list[str | int]]


class Subscription:
    """Made by `client.subscribe`; open it with `async with` or `await`.

    Iterating yields messages. At a gap `on_expired` is called before the next message; if it raises, it is
    called again when the next message is asked for. Without it, iterating raises `CursorExpired` there,
    and goes on behind the gap when asked again.
    """

    def __init__(
        self,
        dialler: Dialler,
        codec: Codec,
        patterns: tuple[str, ...],
        *,
        start: str,
        position: Mapping[str, Position] | None,
        name: str | None,
        echo: bool,
        manual_ack: bool,
        on_expired: Callable[[CursorExpired], object] | None,
        on_open: Callable[[Subscription], None],
        on_close: Callable[[Subscription], None],
    ) -> None:
        self._dialler = dialler
        self._session = Session(_distinct(patterns), start, position, name, echo)
        self._inbox = Inbox(codec)
        self._name = name
        self._acks = Acks(manual=manual_ack)
        self._acks_due = False
        self._on_expired = on_expired
        self._on_open = on_open
        self._on_close = on_close
        self._arrived = asyncio.Event()
        self._connection: Connection | None = None
        self._answer: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[PubSubError] | None = None
        self._lost_at = 0.0
        self._keeper: asyncio.Task[None] | None = None
        self._violations = 0
        self._unsettled: Message | None = None
        self._failure: PubSubError | None = None
        self._closed = False
        self._filter_change = asyncio.Lock()
        self._filter_set: asyncio.Future[Stored] | None = None
        self._filters_asked = 0

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
        """Ends the iteration; what was received and not handed out is dropped. Harmless to repeat."""
        if self._closed:
            return
        self._closed = True
        self._on_close(self)
        self._arrived.set()
        self._fail_filter(ClientClosed("this subscription is closed"))
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._send_acks()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # What the application reads

    @property
    def position(self) -> Stored:
        """`{node: [epoch, next offset]}` behind all that was handed out; survives `json.dumps`.

        Stored with what the messages did, `subscribe(position=…)` goes on exactly there.
        """
        return dump_positions(self._inbox.positions())

    @property
    def patterns(self) -> tuple[str, ...]:
        return self._session.patterns

    @property
    def resumed(self) -> bool:
        """Whether the broker knew this subscription's name and went on where it had acknowledged."""
        return self._session.resumed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        messages = self._inbox.messages
        while not messages:
            if not await self._ask():
                raise StopAsyncIteration
            messages = self._inbox.messages
            if not messages:
                await self._tell()
        message = self._unsettled = messages.pop()
        if self._name is not None:
            self._handed(message)
        return message

    async def events(self) -> AsyncIterator[Message | CursorExpired]:
        """Messages and gaps alike, in their order; `on_expired` is not called."""
        while await self._ask():
            if self._inbox.notice is not None:
                self._inbox.told = True
                yield self._inbox.notice
            else:
                message = self._unsettled = self._inbox.messages.pop()
                if self._name is not None:
                    self._handed(message)
                yield message

    async def batches(self) -> AsyncIterator[list[Message]]:
        """The messages in lists, never empty, as they were published together. Gaps as in iterating."""
        while await self._ask():
            if self._inbox.notice is not None:
                await self._tell()
                continue
            batch = self._inbox.messages[::-1]
            self._inbox.messages.clear()
            self._unsettled = batch[0]
            if self._name is not None:
                for message in batch:
                    self._handed(message)
            yield batch

    async def ack(self, message: Message) -> None:
        """With `ack="manual"`: nothing up to and with `message` is needed again."""
        if self._name is None or not self._acks.manual:
            raise ValueError('ack() is for subscribe(name=…, ack="manual")')
        self._acks.acknowledge(message)
        self._acknowledge_soon()

    async def add(self, *patterns: str) -> Stored:
        """Subscribes to more. Returns the positions from which on they count."""
        async with self._filter_change:
            return await self._set_filter((*self._session.patterns, *patterns))

    async def remove(self, *patterns: str) -> Stored:
        """Subscribes to less; a pattern that is not there is no error, leaving none is."""
        async with self._filter_change:
            return await self._set_filter(
                tuple(p for p in self._session.patterns if p not in patterns)
            )

    # Handing out

    async def _ask(self) -> bool:
        """The application asks for what is next: it is in the inbox's hand. False when closed."""
        inbox = self._inbox
        self._unsettled = None
        if inbox.told:
            inbox.pass_gap()
        while not self._closed:
            if inbox.messages or inbox.notice is not None:
                return True
            found = inbox.advance()
            if self._connection is not None and inbox.room:
                self._connection.resume()
            if self._name is not None:
                self._acknowledge_soon()
            if found:
                return True
            if self._failure is not None:
                raise self._failure
            if self._keeper is None:
                raise ClientClosed("open a subscription first: `async with` or `await` it")
            self._arrived.clear()
            await self._arrived.wait()
        return False

    async def _tell(self) -> None:
        """Of the gap in hand; it is passed when `on_expired` has returned."""
        notice = self._inbox.notice
        assert notice is not None
        if self._on_expired is None:
            self._inbox.told = True
            raise notice
        result = self._on_expired(notice)
        if inspect.isawaitable(result):
            await result
        self._inbox.told = True

    def _handed(self, message: Message) -> None:
        if self._acks.manual:
            self._acks.handed(message)
        self._acknowledge_soon()

    def _acknowledge_soon(self) -> None:
        if not self._acks_due:
            self._acks_due = True
            asyncio.get_running_loop().call_soon(self._send_acks)

    def _send_acks(self) -> None:
        self._acks_due = False
        if self._name is None or self._connection is None or self._answer is not None:
            return
        inbox, offset = self._inbox, None
        if inbox.messages:
            offset = inbox.messages[-1].offset
        if self._unsettled is not None and not self._acks.manual:
            offset = self._unsettled.offset
        acks = self._acks.due(inbox.settled(offset))
        if acks:
            self._connection.write([wire.encode(ack) for ack in acks])

    # The connection

    def received(self, connection: Connection, frame: Frame) -> None:
        if connection is not self._connection:
            return
        session = self._session
        event: Event | None
        match frame:
            case Entry():
                event = session.entry(frame)
                self._violations = 0
            case Skip():
                event = session.skip(frame)
            case Expired():
                event = session.expired(frame)
            case Told():
                event = session.told(frame)
            case Subscribed():
                self._subscribed(frame)
                return
            case FilterSet():
                self._filters_asked -= 1
                if self._filters_asked == 0:
                    self._answer_filter(frame.positions)
                return
            case _:
                raise unexpected(frame)
        if event is not None:
            self._inbox.put(event)
            self._arrived.set()
            if self._inbox.full:
                connection.pause()

    def lost(self, connection: Connection, why: PubSubError) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if self._answer is not None:
            if not self._answer.done():
                self._answer.set_exception(why)
        elif self._lost is not None and not self._lost.done():
            self._lost_at = asyncio.get_running_loop().time()
            self._lost.set_result(why)

    def writable(self, connection: Connection) -> None:
        """Nothing waits for it: what a session writes is small and bounded."""

    async def _open(self) -> Self:
        if self._closed:
            raise ClientClosed("this subscription is closed")
        if self._keeper is None:
            self._on_open(self)
            try:
                await self._connect_first()
            except BaseException:
                self._closed = True
                self._on_close(self)
                raise
            self._keeper = asyncio.create_task(self._keep(), name="pubsubd subscription")
        return self

    async def _connect_first(self) -> None:
        try:
            await self._connect()
            return
        except PubSubError as error:
            if self._hopeless(error):
                raise self._named(error) from None
            first = error
        try:
            async with asyncio.timeout(self._dialler.timeout_s):
                await Redial().until_connected(self._connect, self._hopeless)
        except TimeoutError:
            raise first from None
        except PubSubError as error:
            raise self._named(error) from None

    async def _connect(self) -> None:
        connection, _ = await self._dialler.dial("session", self)
        loop = asyncio.get_running_loop()
        answer = self._answer = loop.create_future()
        self._connection = connection
        self._lost = loop.create_future()
        self._filters_asked = 0
        asked = self._session.subscribe()
        connection.write([wire.encode(asked)])
        try:
            async with asyncio.timeout(self._dialler.timeout_s):
                await answer
        except TimeoutError:
            why = BrokerUnavailable(self._dialler.socket, "no answer to subscribe")
            connection.fail(why)
            raise why from None
        except asyncio.CancelledError:
            connection.fail(BrokerUnavailable(self._dialler.socket, "given up"))
            raise
        finally:
            self._answer = None
        if connection.why is not None:
            raise connection.why
        if asked.patterns != self._session.patterns:
            self._send_filter()
        else:
            self._answer_filter(self._session.received)

    def _subscribed(self, frame: Subscribed) -> None:
        if self._answer is None or self._answer.done():
            raise unexpected(frame)
        first = not self._session.stood
        news = self._session.subscribed(frame)
        if first:
            self._inbox.begin(self._session.received)
            self._acks.stands(frame.positions)
        else:
            for moved in news:
                self._inbox.put(moved)
        self._arrived.set()
        self._answer.set_result(None)

    async def _keep(self) -> None:
        redial = Redial()
        while True:
            assert self._lost is not None
            why = await self._lost
            try:
                if self._hopeless(why):
                    raise why
                await redial.until_connected(self._connect, self._hopeless)
            except PubSubError as error:
                self._failure = self._named(error)
                self._fail_filter(self._failure)
                self._arrived.set()
                return

    def _hopeless(self, why: PubSubError) -> bool:
        if isinstance(why, ProtocolError):
            self._violations += 1
            return self._keeper is None or self._violations >= MAX_VIOLATIONS
        if isinstance(why, ConnectionRefused) and why.code == "name_in_use":
            now = asyncio.get_running_loop().time()
            return self._keeper is None or now - self._lost_at > NAME_GRACE_S
        return not why.retriable

    def _named(self, error: PubSubError) -> PubSubError:
        """The error by the name that its reason has in this SDK."""
        match error:
            case ConnectionRefused(code="name_in_use") if self._name is not None:
                return NameInUse(self._name, error.detail)
            case ConnectionRefused(code="invalid_topic"):
                return InvalidTopic(error.detail)
        return error

    # The filter

    async def _set_filter(self, patterns: tuple[str, ...]) -> Stored:
        if self._closed or self._keeper is None:
            raise ClientClosed("this subscription is not open")
        if self._failure is not None:
            raise self._failure
        self._session.patterns = _distinct(patterns)
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._filter_set = answer
        if self._connection is not None and self._answer is None:
            self._send_filter()
        return await answer

    def _send_filter(self) -> None:
        assert self._connection is not None
        self._filters_asked += 1
        self._connection.write([wire.encode(SetFilter(self._session.patterns))])

    def _answer_filter(self, positions: dict[str, Position]) -> None:
        if self._filter_set is not None and not self._filter_set.done():
            self._filter_set.set_result(dump_positions(positions))

    def _fail_filter(self, why: PubSubError) -> None:
        if self._filter_set is not None and not self._filter_set.done():
            self._filter_set.set_exception(why)


def _distinct(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Checked, each once. Raises `InvalidTopic`."""
    if not patterns:
        raise InvalidTopic('a subscription has at least one pattern; ">" is all topics')
    return Filter(patterns).patterns

"""The client: an application publishes and subscribes with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from pubsubd import arguments
from pubsubd.callbacks import Callbacks
from pubsubd.codecs import Codec
from pubsubd.connection import BrokerDialler
from pubsubd.encoding import encoded
from pubsubd.ending import Ending
from pubsubd.errors import ClientClosed, CursorExpired, copy_of
from pubsubd.forks import begins_anew, check_process, keep
from pubsubd.health import NodeBack, NodeLost, State
from pubsubd.home import Home
from pubsubd.many import Many
from pubsubd.opening import Opening
from pubsubd.options import ClientOptions, SubscriptionOptions, subscription_options
from pubsubd.publisher import Publisher
from pubsubd.receipts import Receipt, Receipts
from pubsubd.subscription import Subscription
from pubsubd_protocol.errors import PubSubError


class Client:
    """Made by `connect`; open it with `async with` or `await`. Belongs to the event loop that opens it.

    Publishing raises `ClientClosed` before the client is open and after `close`, and `WrongEventLoop` in another thread
    or event loop. A copy (by `copy`, `pickle` or `fork`) has the same options and is not open. When opened, it gets a
    connection and an identity of its own.
    """

    name: str | None
    """The argument of `connect`, shown in `repr`."""
    socket: str
    """Absolute path of the broker's socket."""
    state: State
    """State of the connection for publishing. Each subscription has a connection, and a state, of its own."""

    def __init__(self, options: ClientOptions) -> None:
        self.name = options.name
        self.socket = options.socket
        self._options = options
        # Copies of the options that `send` reads for each message.
        self._codec = options.codec
        self._publish_timeout_s = options.publish_timeout_s
        self._dialler = BrokerDialler(options.socket, options.connect_timeout_s)
        self._begin(State.CONNECTING, inherited=False)
        begins_anew(self)

    def _begin(self, state: State, *, inherited: bool) -> None:
        """Set the state of a client that is not open. `inherited`: it was open in the parent; the first use opens it."""
        self.state = state
        self._inherited = inherited
        self._home = Home("client")
        self._opened: Publisher | None = None
        self._opening = Opening(self._connect, "pubsubd connect")
        self._ending = Ending(self._end)
        self._subscriptions: set[Subscription] = set()
        self._callbacks = Callbacks()

    def forked(self) -> None:
        """In a forked child: leave all that is open or in flight to the parent."""
        keep(
            self._home,
            self._opened,
            self._opening,
            self._ending,
            self._subscriptions,
            self._callbacks,
        )
        inherited = self._inherited or self._opened is not None
        self._begin(
            State.CLOSED if self._closed else State.CONNECTING,
            inherited=inherited and not self._closed,
        )

    def __reduce__(self) -> tuple[type[Self], tuple[ClientOptions]]:
        return type(self), (self._options,)

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<Client{name} at {self.socket}, {self.state.value}>"

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
        try:
            await self.close()
        except PubSubError:
            # The error inside the `async with` matters more than messages that it kept from being sent.
            if error is None:
                raise

    @property
    def node(self) -> str:
        """The name of the broker's node. Raises `ClientClosed` before the client is open."""
        if self._opened is None:
            raise self._not_connected()
        return self._opened.node

    async def close(self) -> None:
        """End subscriptions, wait up to `close_timeout_s` until sent messages are accepted, then disconnect.

        Raises like `flush` if a sent message failed that was not flushed. Calling it again is harmless. If the caller
        is cancelled, the end goes on, and the next `close` waits for it. Tasks that wait for a message or for room
        in the window get `ClientClosed`.
        """
        check_process()
        if not self._ending.over:
            self._home.enter()
        self.state = State.CLOSED
        if self._opened is not None:
            self._opened.stop_taking()
        for subscription in self._subscriptions:
            subscription.stop()
        await self._ending.reached()

    async def publish(
        self,
        topic: str,
        payload: Any,
        *,
        to: str | None = None,
        timeout: float | None = None,
        codec: Codec | None = None,
    ) -> Receipt:
        """Publish a message and wait until it is accepted. Messages of one turn of the event loop share a batch.

        While messages come one at a time, each is sent at once, so the first of several may go ahead of the others.

        - `to`: only that node's sessions get the message.
        - `timeout`: seconds for which the client tries, also over a restart of the broker; default `publish_timeout_s`.
        - `codec`: for this message, instead of the client's.

        Raises `PublishRejected`, `PublishUnknown`, `BrokerUnavailable`, `InvalidTopic`, `MessageTooLarge`,
        `EncodeError`, `InvalidArgument`. Cancelling does not take the message back.
        """
        publisher = await self._ready()
        timeout_s = self._timeout_s(timeout)
        raw = encoded(self._codec_of(codec), topic, payload)
        outgoing = publisher.accumulator.put(topic, raw, to, timeout_s)
        at = outgoing.count - 1
        placed = await publisher.placed(outgoing, 1)
        return Receipt(placed.node, placed.epoch, placed.first + at)

    async def publish_many(
        self,
        topic: str,
        payloads: Iterable[Any] | AsyncIterable[Any],
        *,
        to: str | None = None,
        timeout: float | None = None,
        codec: Codec | None = None,
    ) -> Receipts:
        """Publish several messages in order, and wait until all are accepted.

        A collection, such as a list, is encoded first: if one payload cannot be encoded, none is published. Payloads
        of an iterator, also an asynchronous one, are published as they come, as fast as the broker accepts them and
        in bounded memory; `timeout` counts from the moment at which a payload comes.

        Raises the first failure like `publish`, as soon as it is known, even if the input goes on. A note names the
        failed payload. Other payloads may have been accepted.
        """
        publisher = await self._ready()
        timeout_s = self._timeout_s(timeout)
        arguments.payloads(payloads)
        many = Many(publisher, self._codec_of(codec), topic, to, timeout_s)
        return await many.publish(payloads)

    async def send(
        self, topic: str, payload: Any, *, to: str | None = None, codec: Codec | None = None
    ) -> None:
        """Publish a message without waiting, while the window has room. `flush` tells whether all was accepted.

        Raises `InvalidTopic`, `MessageTooLarge`, `EncodeError` and `InvalidArgument` for this message. If an earlier
        message failed, `send` raises that failure as `flush` would, and does not take this message: an endless loop
        of sends thereby learns of it.
        """
        publisher = self._opened
        if publisher is None or not publisher.accumulator.ready():
            publisher = await self._ready()
            await publisher.ready()
        codec = self._codec if codec is None else arguments.codec(codec)
        if publisher.accumulator.send(codec, topic, payload, to, self._publish_timeout_s):
            publisher.pump()
            # One turn of the event loop for each batch: a loop of sends must not starve readers in this process.
            await asyncio.sleep(0)

    async def flush(self) -> None:
        """Wait until everything sent so far is accepted.

        Raises the first failure since the last flush; its `failed` counts the failed messages.
        """
        publisher = await self._ready()
        await publisher.flush()

    def subscribe(
        self,
        *patterns: str,
        name: str | None = None,
        wait: bool = False,
        start: Literal["latest", "earliest"] = "latest",
        position: object = None,
        echo: bool = True,
        ack: Literal["auto", "manual"] = "auto",
        on_expired: Callable[[CursorExpired], object] | None = None,
        on_lost: Callable[[NodeLost], object] | None = None,
        on_restored: Callable[[NodeBack], object] | None = None,
        codec: Codec | None = None,
    ) -> Subscription:
        """A subscription to open with `async with` or `await`. Once open, it misses no message without saying so.

        - `name`: the broker keeps the acknowledged position under this name while the application is away.
        - `wait=True`: opening waits while another connection holds the name, as a hot standby does. Otherwise opening
          raises `NameInUse`. Iterating raises `NameInUse` if another connection takes the name later.
        - `start`: "latest", or "earliest" for all that the rings still hold.
        - `position`: a stored `subscription.position` at which to go on.
        - `echo=False`: leave out the messages that this client publishes.
        - `ack="manual"`: `subscription.ack(message)` acknowledges; "auto": asking for the next message does.
        - `on_expired`: called, and awaited, at a gap.
        - `on_lost`, `on_restored`: called when a node falls silent, and when the broker hears it again. The own broker's
          node counts, too.

        Raises `InvalidTopic`, `InvalidPosition`, or `InvalidArgument`. Example:

        ```python
        async with client.subscribe("orders.>", on_expired=reload) as subscription:
            async for message in subscription:
                apply(message.topic, message.payload)
        ```
        """
        check_process()
        self._check_not_closed()
        if self._opened is not None:
            self._home.check()
        return self._subscription(
            subscription_options(
                patterns,
                name=name,
                wait=wait,
                start=start,
                position=position,
                echo=echo,
                ack=ack,
                on_expired=on_expired,
                on_lost=on_lost,
                on_restored=on_restored,
                codec=self._codec_of(codec),
            )
        )

    def _subscription(self, options: SubscriptionOptions) -> Subscription:
        return Subscription(
            self._dialler,
            options,
            on_open=self._subscription_opens,
            on_close=self._subscription_closes,
            again=partial(self._subscription, options),
        )

    def _codec_of(self, codec: Codec | None) -> Codec:
        return self._codec if codec is None else arguments.codec(codec)

    def _timeout_s(self, timeout: float | None) -> float:
        return self._publish_timeout_s if timeout is None else arguments.seconds("timeout", timeout)

    @property
    def _publisher(self) -> Publisher:
        self._home.check()
        self._check_not_closed()
        if self._opened is None:
            raise self._not_connected()
        return self._opened

    async def _ready(self) -> Publisher:
        """The open publisher. In a child of the process that opened it, the first use opens a new one."""
        check_process()
        if self._inherited:
            await self._open()
        return self._publisher

    def _not_connected(self) -> ClientClosed:
        return ClientClosed("connect first: `async with pubsubd.connect()` or `await` it")

    async def _open(self) -> Self:
        check_process()
        if self._opened is None and not self._opening.under_way and not self._subscriptions:
            self._home.leave()  # Nothing is open, so any event loop may open it.
        self._home.enter()
        while self._opened is None and not self._closed:
            error = await self._opening.ended()
            if error is not None:
                raise copy_of(error) if isinstance(error, PubSubError) else error
        self._check_not_closed()
        return self

    async def _connect(self) -> None:
        publisher = Publisher(self._dialler, self._lost, self._restored, self._home.check)
        await publisher.start()
        self._opened = publisher
        self._inherited = False
        if not self._closed:
            self.state = State.CONNECTED

    async def _end(self) -> PubSubError | None:
        await self._opening.cancel()
        timeout_s = 0.0
        try:
            await asyncio.gather(*(s.close() for s in list(self._subscriptions)))
            timeout_s = self._options.close_timeout_s
        finally:
            failure = None if self._opened is None else await self._opened.close(timeout_s)
        return failure

    @property
    def _closed(self) -> bool:
        # A property, because mypy assumes that a compared attribute does not change during an `await`.
        return self.state is State.CLOSED

    def _check_not_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this client is closed")

    def _subscription_opens(self, subscription: Subscription) -> None:
        self._check_not_closed()
        self._home.enter()
        self._subscriptions.add(subscription)

    def _subscription_closes(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def _lost(self, why: PubSubError) -> None:
        if self.state is State.CONNECTED:
            self.state = State.LOST
            if self._options.on_lost is not None:
                self._callbacks.call(self._options.on_lost, why)

    def _restored(self) -> None:
        if self.state is State.LOST:
            self.state = State.CONNECTED
            if self._options.on_restored is not None:
                self._callbacks.call(self._options.on_restored)

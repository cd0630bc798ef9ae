"""The blocking client: an application without an event loop publishes and subscribes with it, in any of its threads."""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Literal, Self

from pubsubd import arguments
from pubsubd.codecs import MSGPACK, Codec
from pubsubd.encoding import encoded
from pubsubd.errors import ClientClosed, CursorExpired, InvalidArgument, copy_of
from pubsubd.forks import begins_anew, check_process, keep
from pubsubd.health import NodeBack, NodeLost, State
from pubsubd.options import ClientOptions, SubscriptionOptions, client_options, subscription_options
from pubsubd.receipts import Receipt, Receipts
from pubsubd.sync.guard import Guard
from pubsubd.sync.publisher import SharedPublisher
from pubsubd.sync.subscription import Subscription
from pubsubd.sync.wire import WireDialler
from pubsubd_protocol.errors import PubSubError

_log: Final = logging.getLogger("pubsubd")


class Client:
    """Made by `connect`. It connects when `with` is entered, or at its first use. Many threads may use one client.

    All that it does, it does inside these calls. Between calls nothing is read, and a lost connection is not made
    again. Publishing raises `ClientClosed` after `close`. A copy (by `copy`, `pickle` or `fork`) has the same options.
    When used, it gets a connection and an identity of its own.
    """

    name: str | None
    """The argument of `connect`, shown in `repr`."""
    socket: str
    """Absolute path of the broker's socket."""

    def __init__(self, options: ClientOptions) -> None:
        self.name = options.name
        self.socket = options.socket
        self._options = options
        self._codec = options.codec
        self._dialler = WireDialler(options.socket, options.connect_timeout_s)
        self._closed = False
        self._begin()
        begins_anew(self)

    def _begin(self) -> None:
        self._opened: SharedPublisher | None = None
        self._opening = Guard(lambda: None)
        self._subscriptions: set[Subscription] = set()

    def forked(self) -> None:
        """In a forked child: leave all that is open or in flight to the parent. The first use connects."""
        keep(self._opened, self._opening, self._subscriptions)
        self._begin()

    def __reduce__(self) -> tuple[type[Self], tuple[ClientOptions]]:
        return type(self), (self._options,)

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<Client{name} at {self.socket}, {self.state.value}>"

    def __enter__(self) -> Self:
        self._publisher()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except PubSubError:
            # The error inside the `with` matters more than messages that it kept from being sent.
            if error is None:
                raise

    @property
    def state(self) -> State:
        """State of the connection for publishing, as far as the last call has seen it."""
        if self._closed:
            return State.CLOSED
        if self._opened is None:
            return State.CONNECTING
        return State.CONNECTED if self._opened.connected else State.LOST

    @property
    def node(self) -> str:
        """The name of the broker's node. Connects, if the client has not done so."""
        return self._publisher().node

    def close(self) -> None:
        """End subscriptions, wait up to `close_timeout_s` until sent messages are accepted, then disconnect.

        Raises like `flush` if a sent message failed that was not flushed. Calling it again is harmless. Threads that wait
        for a message or for room in the window get `ClientClosed`.
        """
        check_process()
        self._closed = True
        publisher = self._opened
        failure = None
        if publisher is not None:
            publisher.stop_taking()
        try:
            for subscription in list(self._subscriptions):
                subscription.close()
        finally:
            if publisher is not None:
                failure = publisher.close(self._options.close_timeout_s)
                self._opened = None
        if failure is not None:
            raise failure

    def publish(
        self,
        topic: str,
        payload: Any,
        *,
        to: str | None = None,
        timeout: float | None = None,
        codec: Codec | None = None,
    ) -> Receipt:
        """Publish a message and wait until it is accepted.

        While one thread waits, the messages of other threads collect, and go out together.

        - `to`: only that node's sessions get the message.
        - `timeout`: seconds for which the client tries, also over a restart of the broker; default `publish_timeout_s`.
        - `codec`: for this message, instead of the client's.

        Raises `PublishRejected`, `PublishUnknown`, `BrokerUnavailable`, `InvalidTopic`, `MessageTooLarge`,
        `EncodeError`, `InvalidArgument`. A signal that ends the wait does not take the message back.
        """
        publisher = self._publisher()
        timeout_s = self._timeout_s(timeout)
        raw = encoded(self._codec_of(codec), topic, payload)
        return publisher.publish(topic, raw, to, timeout_s)

    def publish_many(
        self,
        topic: str,
        payloads: Iterable[Any],
        *,
        to: str | None = None,
        timeout: float | None = None,
        codec: Codec | None = None,
    ) -> Receipts:
        """Publish several messages in order, and wait until all are accepted.

        A collection, such as a list, is encoded first: if one payload cannot be encoded, none is published. Payloads
        of an iterator are published as they come, as fast as the broker accepts them and in bounded memory; `timeout`
        counts from the moment at which a payload comes.

        Raises the first failure like `publish`. A note names the failed payload. Other payloads may have been accepted.
        """
        publisher = self._publisher()
        timeout_s = self._timeout_s(timeout)
        arguments.payloads(payloads)
        if not isinstance(payloads, Iterable):
            raise InvalidArgument(
                "payloads is a list or iterator: a blocking client cannot wait for an asynchronous iterator"
            )
        return publisher.publish_many(self._codec_of(codec), topic, payloads, to, timeout_s)

    def send(
        self, topic: str, payload: Any, *, to: str | None = None, codec: Codec | None = None
    ) -> None:
        """Publish a message without waiting, while the window has room. `flush` tells whether all was accepted.

        Raises `InvalidTopic`, `MessageTooLarge`, `EncodeError` and `InvalidArgument` for this message. If an earlier
        message failed, `send` raises that failure as `flush` would, and does not take this message: an endless loop
        of sends thereby learns of it. The answers are read by later calls: call `flush` or `close` at the end.
        """
        publisher = self._publisher()
        raw = encoded(self._codec_of(codec), topic, payload)
        publisher.send(topic, raw, to, self._options.publish_timeout_s)

    def flush(self) -> None:
        """Wait until everything sent so far is accepted.

        Raises the first failure since the last flush; its `failed` counts the failed messages.
        """
        self._publisher().flush()

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
        """An open subscription: it misses no message without saying so. Use it with `with`, or close it.

        - `name`: the broker keeps the acknowledged position under this name while the application is away.
        - `wait=True`: waits while another connection holds the name, as a hot standby does. Otherwise raises
          `NameInUse`. Iterating raises `NameInUse` if another connection takes the name later.
        - `start`: "latest", or "earliest" for all that the rings still hold.
        - `position`: a stored `subscription.position` at which to go on.
        - `echo=False`: leave out the messages that this client publishes.
        - `ack="manual"`: `subscription.ack(message)` acknowledges; "auto": asking for the next message does.
        - `on_expired`: called at a gap, by the thread that iterates.
        - `on_lost`, `on_restored`: called when a wait sees that a node fell silent, and that the broker hears it again.
          The own broker's node counts, too.

        Raises `InvalidTopic`, `InvalidPosition`, `InvalidArgument`, `BrokerUnavailable`, `ConnectionRefused`, `NameInUse`
        or `ProtocolError`. Example:

        ```python
        with client.subscribe("orders.>", on_expired=reload) as subscription:
            for message in subscription:
                apply(message.topic, message.payload)
        ```
        """
        check_process()
        self._check_not_closed()
        options = subscription_options(
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
        _check_plain(on_expired=on_expired, on_lost=on_lost, on_restored=on_restored)
        return self._subscription(options)

    def _subscription(self, options: SubscriptionOptions) -> Subscription:
        subscription = Subscription(
            self._dialler, options, call=_call, on_close=self._subscriptions.discard
        )
        self._subscriptions.add(subscription)
        subscription.open()
        return subscription

    def _codec_of(self, codec: Codec | None) -> Codec:
        return self._codec if codec is None else arguments.codec(codec)

    def _timeout_s(self, timeout: float | None) -> float:
        if timeout is None:
            return self._options.publish_timeout_s
        return arguments.seconds("timeout", timeout)

    def _publisher(self) -> SharedPublisher:
        """The open publisher. The first call of each process connects."""
        check_process()
        publisher = self._opened
        if publisher is None:
            publisher = self._opening.change(self._open)
        return publisher

    def _open(self) -> SharedPublisher:
        self._check_not_closed()
        if self._opened is None:
            publisher = SharedPublisher(self._dialler, self._lost, self._restored)
            publisher.open()
            self._opened = publisher
        return self._opened

    def _check_not_closed(self) -> None:
        if self._closed:
            raise ClientClosed("this client is closed")

    def _lost(self, why: PubSubError) -> None:
        if self._options.on_lost is not None and not self._closed:
            _call(self._options.on_lost, copy_of(why))

    def _restored(self) -> None:
        if self._options.on_restored is not None and not self._closed:
            _call(self._options.on_restored)


def connect(
    socket: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    codec: Codec = MSGPACK,
    publish_timeout_s: float = 10.0,
    connect_timeout_s: float = 5.0,
    close_timeout_s: float = 5.0,
    on_lost: Callable[[PubSubError], object] | None = None,
    on_restored: Callable[[], object] | None = None,
) -> Client:
    """A blocking client of the broker on this host. It connects at its first use, or when `with` is entered.

    - `socket`: default `$PUBSUBD_SOCKET`, else `$XDG_RUNTIME_DIR/pubsubd/pubsubd.sock`, else
      `/tmp/pubsubd-<uid>/pubsubd.sock`. `connect` makes a relative path absolute.
    - `name`: shown in `repr`, for people.
    - `codec`: for all payloads of this client, where a call names no other.
    - `publish_timeout_s`: seconds for which a publish tries, also over a restart of the broker.
    - `connect_timeout_s`: seconds for one attempt to connect, above 0.
    - `close_timeout_s`: seconds for which `Client.close` waits until sent messages are accepted.
    - `on_lost(error)` and `on_restored()`: called by the thread whose call sees it.

    Raises `InvalidArgument`. Connecting raises `BrokerUnavailable` at once if no broker answers, and
    `ConnectionRefused` if this user may not connect. Example:

    ```python
    with pubsubd.sync.connect() as client:
        receipt = client.publish("orders.created", {"id": 1})
    ```
    """
    options = client_options(
        socket,
        name=name,
        codec=codec,
        publish_timeout_s=publish_timeout_s,
        connect_timeout_s=connect_timeout_s,
        close_timeout_s=close_timeout_s,
        on_lost=on_lost,
        on_restored=on_restored,
    )
    _check_plain(on_lost=on_lost, on_restored=on_restored)
    return Client(options)


def _check_plain(**functions: object) -> None:
    """Raises `InvalidArgument` for a coroutine function: nothing would await it."""
    for name, function in functions.items():
        called = getattr(function, "__call__", None)  # noqa: B004
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
            raise InvalidArgument(
                f"{name} is a coroutine function: a blocking client calls plain functions only"
            )


def _call(callback: Callable[..., object], *arguments: object) -> None:
    """Call a function of the application. Its error is logged: the caller may be in the middle of another's work."""
    try:
        callback(*arguments)
    except Exception:
        name = threading.current_thread().name
        _log.exception("a callback of a pubsubd client raised in thread %s", name)

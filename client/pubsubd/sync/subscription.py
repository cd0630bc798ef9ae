"""A blocking subscription: the ways to iterate one session, and the application's position in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from threading import get_ident
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar, overload

from pubsubd import arguments
from pubsubd.batch import Batch
from pubsubd.errors import AlreadyIterating, ClientClosed, CursorExpired, InvalidArgument
from pubsubd.forks import begins_anew, check_process, keep
from pubsubd.health import HealthEvent, State
from pubsubd.messages import Message
from pubsubd.options import SubscriptionOptions
from pubsubd.resume import within_bound
from pubsubd.session_link import Stored
from pubsubd.sync.session import SessionReader
from pubsubd.sync.wire import WireDialler
from pubsubd_protocol.positions import dump_positions
from pubsubd_protocol.topics import check_asked, check_pattern

T = TypeVar("T", covariant=True)


class Blocking(Iterator[T], Generic[T]):
    """An iterator over the results of `following`. It holds no events itself, so a wait that was broken off loses nothing."""

    __slots__ = ("_following",)

    def __init__(self, following: Callable[[], T]) -> None:
        self._following = following

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._following()


class Subscription:
    """Made, and opened, by `client.subscribe`. Use it with `with`, or call `close`.

    One thread iterates; `ack`, `add`, `remove`, `position` and `close` may be called from any. After a loss the
    subscription goes on where it was, by itself. A forked child has to subscribe anew.

    Iterating yields messages. At a gap, `on_expired` is called before the next message. If it raises, it is called
    again when the application asks for the next message. Without `on_expired`, iterating raises `CursorExpired` at
    the gap; iterating again goes on behind the gap. It raises `ClientClosed` once the subscription is closed,
    `AlreadyIterating` in a second thread, and `NameInUse` or `ConnectionRefused` if the broker ended the subscription.
    A signal whose handler raises ends a wait at once, and loses nothing.
    """

    def __init__(
        self,
        dialler: WireDialler,
        options: SubscriptionOptions,
        *,
        call: Callable[[Callable[..., object], object], None],
        on_close: Callable[[Subscription], None],
    ) -> None:
        """`call`: calls a function of the application that must not stop its caller."""
        self._dialler = dialler
        self._options = options
        self._call = call
        self._on_close = on_close
        self._closed = False
        self._ended = False
        """Whether `close` has done all. It has not if a signal's handler broke it off."""
        self._inherited = False
        self._begin()
        begins_anew(self)

    def _begin(self) -> None:
        self._reader = SessionReader(self._dialler, self._options, self._call)
        # At hand here, because each message needs them.
        self._inbox = self._reader.inbox
        self._iterated_in = 0
        """The thread that is in a call for the next event; 0 for none."""

    def forked(self) -> None:
        """In a forked child: leave the session to the parent."""
        keep(self._reader)
        self._inherited = True
        self._begin()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = f" {self._options.name!r}" if self._options.name is not None else ""
        return f"<Subscription{name} of {', '.join(self.patterns)}, {self.state.value}>"

    def open(self) -> None:
        """Open the session. Called once, by the client."""
        try:
            self._reader.open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the subscription. Messages that were received and not handed out are dropped.

        Iterating elsewhere, or later, raises `ClientClosed`. Calling `close` again is harmless. Afterwards `position`
        stands behind all that the broker skipped because it did not match.
        """
        check_process()
        self._closed = True
        if not self._ended:
            if not self._inherited:
                self._reader.close()
            self._ended = True
            self._on_close(self)

    # For the application

    @property
    def position(self) -> Stored:
        """`{node: [epoch, next offset]}` behind all messages that were handed out; survives `json.dumps`.

        Store it together with the effects of the messages: `subscribe(position=…)` goes on exactly there. A position
        has at most 1,024 nodes; beyond that, the nodes that have been unreachable for longest are left out.
        """
        reader = self._reader
        return dump_positions(within_bound(reader.positions(), reader.health.unreachable))

    @property
    def state(self) -> State:
        """State of the subscription's connection, as far as the last call has seen it."""
        reader = self._reader
        if self._closed or self._inherited or reader.failure is not None:
            return State.CLOSED
        if not reader.opened:
            return State.CONNECTING
        return State.CONNECTED if reader.stands else State.LOST

    @property
    def unreachable(self) -> dict[str, float]:
        """The nodes that are not heard now, the own broker's included, each with the start of the silence (Unix time).

        As far as the last call has seen it. Silence of such a node does not mean that it publishes nothing. Its messages
        come when it is back.
        """
        return dict(self._reader.health.unreachable)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns in force, with those that were added, without those that were removed."""
        return self._reader.session.patterns

    @property
    def resumed(self) -> bool:
        """Whether the broker knew this subscription's name, and went on at the acknowledged position."""
        return self._reader.session.resumed

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self._message(math.inf)
        assert message is not None
        return message

    def get(self, timeout: float | None = None) -> Message | None:
        """The next message. None if none came within `timeout` seconds; without `timeout` it waits for one.

        Gaps are handled as in plain iteration. The time counts for the wait only, not for a call of `on_expired`.
        """
        if timeout is None:
            return self._message(math.inf)
        return self._message(time.monotonic() + arguments.seconds("timeout", timeout))

    @overload
    def events(self, *, status: Literal[False] = False) -> Blocking[Message | CursorExpired]: ...

    @overload
    def events(
        self, *, status: Literal[True]
    ) -> Blocking[Message | CursorExpired | HealthEvent]: ...

    def events(
        self, *, status: bool = False
    ) -> Blocking[Message | CursorExpired] | Blocking[Message | CursorExpired | HealthEvent]:
        """Messages and gaps (`CursorExpired`) in order, for `match`. `on_expired` is not called.

        A gap is yielded, not raised; all other errors are raised as in plain iteration. `status=True`: also `NodeLost` and
        `NodeBack`, for the own broker's node too, as soon as a wait sees them.
        """
        arguments.flag("status", status)
        return Blocking(self._next_status) if status else Blocking(self._next_event)

    def batches(self) -> Blocking[Batch]:
        """Messages that were published together, as a `Batch` each, never empty. Gaps are handled as in plain iteration."""
        return Blocking(self._next_batch)

    def ack(self, message: Message) -> None:
        """With `ack="manual"`: acknowledge `message` and all before it in its stream.

        Raises `InvalidArgument` without `ack="manual"`, or if `message` is not a `Message`; `ClientClosed`.
        """
        if not self._options.manual_ack:
            raise InvalidArgument('ack() works only with subscribe(name=…, ack="manual")')
        if not isinstance(message, Message):
            raise InvalidArgument(f"ack() takes a pubsubd.Message, not {arguments.shown(message)}")
        self._check_open()
        self._reader.acknowledge(message)

    def add(self, *patterns: str) -> Stored:
        """Subscribe to further patterns. Returns the positions from which they count, as `position` has them.

        Raises `InvalidTopic`. Raises `ConnectionRefused` for a pattern that this user may not read, or over a limit. The
        subscription then goes on with its old patterns.
        """
        self._check_open()
        for pattern in patterns:
            check_asked(pattern)
        return self._reader.change_filter(add=patterns)

    def remove(self, *patterns: str) -> Stored:
        """Remove patterns. Returns the positions up to which they counted. An unknown pattern is ignored.

        Raises `InvalidTopic` if no pattern would be left.
        """
        self._check_open()
        for pattern in patterns:
            check_pattern(pattern)
        return self._reader.change_filter(drop=patterns)

    # Handing out. The handler of a signal runs at calls, and so do other threads; stores are not interrupted. An event
    # leaves the inbox by stores alone, just before the call returns: one that the application does not get stays in hand.

    def _message(self, deadline_s: float) -> Message | None:
        reader, inbox = self._reader, self._inbox
        self._take_turn()
        try:
            if not inbox.messages:
                if not reader.ready(deadline_s, tell=True):
                    return None
                reader.guard.change(inbox.spread)
            return self._handed_out()
        finally:
            self._iterated_in = 0

    def _next_event(self) -> Message | CursorExpired:
        reader, inbox = self._reader, self._inbox
        self._take_turn()
        try:
            if not inbox.messages:
                reader.ready(math.inf)
                notice = inbox.notice
                if notice is not None:
                    inbox.told = True
                    return notice
                reader.guard.change(inbox.spread)
            return self._handed_out()
        finally:
            self._iterated_in = 0

    def _handed_out(self) -> Message:
        """The first message in hand, which leaves it."""
        reader, messages = self._reader, self._inbox.messages
        message = messages[-1]
        if reader.settling is not None:
            reader.guard.change(reader.handed, message)
        reader.last = message
        del messages[-1]
        return message

    def _next_status(self) -> Message | CursorExpired | HealthEvent:
        reader = self._reader
        if reader.health.news or not self._inbox.messages:
            self._take_turn()
            try:
                reader.ready(math.inf, status=True)
                news = reader.guard.change(reader.health.take)
                if news is not None:
                    return news
            finally:
                self._iterated_in = 0
        return self._next_event()

    def _next_batch(self) -> Batch:
        reader, inbox = self._reader, self._inbox
        self._take_turn()
        try:
            reader.ready(math.inf, tell=True)
            batch = reader.guard.change(inbox.rest)
            if reader.settling is not None:
                reader.guard.change(reader.handed_together, batch)
            reader.last = batch
            inbox.batch = None
            inbox.messages = []
            return batch
        finally:
            self._iterated_in = 0

    def _take_turn(self) -> None:
        """Take the right to the next event, which one thread has at a time."""
        self._check_open()
        me = get_ident()
        # No call between the question and the store.
        if self._iterated_in != 0 and self._iterated_in != me:
            raise AlreadyIterating(
                "another thread iterates this subscription already, and each would get a part: iterate in one thread, "
                "or subscribe for each thread"
            )
        self._iterated_in = me

    def _check_open(self) -> None:
        check_process()
        if self._inherited:
            raise ClientClosed(
                "subscribe anew in this process: the subscription belongs to its parent"
            )
        if self._closed:
            raise ClientClosed("this subscription is closed")

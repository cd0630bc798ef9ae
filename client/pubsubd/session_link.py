"""Keeps a session's connection: opens it, opens it again after a loss, and changes the session's filter."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from pubsubd.connection import BrokerConnection, BrokerDialler, unexpected
from pubsubd.errors import BrokerUnavailable, ClientClosed, copy_of
from pubsubd.health import HealthEvent, SubscriptionHealth
from pubsubd.redial import Redial
from pubsubd.refusals import is_final, is_name_lost, refusal_of
from pubsubd.resume import Event, SessionState
from pubsubd.unavailable import connection_lost, silent
from pubsubd_protocol import codec
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError, PubSubError
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.frames import FilterSet, Frame, SetFilter, Skip, StreamPosition, Subscribed
from pubsubd_protocol.frames import Health as HealthTold
from pubsubd_protocol.positions import Position, dump_positions

Stored = dict[str, list[str | int]]
"""Positions as `dump_positions` writes them."""


class Sink(Protocol):
    """Receiver of the events of a session."""

    def begins(self, answer: Subscribed) -> None:
        """Called when the session opens for the first time."""

    def acknowledged(self) -> dict[str, Position] | None:
        """The acknowledged positions. The link presents them when it resumes the session."""

    def resumes(self) -> None:
        """Called when the session is open again, on a new connection."""

    def arrived(self, event: Event) -> None: ...

    def health(self, changes: list[HealthEvent]) -> None:
        """Called when nodes were lost, or are back: the own broker, or its producers."""

    def ended(self) -> None:
        """Called when the session has ended for good; `failure` says why."""


class SessionLink:
    """Keeps one session going until it is closed or refused for good."""

    def __init__(
        self, dialler: BrokerDialler, session: SessionState, sink: Sink, *, waits: bool = False
    ) -> None:
        """`waits`: opening retries while another connection holds the session's name."""
        self.session = session
        self.failure: PubSubError | None = None
        """The error that ended the session, in the SDK's words."""
        self.known: set[str] = set()
        """The nodes that the broker named on this connection."""
        self.health = SubscriptionHealth()
        self.paused = False
        """Whether the present connection is not read from."""
        self._node = ""
        self._waits = waits
        self._stands_by = False
        """Whether this session waits for its name, which another connection held at the last attempt."""
        self._dialler = dialler
        self._sink = sink
        self._connection: BrokerConnection | None = None
        self._asked: tuple[str, ...] = ()
        self._answer: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[PubSubError] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._violations = 0
        self._filter_set: asyncio.Future[Stored | PubSubError] | None = None
        """The outcome of the last change of the filter. An error is a value here: the waiting task may be gone."""
        self._unchanged: tuple[str, ...] = ()
        """The patterns before the change that waits for the broker's answer."""
        self._filters_asked = 0

    @property
    def opened(self) -> bool:
        return self._keeper is not None

    @property
    def stands(self) -> bool:
        """Whether the broker has the session open now."""
        return self._connection is not None and self._answer is None

    async def open(self) -> None:
        """Open the session. If no broker answers, retry for the dialler's time-out."""
        try:
            await self._open_first()
        except PubSubError as error:
            raise self._named(error) from error.__cause__
        self._keeper = asyncio.create_task(self._keep(), name="pubsubd subscription")

    def stop(self) -> None:
        """End all waits of tasks that change the filter."""
        closed = ClientClosed("this subscription is closed")
        self.failure = self.failure or closed
        self._fail_filter(closed)

    async def close(self) -> None:
        """Close the connection. It cleans up even if it is cancelled."""
        if self._keeper is not None:
            self._keeper.cancel()
        connection = self._connection
        try:
            if connection is not None:
                # The broker answers with its last position for the session.
                await connection.close(listening=True)
        finally:
            self._connection = None
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    def write(self, frames: list[Frame]) -> None:
        if self._connection is not None:
            self._connection.write([codec.encode(frame) for frame in frames])

    def pause(self) -> None:
        """Stop reading, unless a change of the filter waits for its answer.

        That answer comes behind the frames that the broker has sent already, and the application may ask for no
        message before it has the answer.
        """
        waits = self._filter_set is not None and not self._filter_set.done()
        if self._connection is not None and not waits:
            self.paused = True
            self._connection.pause()

    def resume(self) -> None:
        self.paused = False
        if self._connection is not None:
            self._connection.resume()

    async def change_filter(
        self, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()
    ) -> Stored:
        """Change the patterns. Returns the positions from which the new ones count. Changes run one at a time.

        Raises the broker's refusal; the session then goes on with its old patterns. Cancelling does not take the
        change back.
        """
        while self._filter_set is not None and not self._filter_set.done():
            await asyncio.wait([self._filter_set])
        if self.failure is not None:
            raise copy_of(self.failure)
        self._unchanged = self.session.patterns
        self.session.change_filter(add, drop)
        answer: asyncio.Future[Stored | PubSubError] = asyncio.get_running_loop().create_future()
        self._filter_set = answer
        self.resume()
        if self.stands:
            self._send_filter()
        await asyncio.wait([answer])
        outcome = answer.result()
        if isinstance(outcome, PubSubError):
            raise outcome
        return outcome

    def received(self, connection: BrokerConnection, frame: Frame) -> None:
        if connection is not self._connection:
            return
        event: Event | None
        match frame:
            case Entry():
                # Most of what comes, so it has a call less.
                event = self.session.entry(frame)
            case Skip() | Expired() | StreamPosition():
                event = self.session.event_of(frame)
            case Subscribed():
                self._subscribed(frame)
                return
            case HealthTold(lost):
                self._sink.health(self.health.told(lost, time.time()))
                return
            case FilterSet():
                self._filters_asked -= 1
                if self._filters_asked == 0:
                    self._answer_filter(frame.positions)
                return
            case _:
                raise unexpected(frame)
        self.known.add(frame.node)
        if event is not None:
            self._violations = 0
            self._sink.arrived(event)

    def lost(self, connection: BrokerConnection, why: PubSubError) -> None:
        if connection is not self._connection:
            return
        if self.stands:
            self._sink.health(self.health.broker_lost(self._node, time.time()))
        self._connection = None
        if self._answer is not None:
            if not self._answer.done():
                self._answer.set_exception(why)
        elif self._lost is not None and not self._lost.done():
            self._lost.set_result(why)

    def writable(self, connection: BrokerConnection) -> None:
        """Do nothing: a session writes little, so no write waits."""

    async def _open_first(self) -> None:
        """Connect for the first time. The time-out stops while the session waits for its name."""
        try:
            await self._connect()
            return
        except PubSubError as error:
            if self._hopeless(error):
                raise
            last = error
        timeout_s = self._dialler.timeout_s
        redial = Redial()
        try:
            async with asyncio.timeout(None if self._stands_by else timeout_s) as window:

                def hopeless(why: PubSubError) -> bool:
                    nonlocal last
                    last = why
                    if self._hopeless(why):
                        return True
                    if self._stands_by:
                        window.reschedule(None)
                    elif window.when() is None:
                        # The broker went away. It may be back long before a backed-off attempt is due.
                        window.reschedule(asyncio.get_running_loop().time() + timeout_s)
                        redial.begin_anew()
                    return False

                await redial.until_connected(self._connect, hopeless)
        except TimeoutError:
            raise last from None

    async def _connect(self) -> None:
        connection, welcome = await self._dialler.dial("session", self)
        self._node = welcome.node
        loop = asyncio.get_running_loop()
        answer = self._answer = loop.create_future()
        self._connection = connection
        self.paused = False
        self._lost = loop.create_future()
        self._filters_asked = 0
        self.known.clear()
        # Both positions go in one frame: a restarted broker must not take received messages for acknowledged ones.
        acknowledged = self._sink.acknowledged() if self.session.stood else None
        asked = self.session.subscribe(acknowledged, self.health.unreachable)
        self._asked = self.session.patterns
        connection.write([codec.encode(asked)])
        try:
            async with asyncio.timeout(self._dialler.timeout_s):
                await answer
        except TimeoutError:
            why = silent(self._dialler.socket, self._dialler.timeout_s)
            connection.fail(why)
            raise why from None
        except asyncio.CancelledError:
            connection.fail(BrokerUnavailable(self._dialler.socket, "given up"))
            raise
        finally:
            self._answer = None
        if connection.why is not None:
            raise connection.why

    def _subscribed(self, frame: Subscribed) -> None:
        if self._answer is None or self._answer.done():
            raise unexpected(frame)
        first = not self.session.stood
        news = self.session.subscribed(frame)
        self.known.update(frame.positions)
        if first:
            self._sink.begins(frame)
        else:
            self._sink.resumes()
            for moved in news:
                self._sink.arrived(moved)
        self._answer.set_result(None)
        self._answer = None
        self._sink.health(self.health.told(frame.lost, time.time()))
        if self._asked != self.session.patterns:
            self._send_filter()
        else:
            self._answer_filter(self.session.received)

    async def _keep(self) -> None:
        redial = Redial()
        while True:
            assert self._lost is not None
            why = await self._lost
            try:
                if self._hopeless(why):
                    raise why
                await redial.until_connected(self._connect, self._hopeless)
            except Exception as error:
                # Tell any error: an application that waits for a message must get it.
                told = (
                    error
                    if isinstance(error, PubSubError)
                    else connection_lost(self._dialler.socket, error)
                )
                self.failure = self._named(told)
                self._fail_filter(self.failure)
                self._sink.ended()
                return

    def _hopeless(self, why: PubSubError) -> bool:
        self._stands_by = is_name_lost(why) and self._waits and not self.opened
        if isinstance(why, ProtocolError):
            self._violations += 1
        final = is_final(
            why,
            opened=self.opened,
            stands_by=self._stands_by,
            violations=self._violations,
        )
        return final and not self._takes_back_filter(why)

    def _takes_back_filter(self, why: PubSubError) -> bool:
        """Whether the broker refused a change of the filter by ending the connection. Then restore the old patterns."""
        asked = self._filter_set
        if asked is None or asked.done() or not isinstance(why, ConnectionRefused):
            return False
        if is_name_lost(why):
            return False
        self.session.patterns = self._unchanged
        self._fail_filter(self._named(why))
        return self._keeper is not None

    def _named(self, error: PubSubError) -> PubSubError:
        """The SDK's error for `error`."""
        return refusal_of(error, self.session.name)

    def _send_filter(self) -> None:
        assert self._connection is not None
        self._filters_asked += 1
        self._connection.write([codec.encode(SetFilter(self.session.patterns))])

    def _answer_filter(self, positions: dict[str, Position]) -> None:
        if self._filter_set is not None and not self._filter_set.done():
            self._filter_set.set_result(dump_positions(positions))

    def _fail_filter(self, why: PubSubError) -> None:
        if self._filter_set is not None and not self._filter_set.done():
            self._filter_set.set_result(why)

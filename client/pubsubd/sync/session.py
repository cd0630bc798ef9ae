"""A session of a blocking client: its connection, opened again after each loss, and the events that wait."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from pubsubd.batch import Batch
from pubsubd.chance import chance
from pubsubd.connection import GOODBYE_S, unexpected
from pubsubd.errors import ClientClosed, CursorExpired, copy_of
from pubsubd.health import HealthEvent, NodeBack, NodeLost, SubscriptionHealth
from pubsubd.inbox import Inbox
from pubsubd.messages import Message
from pubsubd.options import SubscriptionOptions
from pubsubd.redial import Redial
from pubsubd.refusals import is_final, is_name_lost, refusal_of
from pubsubd.session_link import Stored
from pubsubd.settling import Settling, pass_told
from pubsubd.sync.bell import Bell
from pubsubd.sync.guard import Guard
from pubsubd.sync.service import Service
from pubsubd.sync.wire import RECONNECT_S, Wire, WireDialler
from pubsubd.unavailable import silent
from pubsubd_protocol import codec
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError, PubSubError
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.frames import (
    FilterSet,
    Frame,
    SetFilter,
    Skip,
    StreamPosition,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.frames import Health as HealthTold
from pubsubd_protocol.positions import Epoch, Position, dump_positions

ACK_S = 0.05
"""Seconds between two acknowledgements while messages are in hand. Before a wait, all that is due goes out."""


class FilterChange:
    """A change of the patterns that waits for the broker's answer."""

    __slots__ = ("outcome", "unchanged")

    def __init__(self, unchanged: tuple[str, ...]) -> None:
        self.unchanged = unchanged
        """The patterns before the change."""
        self.outcome: Stored | PubSubError | None = None


class SessionReader:
    """Between a session's connection and the application's threads: `ready` waits, `inbox` has the events.

    The connection is read only inside the application's calls. Nothing is read while the application has an event in
    hand: what it does not take waits in its broker's ring.
    """

    def __init__(
        self,
        dialler: WireDialler,
        options: SubscriptionOptions,
        call: Callable[[Callable[..., object], object], None],
    ) -> None:
        """`call`: calls a function of the application that must not stop its caller."""
        self.inbox = Inbox(options.codec)
        self.session = options.session()
        self.health = SubscriptionHealth()
        self.known: set[str] = set()
        """The nodes that the broker named on this connection."""
        self.failure: PubSubError | None = None
        """The error that ended the session for good, in the SDK's words."""
        self.opened = False
        self.stands = False
        """Whether the broker has the session open now."""
        self.settling: Settling | None = None
        """The acknowledgements; None without a name."""
        if options.name is not None:
            self.settling = Settling(
                self.inbox, self, self._acknowledge_soon, manual=options.manual_ack
            )
        self.last: Message | Batch | None = None
        """The last that the application got since the inbox moved on."""
        self.guard = Guard(self._begin_anew)
        self._stood: dict[str, Position] = {}
        """The application's positions when the inbox last moved on."""
        self._service = Service(self.guard, self._serve, self._leave)
        self._bell = Bell()
        self._dialler = dialler
        self._options = options
        self._call = call
        self._wire: Wire | None = None
        self._retired: list[Wire] = []
        self._node = ""
        self._redial = Redial()
        self._next_dial_s = 0.0
        self._answer_due_s = math.inf
        """The time by which the broker has to open the session on this connection."""
        self._open_until_s = math.inf
        """The time at which the first opening gives up; none while the session waits for its name."""
        self._why: PubSubError | None = None
        self._stands_by = False
        self._violations = 0
        self._asked: tuple[str, ...] = ()
        self._filters_asked = 0
        self._change: FilterChange | None = None
        self._changes: deque[HealthEvent] = deque()
        self._acks_due: Callable[[], None] | None = None
        self._next_ack_s = 0.0
        self._closing = False

    # For the application's threads

    def open(self) -> None:
        """Open the session. If no broker answers, retry for the dialler's time-out."""
        self._open_until_s = time.monotonic() + self._dialler.timeout_s
        while not self.opened:
            until_s = self._open_until_s

            def moved_on(until_s: float = until_s) -> bool:
                ended = self.failure is not None or self._closing
                return self.opened or ended or self._open_until_s != until_s

            waited = self._service.wait(moved_on, until_s)
            if self.failure is not None:
                raise copy_of(self.failure)
            if self._closing:
                raise self._closed()
            if not waited:
                why = self._why or silent(self._dialler.socket, self._dialler.timeout_s)
                raise copy_of(refusal_of(why, self.session.name))

    def ready(self, deadline_s: float, *, tell: bool = False, status: bool = False) -> bool:
        """Wait until the inbox has an event in hand. False if none came by `deadline_s`.

        `tell`: tell the application of gaps, and wait for messages behind them. `status`: return for news of health,
        too. Raises like iterating a `Subscription`.
        """
        guard, inbox = self.guard, self.inbox
        guard.change(self._pass)
        while True:
            if self._closing:
                raise self._closed()
            notice = inbox.notice
            if inbox.in_hand:
                if not tell or notice is None:
                    return True
                self._tell(notice)
                guard.change(self._pass)
            elif status and self.health.news:
                return True
            elif not guard.change(self._advance):
                if self.failure is not None:
                    raise copy_of(self.failure)
                news = self._news if status else self._event_waits
                if not self._service.wait(news, deadline_s):
                    return False

    def acknowledge(self, message: Message) -> None:
        """With manual acknowledgements: the application needs nothing up to and including `message` again."""
        self.guard.change(self._acknowledge, message)

    def positions(self) -> dict[str, Position]:
        """The application's positions: behind all that it got."""
        return self.guard.change(self.inbox.positions)

    def change_filter(self, *, add: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> Stored:
        """Change the patterns. Returns the positions from which the new ones count. Changes run one at a time.

        Raises the broker's refusal; the session then goes on with its old patterns.
        """
        while True:
            change = self.guard.change(self._ask_filter, add, drop)
            if change is not None:
                break
            self._service.wait(lambda: self._change is None or self._closing)
        self._service.wait(lambda: change.outcome is not None)
        if isinstance(change.outcome, PubSubError):
            raise change.outcome
        assert change.outcome is not None
        return change.outcome

    def stop(self) -> None:
        """Hand out no more, and wake all threads that wait. `close` does the rest."""
        self._closing = True
        self._service.wake()
        self._bell.ring()

    def close(self) -> None:
        """Leave the broker: wait until it has told its last and closed its end, or for `GOODBYE_S`."""
        self.stop()
        try:
            if self.guard.change(self._say_goodbye):
                self._service.wait(lambda: self._wire is None, time.monotonic() + GOODBYE_S)
        finally:
            self.guard.change(self._retire)
            if not self._service.served:
                self._leave()

    # For the acknowledgements

    def write(self, frames: list[Frame]) -> None:
        if self._wire is not None:
            self._wire.write([codec.encode(frame) for frame in frames])

    def _acknowledge_soon(self, acknowledge: Callable[[], None]) -> None:
        self._acks_due = acknowledge

    def _acknowledge_now(self) -> None:
        due, self._acks_due = self._acks_due, None
        if due is not None:
            due()

    # Waits

    def _event_waits(self) -> bool:
        return self.inbox.waits or self.failure is not None or self._closing

    def _news(self) -> bool:
        return self.health.news or self._event_waits()

    def _tell(self, notice: CursorExpired) -> None:
        """Tell the application of the gap in hand."""
        if self._options.on_expired is None:
            self.inbox.told = True
            raise notice
        self._options.on_expired(notice)
        self.inbox.told = True

    def _closed(self) -> ClientClosed:
        return ClientClosed("this subscription is closed")

    # Serving the connection: one thread at a time, without the lock

    def _serve(self, deadline_s: float) -> None:
        self._close_retired()
        wire = self._wire
        now_s = time.monotonic()
        if wire is not None:
            wire.wait(min(deadline_s, self._answer_due_s) - now_s)
            self.guard.change(self._turn)
        elif self._closing or self.failure is not None or now_s < self._next_dial_s:
            self._bell.wait(min(deadline_s, max(now_s, self._next_dial_s)) - now_s)
        else:
            within_s = min(self._dialler.timeout_s, max(RECONNECT_S, deadline_s - now_s))
            try:
                opened = self._dialler.dial("session", self._bell, within_s)
            except PubSubError as why:
                self.guard.change(self._lost, why)
            else:
                self.guard.change(self._connected, *opened)
        self._tell_health()

    def _leave(self) -> None:
        self._close_retired()
        if self._closing:
            self._bell.close()

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.pop().close()

    def _tell_health(self) -> None:
        while self._changes:
            change = self._changes.popleft()
            match change:
                case NodeLost() if self._options.on_lost is not None:
                    self._call(self._options.on_lost, change)
                case NodeBack() if self._options.on_restored is not None:
                    self._call(self._options.on_restored, change)

    # Changes, each a step of the guard

    def _pass(self) -> None:
        if pass_told(self.inbox, self.settling):
            self._moved_on()

    def _advance(self) -> bool:
        """Take the next event in hand. False if none has arrived: then the broker gets all acknowledgements."""
        if self._closing:
            raise self._closed()
        found = self.inbox.advance()
        self._moved_on()
        if self.settling is not None:
            self.settling.soon()
            self._acknowledge_now()
        return found

    def _moved_on(self) -> None:
        stood = self.inbox.positions()
        # Two stores without a call between them: a signal's handler does not come between.
        self._stood = stood
        self.last = None

    def _acknowledge(self, message: Message) -> None:
        assert self.settling is not None
        self.settling.acknowledge(message)
        self._acknowledge_now()

    def handed(self, message: Message) -> None:
        """Note that the application is about to get `message`, and acknowledge those before it."""
        assert self.settling is not None
        self.settling.handed(message)
        now_s = time.monotonic()
        if now_s >= self._next_ack_s:
            self._next_ack_s = now_s + ACK_S
            self._acknowledge_now()

    def handed_together(self, batch: Batch) -> None:
        assert self.settling is not None
        self.settling.handed_together(batch)

    def _connected(self, wire: Wire, welcome: Welcome) -> None:
        if self._closing:
            wire.close()
            return
        self._node = welcome.node
        self._wire = wire
        self._filters_asked = 0
        self.known.clear()
        self._answer_due_s = time.monotonic() + self._dialler.timeout_s
        # Both positions go in one frame: a restarted broker must not take received messages for acknowledged ones.
        acknowledged = None
        if self.settling is not None and self.session.stood:
            acknowledged = self.settling.resumes()
        try:
            asked = self.session.subscribe(acknowledged, self.health.unreachable)
        except PubSubError as why:
            self._lost(why)
            return
        self._asked = self.session.patterns
        wire.write([codec.encode(asked)])

    def _turn(self) -> None:
        """Take what has come."""
        wire = self._wire
        if wire is None:
            return
        try:
            for frame in wire.receive():
                self._take(frame)
            if not self.stands and time.monotonic() >= self._answer_due_s:
                raise silent(self._dialler.socket, self._dialler.timeout_s)
        except PubSubError as why:
            self._lost(why)

    def _take(self, frame: Frame) -> None:
        match frame:
            case Entry() | Skip() | Expired() | StreamPosition():
                event = self.session.event_of(frame)
                self.known.add(frame.node)
                if event is not None:
                    self._violations = 0
                    if self.inbox.put(event) and self.settling is not None:
                        # No earlier event waits for the application, so the move is settled at once.
                        self.settling.soon()
            case Subscribed():
                self._subscribed(frame)
            case HealthTold(lost):
                self._changes.extend(self.health.told(lost, time.time()))
            case FilterSet():
                self._filters_asked -= 1
                if self._filters_asked == 0:
                    self._answer_filter(dump_positions(frame.positions))
            case _:
                raise unexpected(frame)

    def _subscribed(self, frame: Subscribed) -> None:
        if self.stands:
            raise unexpected(frame)
        first = not self.session.stood
        news = self.session.subscribed(frame)
        self.known.update(frame.positions)
        self.stands = True
        self._answer_due_s = math.inf
        if first:
            self.inbox.begin(self.session.received)
            self._moved_on()
            if self.settling is not None:
                self.settling.stands(frame)
        else:
            for moved in news:
                self.inbox.put(moved)
            if self.settling is not None:
                self.settling.soon()
        self.opened = True
        self._redial.stood(time.monotonic())
        self._changes.extend(self.health.told(frame.lost, time.time()))
        if self._asked != self.session.patterns:
            self._send_filter()
        else:
            self._answer_filter(dump_positions(self.session.received))

    def _lost(self, why: PubSubError) -> None:
        """The connection is gone, or was not made: end for good, or plan the next attempt."""
        if self.stands:
            self._changes.extend(self.health.broker_lost(self._node, time.time()))
        self._retire()
        if self._closing:
            return
        self._stands_by = is_name_lost(why) and self._options.wait and not self.opened
        if isinstance(why, ProtocolError):
            self._violations += 1
        final = is_final(
            why, opened=self.opened, stands_by=self._stands_by, violations=self._violations
        )
        self._why = why
        if final and not self._takes_back_filter(why):
            self.failure = refusal_of(why, self.session.name)
            self._answer_filter(self.failure)
            return
        now_s = time.monotonic()
        if not self.opened:
            self._review_opening(now_s)
        self._next_dial_s = now_s + self._redial.pause_s(now_s, chance())

    def _review_opening(self, now_s: float) -> None:
        """The time-out of the first opening stops while the session waits for its name."""
        if self._stands_by:
            self._open_until_s = math.inf
        elif self._open_until_s == math.inf:
            # The broker went away. It may be back long before a backed-off attempt is due.
            self._open_until_s = now_s + self._dialler.timeout_s
            self._redial.begin_anew()

    def _retire(self) -> None:
        """Leave the connection. The thread that waits on its socket, or the next one that serves, closes it."""
        wire, self._wire = self._wire, None
        self.stands = False
        self._answer_due_s = math.inf
        if wire is not None:
            self._retired.append(wire)
            self._bell.ring()

    def _say_goodbye(self) -> bool:
        """Begin the end. Returns whether the broker is still to answer."""
        self.inbox.close()
        if self.settling is not None:
            self.settling.now()
        if self._change is not None:
            self._answer_filter(self._closed())
        if self._wire is None:
            return False
        self._wire.say_goodbye()
        return self.stands

    def _ask_filter(self, add: tuple[str, ...], drop: tuple[str, ...]) -> FilterChange | None:
        """Begin a change of the filter. None if another one waits for its answer."""
        if self._closing:
            raise self._closed()
        if self.failure is not None:
            raise copy_of(self.failure)
        if self._change is not None:
            return None
        change = FilterChange(self.session.patterns)
        self.session.change_filter(add, drop)
        self._change = change
        if self.stands:
            self._send_filter()
        return change

    def _send_filter(self) -> None:
        self._filters_asked += 1
        self.write([SetFilter(self.session.patterns)])

    def _answer_filter(self, outcome: Stored | PubSubError) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.outcome = outcome

    def _takes_back_filter(self, why: PubSubError) -> bool:
        """Whether the broker refused a change of the filter by ending the connection. Then restore the old patterns."""
        if (
            self._change is None
            or not isinstance(why, ConnectionRefused)
            or is_name_lost(why)
            or not self.opened
        ):
            return False
        self.session.patterns = self._change.unchanged
        self._answer_filter(refusal_of(why, self.session.name))
        return True

    def _begin_anew(self) -> None:
        """Go back to the last place that is certain: a change was broken off, so what waits is uncertain."""
        self._retire()
        positions = dict(self._stood)
        last = self.last
        if last is not None:
            behind = last.offsets[-1] if isinstance(last, Batch) else last.offset
            positions[last.node] = Position(Epoch(bytes.fromhex(last.epoch)), behind + 1)
        self.inbox.begin(positions)
        if self.settling is not None:
            self.settling.asked(None)
            self.settling.now()
        self._stood = positions
        self.last = None
        if self.session.stood:
            self.session.back_to(positions)
        self._next_dial_s = 0.0
        self._service.wake()

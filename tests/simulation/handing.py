"""The SDK's parts of one life of an application: what came, what was handed out, and what it acknowledges."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping

from tests.simulation.history import Event as HistoryEvent
from tests.simulation.history import Got, Moved, Stands
from tests.simulation.known_session import KnownSession

from pubsubd.acks import Acks
from pubsubd.codecs import RAW
from pubsubd.inbox import Inbox
from pubsubd.messages import Message
from pubsubd.resume import Arrived, Event, SessionState
from pubsubd.resume import Moved as InboxMoved
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, CursorExpired, Skip, StreamPosition, Subscribed
from pubsubd_protocol.positions import Position


class Handing:
    """Takes in frames and hands out messages. `sees` is told what the application is handed, and where it stands.

    `streams`: those that the broker has named over this connection.
    """

    def __init__(
        self,
        session: SessionState,
        positions: dict[str, Position],
        known: KnownSession,
        sees: Callable[[HistoryEvent], None],
        hand: random.Random,
        *,
        manual: bool,
    ) -> None:
        self.session = session
        self.inbox = Inbox(RAW)
        self.inbox.begin(positions)
        self.acks = Acks(manual=manual)
        self.streams: set[str] = set()
        self._known = known
        self._sees = sees
        self._hand = hand
        self._manual = manual
        self._handed: Message | None = None
        self._unhanded = 0
        self._oldest: dict[tuple[str, str, int], int] = {}

    def stands(self, answer: Subscribed) -> None:
        """The session is open."""
        self.inbox.begin(self.session.received)
        self.acks.stands(answer.positions)

    def take(self, frame: StreamPosition | Entry | Skip | CursorExpired) -> None:
        match frame:
            case StreamPosition():
                self.streams.add(frame.node)
                self._put(self.session.told(frame))
            case Entry():
                self._put(self.session.entry(frame))
            case Skip():
                self._put(self.session.skip(frame))
            case CursorExpired():
                self.streams.add(frame.node)
                expired = self.session.expired(frame)
                if expired is not None:
                    self.inbox.put(expired)
                    self._unhanded += 1
                    view = frame.view
                    self._oldest[frame.node, view.epoch.hex(), view.next] = view.oldest

    def hand_out(self, most: int) -> int:
        """Hand at most `most` messages and notices to the application. Returns the number of merged notices."""
        inbox, merged = self.inbox, 0
        for _ in range(most):
            if inbox.told and inbox.notice is not None:
                self.acks.passed(inbox.notice)
                inbox.pass_gap()
            if not inbox.in_hand and not inbox.advance():
                merged, self._unhanded = self._unhanded, 0
                self.look()
                break
            self.look()
            if inbox.notice is not None:
                notice = inbox.notice
                self._unhanded -= 1
                oldest = self._oldest[notice.node, notice.epoch, notice.next]
                self._sees(self._known.lost(notice, oldest, self.session.born or b""))
                inbox.told = True
            else:
                inbox.spread()
                message = inbox.messages.pop()
                if self._manual:
                    self._handed = message
                    self.acks.handed(message.node, message.epoch, message.offset, message.offset)
                self._sees(
                    Got(message.node, message.epoch, message.offset, message.topic, message.raw)
                )
            self.look()
        return merged

    def look(self) -> None:
        """The part of its position that the application can see, and the changes in it."""
        for node, position in self.inbox.positions().items():
            place = (position.epoch.hex(), position.offset)
            at = self._known.history.at.get(node)
            if at is None:
                self._sees(Stands(node, place))
            elif at != place:
                self._sees(Moved(node, place))

    def waiting(self) -> set[str]:
        """Streams that the application has closed, or with a notice of a loss that it has not been handed."""
        events, notice = self.inbox._events, self.inbox.notice
        waiting = {e.node for e in events if not isinstance(e, Arrived | InboxMoved)}
        waiting |= self.inbox._closed or set()
        return waiting if notice is None else waiting | {notice.node}

    def acknowledge_by_hand(self) -> None:
        """Acknowledge the last message, now and then, where the application does so itself."""
        if self._handed is not None and self._hand.random() < 0.5:
            self.acks.acknowledge(self._handed)

    def done(self) -> dict[str, Position]:
        return self.inbox.done(self._unread())

    def resumes(self) -> dict[str, Position]:
        """The places that a resume acknowledges."""
        return self.acks.resumes(self.inbox.kept(self._unread()))

    def due(self, settled: Mapping[str, Position]) -> Iterable[Ack]:
        return self.acks.due(settled, self.streams, self.session.born)

    def _unread(self) -> int | None:
        return self.inbox.unread

    def _put(self, event: Event | None) -> None:
        if event is not None:
            self.inbox.put(event)

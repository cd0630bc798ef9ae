"""Events that wait for the application, and the application's positions. Pure.

The session's link stops reading while the inbox is `full`, and reads again once the inbox has `room`.
Entries wait undecoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from pubsubd.batch import Batch, batch_of
from pubsubd.codecs import Codec
from pubsubd.errors import CursorExpired
from pubsubd.messages import Message
from pubsubd.resume import Arrived, Event, Moved
from pubsubd_protocol.attach import LOSES_HISTORY, At, merge, resolve
from pubsubd_protocol.attach import Expired as Verdict
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.positions import Position

MAX_WAITING_BYTES = 1024 * 1024
MAX_WAITING_EVENTS = 64


class Inbox:
    """A queue of events. Its front is in hand: `batch`, `messages` or `notice`, being handed out."""

    __slots__ = (
        "_at",
        "_bytes",
        "_closed",
        "_codec",
        "_events",
        "_gap",
        "_handed",
        "_spread",
        "batch",
        "messages",
        "notice",
        "told",
    )

    def __init__(self, codec: Codec) -> None:
        self.batch: Batch | None = None
        """The entry in hand, while no message of it was asked for. It goes out by `take_batch`, or by `spread`."""
        self.messages: list[Message] = []
        """Messages of the spread entry that are not handed out yet, in reverse: the next one is last."""
        self.notice: CursorExpired | None = None
        """The gap in hand. `pass_gap` removes it, when the application has dealt with it."""
        self.told = False
        """Whether the application was told of the gap in hand."""
        self._codec = codec
        # The entry from which `messages` were made.
        self._spread: Batch | None = None
        self._events: deque[Event] = deque()
        self._bytes = 0
        # After `close`: streams with an event that the application will not get.
        self._closed: set[str] | None = None
        self._handed: dict[str, Position] = {}
        self._at: tuple[str, Position] | None = None
        # The frame from which `notice` was made.
        self._gap: Expired | None = None

    @property
    def full(self) -> bool:
        return self._bytes > MAX_WAITING_BYTES or len(self._events) > MAX_WAITING_EVENTS

    @property
    def room(self) -> bool:
        return 2 * self._bytes <= MAX_WAITING_BYTES and 2 * len(self._events) <= MAX_WAITING_EVENTS

    @property
    def waits(self) -> bool:
        """Whether an event waits behind the front."""
        return bool(self._events)

    @property
    def in_hand(self) -> bool:
        """Whether messages or a gap are in hand."""
        return bool(self.messages) or self.batch is not None or self.notice is not None

    @property
    def unread(self) -> int | None:
        """The first offset of the entry in hand that is not handed out; None if all are."""
        if self.batch is not None:
            return self.batch.offsets[0]
        return self.messages[-1].offset if self.messages else None

    def spread(self) -> None:
        """Make the messages of the entry in hand, to hand them out one by one."""
        if self.batch is not None:
            self._spread, self.batch = self.batch, None
            self.messages = self._spread.reversed_messages()

    def rest(self) -> Batch:
        """All messages in hand, at least one, together. They stay in hand."""
        if self.batch is not None:
            return self.batch
        assert self._spread is not None
        return self._spread.without(len(self._spread) - len(self.messages))

    def take_batch(self) -> Batch:
        """Hand out all messages in hand, at least one, together."""
        batch = self.rest()
        self.batch = None
        self.messages = []
        return batch

    def begin(self, positions: Mapping[str, Position]) -> None:
        """The application stands at `positions`. All that waits and is in hand is dropped."""
        self.batch = self._spread = self.notice = self._gap = self._at = None
        self.told = False
        self.messages = []
        self._events.clear()
        self._bytes = 0
        self._handed = dict(positions)

    def close(self) -> None:
        """Stop handing out. Later events count only if they move the application's position."""
        if self._closed is None:
            self._closed = set()

    def put(self, event: Event) -> bool:
        """Queue an event. A move or a gap may merge with one that still waits.

        Returns whether the event moved the application's position at once: no event of its stream was waiting.
        """
        node = _node(event)
        if self._closed is not None and (node in self._closed or not isinstance(event, Moved)):
            self._closed.add(node)
            return False
        match event:
            case Arrived(entry=entry):
                self._bytes += entry.size
            case Moved():
                in_hand = self._at is not None and self._at[0] == node
                if not (in_hand or any(_node(waiting) == node for waiting in self._events)):
                    self._handed[node] = event.position
                    return True
                last = self._events[-1] if self._events else None
                if isinstance(last, Moved) and last.node == node:
                    self._events.pop()
            case Expired():
                if self._merge(event):
                    return False
        self._events.append(event)
        return False

    def advance(self) -> bool:
        """Take the next entry or the next gap in hand. Returns False if none waits.

        Call it only when all that was in hand has been handed out.
        """
        self._finish()
        while self._events and not self.in_hand:
            event = self._events.popleft()
            match event:
                case Arrived(entry=entry, start=start):
                    self._bytes -= entry.size
                    batch = batch_of(entry, start, self._codec)
                    self._at = (entry.node, Position(entry.epoch, entry.next))
                    if batch:
                        self.batch = batch
                    else:
                        self._finish()
                case Moved(node=node, position=position):
                    self._handed[node] = position
                case Expired(node=node, reason=reason, missed=missed, view=view):
                    self.notice = CursorExpired(node, reason, missed, view.next, view.epoch.hex())
                    self._gap = event
                    self._at = (node, view.place(view.next))
        return self.in_hand

    def pass_gap(self) -> None:
        """Move past the gap in hand: the application has dealt with it."""
        self.notice = self._gap = None
        self.told = False
        self._finish()

    def positions(self) -> dict[str, Position]:
        """Positions behind all that was handed out, and behind the moves that follow it in the same stream."""
        return self._behind(self.unread, told=self.told)

    def settled(self, offset: int | None) -> dict[str, Position]:
        """Positions behind all settled messages: those before the entry in hand, and those of it before `offset`.

        `offset` None: the whole entry is settled, and the moves that follow it. A gap in hand counts once it is passed.
        """
        return self._behind(offset, told=False)

    def _behind(self, offset: int | None, *, told: bool) -> dict[str, Position]:
        positions = dict(self._handed)
        before: set[str] = set()
        if self._at is not None:
            node, position = self._at
            passed = self.notice is None or told
            if offset is not None:
                position = Position(position.epoch, offset)
            if passed:
                positions[node] = position
            if offset is not None or not passed:
                before.add(node)
        for event in self._events:
            if isinstance(event, Moved) and event.node not in before:
                positions[event.node] = event.position
            else:
                before.add(_node(event))
        return positions

    def done(self, offset: int | None) -> dict[str, Position]:
        """The `settled` positions that the session may acknowledge.

        Streams with a waiting loss of history are left out: the broker may have to tell that loss again, at the
        session's present position.
        """
        return self._without_losses(self.settled(offset))

    def kept(self, offset: int | None) -> dict[str, Position]:
        """The positions at which the next life of the session may begin, if this one ends now.

        These are the `settled` positions. A stream with a waiting loss of history is left out if the broker would not
        tell that loss again from the settled position.
        """
        positions = self.settled(offset)
        stood = dict(self._handed)
        if self._at is not None and self._gap is None:
            stood[self._at[0]] = self._at[1]
        for event in self._events if self._gap is None else (self._gap, *self._events):
            match event:
                case Arrived(entry=entry):
                    stood[entry.node] = Position(entry.epoch, entry.next)
                case Moved(node=node, position=position):
                    stood[node] = position
                case Expired(node=node, view=view):
                    if event.reason in LOSES_HISTORY and not _comes_again(event, stood.get(node)):
                        positions.pop(node, None)
                    stood[node] = view.place(view.next)
        return positions

    def _without_losses(self, positions: dict[str, Position]) -> dict[str, Position]:
        if self.notice is not None and self.notice.reason in LOSES_HISTORY:
            positions.pop(self.notice.node, None)
        for event in self._events:
            if isinstance(event, Expired) and event.reason in LOSES_HISTORY:
                positions.pop(event.node, None)
        return positions

    def _finish(self) -> None:
        self._spread = None
        if self._at is not None:
            node, position = self._at
            self._handed[node] = position
            self._at = None

    def _merge(self, later: Expired) -> bool:
        """Merge `later` with a waiting gap of the same node, if no message of the node is between them."""
        for i in range(len(self._events) - 1, -1, -1):
            event = self._events[i]
            if isinstance(event, Arrived) and event.entry.node == later.node:
                return False
            if isinstance(event, Expired) and event.node == later.node:
                merged = merge(_answer(event), _answer(later))
                self._events[i] = Expired(later.node, merged.reason, merged.missed, later.view)
                # Drop the moves in between: they would move the position back behind the merged gap.
                rest = [e for e in list(self._events)[i + 1 :] if _node(e) != later.node]
                while len(self._events) > i + 1:
                    self._events.pop()
                self._events.extend(rest)
                return True
        return False


def _comes_again(expired: Expired, place: Position | None) -> bool:
    """Whether the attach rule gives this very expiry to a reader that comes to `place`."""
    return place is not None and resolve(At(place), expired.view) == _answer(expired)


def _answer(expired: Expired) -> Verdict:
    return Verdict(expired.reason, expired.view.next, expired.missed)


def _node(event: Event) -> str:
    return event.entry.node if isinstance(event, Arrived) else event.node

"""Bookmark: a session's place in one stream, its acknowledged part, and the news to tell before it reads on."""

from __future__ import annotations

from pubsubd_broker.core.log.cursor import Cursor
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.pending import Pending
from pubsubd_broker.core.sessions.source import Source
from pubsubd_protocol.attach import (
    LOSES_HISTORY,
    At,
    Claim,
    Earliest,
    Expired,
    FromStart,
    Reason,
    Resume,
    Verdict,
    resolve,
)
from pubsubd_protocol.frames import Ack
from pubsubd_protocol.positions import UNREPORTED_LOSS, Epoch, Position, StreamView


class Bookmark:
    """A cursor, or a claim as long as the producer has not said where the cursor begins.

    `start`: a position, or that claim. `tell`: the session itself does not know `start`.
    """

    __slots__ = (
        "_began",
        "_claim",
        "_source",
        "_unacknowledged_loss",
        "acknowledged",
        "cursor",
        "pending",
        "proved",
        "unreported_loss",
    )

    def __init__(self, source: Source, start: Position | Claim, *, tell: bool) -> None:
        self._source = source
        self.cursor: Cursor | None = None
        self.acknowledged: Position | None = None
        """The place at which the session begins again in its next life, if the broker keeps it."""
        self.unreported_loss: Epoch | None = None
        """Epoch whose beginning was lost while the session was away; not yet reported."""
        self.proved = False
        """Whether the producer is known to hold what follows on the position."""
        self._claim: Claim = FromStart()
        self.pending = Pending(source.node)
        # The epoch with which it was told of the loss of an earlier history, as long as it has not said that it has taken
        # that in: it may be told in place, and then its position is the same before and after.
        self._unacknowledged_loss: Epoch | None = None
        # Where it was placed in this stream; None: it is told that it lost the beginning.
        self._began: Position | None = None
        if isinstance(start, Position):
            self.cursor = Cursor(source.node, start)
            self._began = self.acknowledged = start
            if tell:
                self.pending.begins(start)
        else:
            self._claim = start

    @property
    def position(self) -> Position | None:
        """The next offset that the session needs; None while the producer has not said where it stands."""
        return self.cursor.position if self.cursor is not None else None

    @property
    def needs(self) -> Claim:
        """The claim that the session would present to the producer."""
        return At(self.cursor.position) if self.cursor is not None else self._claim

    @property
    def unreported(self) -> int:
        """Offsets passed without a message, of which the session has not been told."""
        return self.cursor.unreported if self.cursor is not None else 0

    @property
    def kept(self) -> Position | None:
        """Beginning of the session's next life: behind all that it acknowledged, and behind what follows and was not for it.

        Nothing that it was given, message or notice, is passed before it is acknowledged.
        """
        cursor, done = self.cursor, self.acknowledged
        if (
            cursor is None
            or done is None
            or done == UNREPORTED_LOSS
            or self._unacknowledged_loss is not None
        ):
            return done
        if self.pending.expired:
            return done
        passed = self._on_one_branch(done, cursor.given) and not self._is_before(done, cursor.given)
        return cursor.position if passed else done

    def is_done(self, *, connected: bool, named: bool) -> bool:
        """Whether the session stands at the end of the log at hand, and its next life, if it is `named`, would too."""
        if connected and (self.unreported or self.pending.waits):
            return False
        view, end = self._source.log.view, self._source.log.end_position
        return all(
            place is not None and view.contains(place) and not view.is_before(place, end)
            for place in (self.position, self.kept if named else self.position)
        )

    def moves_to(self, source: Source) -> None:
        """The stream is met anew, with another log at hand."""
        self._source = source
        self.proved = False

    @property
    def would_resume(self) -> bool:
        """Whether the stream at hand goes on where the session stands, and so tells it of no loss by itself."""
        if self.cursor is None:
            return False
        return isinstance(resolve(At(self.cursor.position), self._source.log.view), Resume)

    def introduce(self) -> Position | None:
        """The position that the session is told as it opens; None if it has to be told otherwise."""
        start = self.pending.take_start()
        if start is not None:
            return start
        return None if self.pending.expired else self.position

    def tell(self, out: Outgoing) -> None:
        """Writes what the session is to be told before it reads on."""
        if self.pending.tell(out):
            self.unreported_loss = None

    def acknowledge(self, ack: Ack) -> None:
        """The application is done with all before the position that it acknowledges."""
        # A client that does not say which loss it has taken in only knows of those in its own node's stream.
        if ack.loss == self._unacknowledged_loss or (ack.noticed and ack.loss is None):
            self._unacknowledged_loss = None
        if self._unacknowledged_loss is None and not self._is_behind(ack.position):
            self.acknowledged = ack.position

    def judge(self, view: StreamView, registered: Position | None) -> None:
        """The producer was reached: a session that waits to know where it stands gets its place."""
        if self.cursor is None:
            self.apply(view, resolve(self._claim, view, registered))

    def apply(self, view: StreamView, answer: Verdict) -> None:
        """Takes the producer's answer: a place to go on, or an expiry to be told before anything else."""
        cursor, self.proved = self.cursor, True
        match answer:
            case Resume(offset):
                if cursor is None:
                    self.begin(view.place(offset))
                else:
                    cursor.position = view.place(offset)
            case Expired(reason, following, missed):
                if cursor is None:
                    # The session was never told of this stream: for any reason, its loss is "unseen".
                    self.cursor = Cursor(self._source.node, view.place(following))
                    reason, missed = Reason.UNSEEN, None
                    # Until it has acknowledged that, every further life is told of a loss again.
                    self.acknowledged = UNREPORTED_LOSS
                    self.unreported_loss = view.epoch
                self._expire(Expired(reason, following, missed), view)

    def begin(self, start: Position) -> None:
        """The session's place in this stream is found, and is to be told."""
        self._began = self.acknowledged = start
        self.cursor = Cursor(self._source.node, start)
        self.pending.begins(start)

    def lived_before(self, place: Position, *, reads: bool) -> Position | None:
        """A peer remembers that an earlier life of the session stood at `place`. Returns where to go on anew, if anywhere.

        A session that misses nothing behind `place` is told nothing. Else one that `reads` is told of the loss where it
        stands; another goes on at `place`, or is told at the end of the stream that it can't.
        """
        view, began = self._source.log.view, self._began
        if self.cursor is None:
            self.begin(place)
            return None
        # Without a beginning, it is told already that it lost that.
        if began is None or (
            view.contains(place) and not (view.contains(began) and view.is_before(place, began))
        ):
            return None
        if not reads and view.contains(place):
            self.acknowledged = place
            return place
        self.acknowledged, self._unacknowledged_loss = UNREPORTED_LOSS, view.epoch
        if not (reads and self.would_resume):
            return UNREPORTED_LOSS
        self._expire_in_place()
        return None

    def _expire_in_place(self) -> None:
        assert self.cursor is not None
        offset = self.cursor.position.offset
        self._expire(Expired(Reason.STATE_LOST, offset, None), self._source.log.view)

    def rewind(self) -> None:
        """The next reader begins at what was acknowledged."""
        self.pending.clear()
        self.proved = False
        if self.acknowledged is not None:
            self.cursor = Cursor(self._source.node, self.acknowledged)
        else:
            self.cursor = None
            if not isinstance(self._claim, Earliest):
                self._claim = FromStart()

    def go_on(self, position: Position) -> None:
        """The application is back and stands at `position`, which counts more than its acknowledgements.

        What it was told in place may not have reached it: it is told again, and knows whether it has it.
        """
        self.unreported_loss = None
        self.cursor = Cursor(self._source.node, position)
        if self._unacknowledged_loss is not None and self.would_resume:
            self.acknowledged = UNREPORTED_LOSS
            self._expire_in_place()

    def _expire(self, expired: Expired, view: StreamView) -> None:
        assert self.cursor is not None
        done = self.acknowledged
        if done is not None and done.offset > expired.next and view.contains(done):
            # It presented a place that this history never reached: acknowledging the notice must not look like a step back.
            self.acknowledged = UNREPORTED_LOSS
        if self._unacknowledged_loss is not None and (
            self.pending.expired or expired.reason in LOSES_HISTORY
        ):
            self._unacknowledged_loss = view.epoch
        self.pending.expires(expired, view.until(expired.next), self.cursor.passed())
        self.cursor.jump(view.place(expired.next))

    def _is_behind(self, position: Position) -> bool:
        """Whether more than what lies before `position` was acknowledged already, or passed behind that."""
        done = self.acknowledged
        if self.cursor is None or done is None or not self._is_before(position, done):
            return False
        return self._on_one_branch(done, position)

    def _is_before(self, one: Position, other: Position) -> bool:
        return self._source.log.view.is_before(one, other)

    def _on_one_branch(self, one: Position, other: Position) -> bool:
        """Whether the stream at hand goes through both, so that their offsets can be compared."""
        view = self._source.log.view
        return view.contains(one) and view.contains(other)

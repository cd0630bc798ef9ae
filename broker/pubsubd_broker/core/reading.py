"""One session in one stream: where it stands, and where it reads from.

It reads from the log at hand if its position stands there. If not, the producer has to answer: at once
where the stream is this node's own, by a fetch over the link where it is a peer's, later where that link is
down. Only the producer's answer, or a gap marker that holds one, expires it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from pubsubd_broker.core.config import FETCH_BYTES
from pubsubd_broker.core.cursor import Choose, Cursor, Stop, read
from pubsubd_broker.core.log import Gap
from pubsubd_broker.core.outgoing import Outgoing
from pubsubd_broker.core.pending import Pending
from pubsubd_broker.core.source import Source, answer_at_hand
from pubsubd_protocol.attach import (
    Answer,
    At,
    Claim,
    Earliest,
    Expired,
    FromStart,
    Reason,
    Resume,
    resolve,
)
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, Skip
from pubsubd_protocol.positions import UNTOLD, Epoch, Position, StreamView
from pubsubd_protocol.topics import Filter


class Reading:
    """`wake` is called when there may be something to read again."""

    label: Final = "session"

    __slots__ = (
        "_asked",
        "_claim",
        "_cursor",
        "_fetched_bytes",
        "_inbox",
        "_inquires",
        "_owes",
        "_pending",
        "_proved",
        "_taken",
        "acknowledged",
        "filter",
        "gone",
        "index",
        "lags",
        "overdue",
        "rests",
        "source",
        "told",
        "unheard",
        "wake",
    )

    def __init__(
        self,
        source: Source,
        start: Position | Claim,
        wanted: Filter,
        wake: Callable[[], None],
        *,
        tell: bool = False,
    ) -> None:
        """`tell`: the session itself does not know `start`."""
        self.source = source
        self.filter = wanted
        """By which it is woken; what it gets of an entry is for `pull` to say."""
        self.wake = wake
        self.rests = False
        """Whether it has read everything, and is woken only by what it may want."""
        self.told = 0
        """The session knows of all before this item of the log at hand that nothing more of it comes.

        -1: the place that it was told last lies before all that this log ever held.
        """
        self.overdue = False
        """Whether the session is to be told how far it has come, though nothing may be for it."""
        self.acknowledged: Position | None = None
        """Where the session begins again in its next life, if the broker keeps it."""
        self.unheard: Epoch | None = None
        """The history that it was owed from its beginning and can't have, while nobody was there to be told so."""
        self.gone = False
        """Whether the producer, when it was asked last, did not hold any more what the next life needs."""
        self.lags = False
        """Whether it reads from the producer, because the log at hand does not hold what it needs."""
        self._inquires = False
        self._inbox: deque[Entry | Skip] = deque()
        self._fetched_bytes = 0
        self.index: int | None = None
        """The item of the log at hand that it reads next; None while it has no place there."""
        # The claim on which the producer's answer is under way: any other answer is late.
        self._asked: Claim | None = None
        self._pending = Pending(source.node)
        self._cursor: Cursor | None = None
        self._claim: Claim = FromStart()
        # The index behind the last item of the log at hand of which it was given something.
        self._taken = 0
        # Whether the producer is known to hold what follows on the position.
        self._proved = False
        # Whether it is yet to say that it has taken in the loss of an earlier history: it may be told of that in place,
        # and then its position is the same before and after.
        self._owes = False
        if isinstance(start, Position):
            self._cursor = Cursor(source.node, start)
            self.acknowledged = start
            if tell:
                self._pending.begins(start)
        else:
            self._claim = start

    @property
    def position(self) -> Position | None:
        """The next offset that the session needs; None while the producer has not said where it stands."""
        self._move_along()
        return self._cursor.position if self._cursor is not None else None

    def introduce(self) -> Position | None:
        """What the session is told of its position as it opens; None if it has to be told otherwise."""
        start = self._pending.take_start()
        if start is not None:
            return start
        return None if self._pending.expired else self.position

    @property
    def needs(self) -> Claim:
        """What this session would present to the producer."""
        position = self.position
        return At(position) if position is not None else self._claim

    @property
    def untold(self) -> int:
        """Offsets passed without a message, of which the session has not been told."""
        self._move_along()
        return self.unsaid

    @property
    def unsaid(self) -> int:
        """The same, as far as it has read by itself."""
        return self._cursor.untold if self._cursor is not None else 0

    @property
    def kept(self) -> Position | None:
        """Where the next life of the session begins: what it acknowledged, and behind that what was not for it.

        Nothing that it was given, message or notice, is passed before it is acknowledged.
        """
        cursor, done = self._cursor, self.acknowledged
        if cursor is None or done is None or done == UNTOLD or self._owes or self._pending.expired:
            return done
        passed = self._on_one_branch(done, cursor.given) and done.offset >= cursor.given.offset
        return self.position if passed else done

    def is_done(self, *, connected: bool, named: bool) -> bool:
        """Whether nothing of what the log at hand holds is needed: by the session, and by the next life of one that is `named`."""
        if connected and (self.untold or self._inbox or self._pending.waits):
            return False
        view = self.source.log.view
        return all(
            place is not None and view.contains(place) and place.offset >= view.next
            for place in (self.position, self.kept if named else self.position)
        )

    def moves_to(self, source: Source) -> None:
        """The stream is met anew, with another log at hand. What the session is yet to be told, it is told there."""
        self.stop()
        self.source = source
        self._taken = 0
        self._proved = self.gone = False

    def judge(self, view: StreamView, registered: int | None) -> None:
        """The producer was reached: a session that waits to know where it stands gets its place."""
        if self._cursor is None:
            self._apply(view, resolve(self._claim, view, registered))

    def lose_history(self, *, reads: bool) -> None:
        """An earlier history of this stream is lost to the session: it is told so.

        One that `reads` goes on where it stands; the next life of another goes on at the end.
        """
        self.acknowledged = UNTOLD
        self._rise()
        self._owes = True
        if reads and self._would_resume:
            self._expire_in_place()
        else:
            self.go_on(UNTOLD)
        self.wake()

    def acknowledge(self, ack: Ack) -> None:
        """The application is done with all before the position that it acknowledges."""
        if ack.noticed:
            self._owes = False
        if not (self._owes or self._is_behind(ack.position)):
            self.acknowledged = ack.position

    def leave(self) -> None:
        """The application is gone; its next life begins at what is kept."""
        self.acknowledged = self.kept
        self.rewind()

    def rewind(self) -> None:
        """Nobody reads; whoever reads next begins at what was acknowledged."""
        self.stop()
        self._pending.clear()
        self._proved = self.gone = False
        if self.acknowledged is not None:
            self._cursor = Cursor(self.source.node, self.acknowledged)
        else:
            self._cursor = None
            if not isinstance(self._claim, Earliest):
                self._claim = FromStart()

    def inquire(self) -> None:
        """Nobody reads here: finds out whether it is `gone`, from the producer if the log at hand can't say."""
        if self._cursor is None or self._asked is not None:
            return
        position = self._cursor.position
        # What it has lost it is told when it is back; that alone is no reason to forget where it goes on elsewhere.
        answer = Resume(0) if position == UNTOLD else answer_at_hand(self.source, position)
        if answer is None:
            self._inquires = self._fetch(self.needs, 0)
        else:
            self.gone = isinstance(answer, Expired)

    def go_on(self, position: Position) -> None:
        """The application is back and stands at `position`, whatever it has acknowledged.

        What it was told in place may not have reached it: it is told again, and knows whether it has it.
        """
        self.rewind()
        self.unheard = None
        self._cursor = Cursor(self.source.node, position)
        if self._owes and self._would_resume:
            self.acknowledged = UNTOLD
            self._expire_in_place()

    def attend(self) -> None:
        """The application is back: what was inquired in its absence is wanted no more."""
        self.gone = False
        if self._inquires:
            self._inquires = False
            self._asked = None

    def stop(self) -> None:
        """Nobody reads here, for now or for good."""
        self.source.log.forget(self.wake)
        self.source.log.interest.leave(self)
        self.source.pacing.leave(self)
        self.rests = self.overdue = False
        self.index = None
        self._asked = None
        self._ends_catch_up()
        self._inquires = False
        self._inbox.clear()

    def awaits(self, claim: Claim) -> bool:
        """Whether the answer to this very claim is still wanted."""
        return self._asked is claim

    def link_lost(self) -> None:
        """What was asked will not be answered."""
        self._asked = None
        self._inquires = False

    def fetched(
        self, claim: Claim, view: StreamView, answer: Answer, items: list[Entry | Skip]
    ) -> None:
        """The producer's answer to a fetch, and the first of what follows."""
        if not self.awaits(claim):
            return
        self._asked = None
        if self._inquires:
            self._inquires = False
            self.gone = isinstance(answer, Expired)
        else:
            self._apply(view, answer)
            self._inbox.extend(items)
            self._fetched_bytes = sum(item.size for item in items if isinstance(item, Entry))
            self.wake()

    @property
    def fetched_bytes(self) -> int:
        """What was fetched for it, as long as some of that has not been read."""
        return self._fetched_bytes if self._inbox else 0

    def forget_fetched(self) -> None:
        """Drops what was fetched. It stands where it stood, and asks again when it reads on."""
        self._ends_catch_up()
        self._inbox.clear()
        self.wake()

    def pull(self, choose: Choose, out: Outgoing) -> bool:
        """Writes what there is to read. Returns whether there is more; if not, `wake` tells when there is."""
        if self.rests:
            if self.overdue:
                self.settle(out)
            return False
        reading = True
        while reading and not out.full:
            if self._inbox:
                self._read_inbox(choose, out)
            elif self._asked is not None:
                reading = False
            elif self.index is not None:
                reading = self._read_log(choose, out)
            else:
                reading = self._find()
        self._tell(out)
        log, cursor = self.source.log, self._cursor
        rests = not reading and self.index is not None and self._asked is None
        if cursor is None or cursor.told == cursor.position.offset:
            self.overdue = False
            # Not the end: it may have had no room to read on.
            self.told = self.index if self.index is not None else -1
        elif not rests or self.overdue or log.is_old(self.told):
            self._settle(out)
        if rests:
            self.rests = True
            self.source.pacing.leave(self)
            log.interest.rest(self, self._taken)
        elif not reading:
            log.wait(self.wake)
        return reading

    def remind(self) -> None:
        """The session is to be told how far it has come, in its turn."""
        if not self.overdue:
            self.overdue = True
            self.wake()

    def rouse(self, index: int, position: Position) -> None:
        """It rested, and nothing before `index` was for it."""
        assert self._cursor is not None
        self.rests = False
        self.index = index
        # It may have rested inside the entry that comes: where a replica begins there.
        if position.offset >= self._cursor.position.offset:
            self._cursor.position = position
        self.source.pacing.enter(self)
        self.wake()

    def refilter(self, changed: Filter) -> None:
        """From where it stands on it wants something else."""
        self._rise()
        self.source.log.interest.leave(self)
        self.filter = changed

    def settle(self, out: Outgoing) -> None:
        """Tells the session up to where it has passed offsets without a message."""
        self._move_along()
        self._tell(out)
        self._settle(out)

    def _settle(self, out: Outgoing) -> None:
        self.overdue = False
        if self.index is not None:
            self.told = self.index
        if self.unsaid:
            assert self._cursor is not None
            self._cursor.settle(out)
            self.acknowledged = self.kept
            out.settled.append(self.source.node)

    def _is_behind(self, position: Position) -> bool:
        """Whether more than what lies before `position` was acknowledged already, or passed behind that."""
        done = self.acknowledged
        if self._cursor is None or done is None or position.offset >= done.offset:
            return False
        return self._on_one_branch(done, position)

    def _on_one_branch(self, one: Position, other: Position) -> bool:
        """Whether the stream at hand goes through both, so that their offsets can be compared."""
        view = self.source.log.view
        return view.contains(one) and view.contains(other)

    def _move_along(self) -> None:
        """Whoever rests stands at the end of the log, wherever that is by now."""
        if self.rests:
            assert self._cursor is not None
            self.index = self.source.log.end
            front = self.source.log.front
            if front != self._cursor.position:
                self._cursor.position = front

    def _rise(self) -> None:
        if self.rests:
            self._move_along()
            self.rests = False
            self.source.log.interest.rise(self)
            self.source.pacing.enter(self)

    def _read_inbox(self, choose: Choose, out: Outgoing) -> None:
        assert self._cursor is not None
        self._tell(out)
        while self._inbox and not out.full:
            self._cursor.pass_item(self._inbox.popleft(), choose, out)

    def _read_log(self, choose: Choose, out: Outgoing) -> bool:
        """Reads from the log at hand. Returns whether to go on."""
        assert self._cursor is not None
        assert self.index is not None
        log = self.source.log
        if log.begin <= self.index < log.end and not isinstance(log[self.index], Gap):
            self._tell(out)
            self._proved = True
        before, begin = out.messages, self.index
        self.index, stop = read(self._cursor, log, begin, choose, out)
        if out.messages > before:
            self._taken = self.index
            self.told = begin + 1
        match stop:
            case Stop.OVERRUN:
                self.index = None
                return True
            case Stop.GAP:
                return self._pass_gap(log[self.index])
            case Stop.END | Stop.FULL:
                return stop is Stop.FULL

    def _pass_gap(self, gap: object) -> bool:
        assert isinstance(gap, Gap)
        assert self._cursor is not None
        claim = At(self._cursor.position)
        answer = resolve(claim, gap.view)
        self.index = None
        if isinstance(answer, Expired):
            self._apply(gap.view, answer)
            return True
        # The producer still held what this session needs when the gap was made: it may hold it yet.
        return self._fetch(claim, FETCH_BYTES)

    def _find(self) -> bool:
        """Finds the position in the log at hand, or has the producer answer. Returns whether to go on."""
        if self._locate():
            return True
        if self._waits_for_replica():
            return False
        claim = self.needs
        now = self.source.answer(claim)
        if now is None:
            self._fetch(claim, FETCH_BYTES)
            return False
        self._apply(*now)
        return self._locate()

    def _fetch(self, claim: Claim, budget: int) -> bool:
        self._asked = claim
        if not self.source.fetch(self, claim, budget):
            self._asked = None
        return self._asked is not None

    def _locate(self) -> bool:
        if self._cursor is not None:
            self.index = self.source.log.locate(self._cursor.position)
        if self.index is not None:
            self.told = -1 if self.unsaid else self.index
            self.source.pacing.enter(self)
            self._ends_catch_up()
        return self.index is not None

    def _ends_catch_up(self) -> None:
        if self.lags:
            self.lags = False
            last = self._inbox[-1] if self._inbox else None
            sent = At(Position(last.epoch, last.next)) if last is not None else self.needs
            self.source.caught_up(self, sent)

    def _waits_for_replica(self) -> bool:
        # By catch-up the session has come further than its broker; the replica will come there too.
        if self._cursor is None or not self._proved:
            return False
        view, position = self.source.log.view, self._cursor.position
        return position.offset > view.next and view.contains(position)

    def _apply(self, view: StreamView, answer: Answer) -> None:
        """Takes the producer's answer: a place to go on, or an expiry to be told before anything else."""
        cursor, self._proved = self._cursor, True
        match answer:
            case Resume(offset):
                if cursor is None:
                    start = self.acknowledged = view.place(offset)
                    self._cursor = Cursor(self.source.node, start)
                    self._pending.begins(start)
                else:
                    cursor.position = view.place(offset)
            case Expired(reason, following, missed):
                if cursor is None:
                    # It was never told of this stream: whatever the reason, what it lost is unseen.
                    self._cursor = Cursor(self.source.node, view.place(following))
                    reason, missed = Reason.UNSEEN, None
                    # Until it has acknowledged that, every further life is told of a loss again.
                    self.acknowledged = UNTOLD
                    self.unheard = view.epoch
                self._expire(Expired(reason, following, missed), view)

    @property
    def _would_resume(self) -> bool:
        """Whether the stream at hand goes on where it stands, and so tells it of no loss by itself."""
        if self._cursor is None:
            return False
        return isinstance(resolve(At(self._cursor.position), self.source.log.view), Resume)

    def _expire_in_place(self) -> None:
        assert self._cursor is not None
        offset = self._cursor.position.offset
        self._expire(Expired(Reason.STATE_LOST, offset, None), self.source.log.view)

    def _expire(self, expired: Expired, view: StreamView) -> None:
        assert self._cursor is not None
        done = self.acknowledged
        if done is not None and done.offset > expired.next and view.contains(done):
            # It presented a place that this history never reached: acknowledging the notice must not look like a step back.
            self.acknowledged = UNTOLD
        self._pending.expires(expired, view.until(expired.next), self._cursor.passed())
        self._cursor.jump(view.place(expired.next))

    def _tell(self, out: Outgoing) -> None:
        if self._pending.tell(out):
            self.unheard = None

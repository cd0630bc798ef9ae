"""One session in one stream: where it stands, and where it reads from.

It reads from the log at hand if its position stands there. If not, the producer has to answer: at once
where the stream is this node's own, by a fetch over the link where it is a peer's, later where that link is
down. Only the producer's answer, or a gap marker that holds one, expires it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.log.cursor import Choose, Stop, read
from pubsubd_broker.core.log.log import Gap
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.bookmark import Bookmark
from pubsubd_broker.core.sessions.source import Source, answer_at_hand
from pubsubd_protocol.attach import (
    Answer,
    At,
    Claim,
    Expired,
    Resume,
    resolve,
)
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import UNTOLD, Position, StreamView
from pubsubd_protocol.topics import Filter


class Reading:
    """`wake` is called when there may be something to read again. `tell`: the session does not know `start`."""

    label: Final = "session"

    __slots__ = (
        "_asked",
        "_fetched_bytes",
        "_inbox",
        "_inquires",
        "_taken",
        "bookmark",
        "filter",
        "gone",
        "index",
        "lags",
        "overdue",
        "rests",
        "source",
        "told",
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
        self.source = source
        self.bookmark = Bookmark(source, start, tell=tell)
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
        # The index behind the last item of the log at hand of which it was given something.
        self._taken = 0

    @property
    def position(self) -> Position | None:
        """The next offset that the session needs; None while the producer has not said where it stands."""
        self._move_along()
        return self.bookmark.position

    @property
    def needs(self) -> Claim:
        """The claim that the session would present to the producer."""
        self._move_along()
        return self.bookmark.needs

    @property
    def untold(self) -> int:
        """Offsets passed without a message, of which the session has not been told."""
        self._move_along()
        return self.bookmark.untold

    @property
    def kept(self) -> Position | None:
        """Where the next life of the session begins."""
        self._move_along()
        return self.bookmark.kept

    def is_done(self, *, connected: bool, named: bool) -> bool:
        """Whether nothing of what the log at hand holds is needed: by the session, and by the next life of one that is `named`."""
        self._move_along()
        if connected and self._inbox:
            return False
        return self.bookmark.is_done(connected=connected, named=named)

    def moves_to(self, source: Source) -> None:
        """The stream is met anew, with another log at hand. What the session is yet to be told, it is told there."""
        self.stop()
        self.source = source
        self._taken = 0
        self.gone = False
        self.bookmark.moves_to(source)

    def lived_before(self, place: Position, *, reads: bool) -> None:
        """A peer remembers that an earlier life of the session stood at `place`; this one was placed as if it were new."""
        self._rise()
        onward = self.bookmark.lived_before(place, reads=reads)
        if onward is not None:
            self.go_on(onward)
        self.wake()

    def leave(self) -> None:
        """The application is gone; its next life begins at what is kept."""
        self.bookmark.acknowledged = self.kept
        self.rewind()

    def rewind(self) -> None:
        """Nobody reads; whoever reads next begins at what was acknowledged."""
        self.stop()
        self.gone = False
        self.bookmark.rewind()

    def inquire(self) -> None:
        """Nobody reads here: finds out whether it is `gone`, from the producer if the log at hand can't say."""
        position = self.bookmark.position
        if position is None or self._asked is not None:
            return
        # What it has lost it is told when it is back; that alone is no reason to forget where it goes on elsewhere.
        answer = Resume(0) if position == UNTOLD else answer_at_hand(self.source, position)
        if answer is None:
            self._inquires = self._fetch(self.needs, 0)
        else:
            self.gone = isinstance(answer, Expired)

    def go_on(self, position: Position) -> None:
        """The application is back and stands at `position`, whatever it has acknowledged."""
        self.rewind()
        self.bookmark.go_on(position)

    def attend(self) -> None:
        """The application is back: what was inquired in its absence is wanted no more."""
        self.gone = False
        if self._inquires:
            self.link_lost()

    def stop(self) -> None:
        """Nobody reads here, for now or for good."""
        self.source.log.forget(self.wake)
        self.source.log.interest.leave(self)
        self.source.pacing.leave(self)
        self.rests = self.overdue = False
        self.index = None
        self.link_lost()
        self._ends_catch_up()
        self._inbox.clear()

    def catches_up(self) -> bool:
        """Notes that it reads from the producer from now on. Whether it did not before."""
        begins, self.lags = not self.lags, True
        return begins

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
            self.bookmark.apply(view, answer)
            self._inbox.extend(items)
            self._fetched_bytes = sum(item.size for item in items if isinstance(item, Entry))
            self.wake()

    @property
    def fetched_bytes(self) -> int:
        """What was fetched for it, as long as some of that has not been read."""
        return self._fetched_bytes if self._inbox else 0

    def forget_fetched(self) -> None:
        """Drops what was fetched. It asks again when it reads on."""
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
        self.bookmark.tell(out)
        log, cursor = self.source.log, self.bookmark.cursor
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
        cursor = self.bookmark.cursor
        assert cursor is not None
        self.rests = False
        self.index = index
        # It may have rested inside the entry that comes: where a replica begins there.
        if position.offset >= cursor.position.offset:
            cursor.position = position
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
        self.bookmark.tell(out)
        self._settle(out)

    def _settle(self, out: Outgoing) -> None:
        self.overdue = False
        if self.index is not None:
            self.told = self.index
        cursor = self.bookmark.cursor
        if cursor is not None and cursor.untold:
            cursor.settle(out)
            self.bookmark.acknowledged = self.kept
            out.settled.append(self.source.node)

    def _move_along(self) -> None:
        """Whoever rests stands at the end of the log, wherever that is by now."""
        if self.rests:
            cursor = self.bookmark.cursor
            assert cursor is not None
            self.index = self.source.log.end
            front = self.source.log.front
            if front != cursor.position:
                cursor.position = front

    def _rise(self) -> None:
        if self.rests:
            self._move_along()
            self.rests = False
            self.source.log.interest.rise(self)
            self.source.pacing.enter(self)

    def _read_inbox(self, choose: Choose, out: Outgoing) -> None:
        cursor = self.bookmark.cursor
        assert cursor is not None
        self.bookmark.tell(out)
        while self._inbox and not out.full:
            cursor.pass_item(self._inbox.popleft(), choose, out)

    def _read_log(self, choose: Choose, out: Outgoing) -> bool:
        """Reads from the log at hand. Returns whether to go on."""
        cursor = self.bookmark.cursor
        assert cursor is not None
        assert self.index is not None
        log = self.source.log
        if log.begin <= self.index < log.end and not isinstance(log[self.index], Gap):
            self.bookmark.tell(out)
        before, begin = out.messages, self.index
        self.index, stop = read(cursor, log, begin, choose, out)
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
        claim = self.bookmark.needs
        answer = resolve(claim, gap.view)
        self.index = None
        if isinstance(answer, Expired):
            self.bookmark.apply(gap.view, answer)
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
        self.bookmark.apply(*now)
        return self._locate()

    def _fetch(self, claim: Claim, budget: int) -> bool:
        self._asked = claim
        if not self.source.fetch(self, claim, budget):
            self._asked = None
        return self._asked is not None

    def _locate(self) -> bool:
        position = self.bookmark.position
        if position is not None:
            self.index = self.source.log.locate(position)
        if self.index is not None:
            self.told = -1 if self.bookmark.untold else self.index
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
        log, position = self.source.log, self.bookmark.position
        if position is None or not self.bookmark.proved:
            return False
        return log.view.is_before(log.front, position) and log.view.contains(position)

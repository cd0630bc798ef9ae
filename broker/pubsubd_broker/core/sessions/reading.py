"""Reading: one session in one stream, where it stands, and where it reads from.

It reads from the log at hand if its position stands there. If not, the producer has to answer: at once where the
stream is this node's own, by a fetch over the link where it is a peer's, later where that link is down. Only the
producer's answer, or a gap marker that holds one, expires it. `reading_states` has its states and the moves between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.log.cursor import Choose, Stop, read
from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions import reading_states as states
from pubsubd_broker.core.sessions.bookmark import Bookmark
from pubsubd_broker.core.sessions.log_place import LogPlace
from pubsubd_broker.core.sessions.source import Source, answer_at_hand
from pubsubd_protocol.attach import At, Claim, Expired, Resume, Verdict, resolve
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import UNREPORTED_LOSS, Position, StreamView
from pubsubd_protocol.topics import Filter


class Reading(LogPlace):
    """Reads one stream for a session. `tell`: the session does not know `start`. `away`: it has no application yet."""

    __slots__ = ("_asked", "_fetched_bytes", "_inbox", "gone", "lags")

    def __init__(
        self,
        source: Source,
        start: Position | Claim,
        wanted: Filter,
        wake: Callable[[], None],
        *,
        tell: bool = False,
        away: bool = False,
    ) -> None:
        bookmark = Bookmark(source, start, tell=tell)
        super().__init__(source, bookmark, wanted, wake, states.AWAY if away else states.SEEKING)
        self.gone = False
        """Whether the producer, when it was asked last, did not hold any more what the next life needs."""
        self.lags = False
        """Whether the producer keeps a place for it: it has fetched, and not met the log at hand since."""
        self._inbox: deque[Entry | Skip] = deque()
        self._fetched_bytes = 0
        # The claim on which the producer's answer is under way, while asking or inquiring: any other answer is late.
        self._asked: Claim | None = None

    def moves_to(self, source: Source) -> None:
        """The stream is met anew, with another log at hand. What the session is yet to be told, it is told there."""
        self.stop()
        self.source = source
        self._taken = 0
        self.gone = False
        self.bookmark.moves_to(source)

    def lived_before(self, place: Position, *, reads: bool) -> None:
        """A peer remembers that an earlier life of the session stood at `place`; this one was placed as if it were new."""
        self._read_on()
        onward = self.bookmark.lived_before(place, reads=reads)
        if onward is not None:
            self.go_on(onward)
        self.wake()

    def leave(self) -> None:
        """The application is gone; its next life begins at what is kept."""
        self.bookmark.acknowledged = self.kept
        self.rewind()
        self.state = states.MOVES[self.state, states.LEFT]

    def rewind(self) -> None:
        """The next pull begins at what was acknowledged."""
        self.stop()
        self.gone = False
        self.bookmark.rewind()

    def inquire(self) -> None:
        """While it is away: finds out whether it is `gone`, from the producer if the log at hand cannot tell."""
        position = self.bookmark.position
        if position is None or self.state is states.INQUIRING:
            return
        # The session is told of its loss when it is back. That alone does not let it forget its places in other streams.
        answer = Resume(0) if position == UNREPORTED_LOSS else answer_at_hand(self.source, position)
        if answer is None:
            self._fetch(self.needs, 0)
        else:
            self.gone = isinstance(answer, Expired)

    def go_on(self, position: Position) -> None:
        """The application is back and stands at `position`, which counts more than its acknowledgements."""
        self.rewind()
        self.bookmark.go_on(position)

    def attend(self) -> None:
        """The application is back: an answer to what was inquired in its absence comes too late."""
        self.gone = False
        self._asked = None
        self.state = states.MOVES[self.state, states.RETURNED]

    def stop(self) -> None:
        """Gives up its place in the log at hand, for now or for good."""
        self.source.log.forget(self.wake)
        self.source.log.interest.leave(self)
        self.source.pacing.leave(self)
        self.overdue = False
        self.index = None
        self._asked = None
        self._ends_catch_up()
        self._inbox.clear()
        self.state = states.MOVES[self.state, states.STOPPED]

    def catches_up(self) -> bool:
        """Notes that it reads from the producer from now on. Whether it did not before."""
        begins, self.lags = not self.lags, True
        return begins

    def awaits(self, claim: Claim) -> bool:
        """Whether the answer to this very claim is still wanted."""
        return self._asked is claim

    def link_lost(self) -> None:
        """The link is down: an answer that is under way never comes."""
        if self._asked is not None:
            self._asked = None
            self.state = states.MOVES[self.state, states.UNLINKED]

    def fetched(
        self, claim: Claim, view: StreamView, answer: Verdict, items: list[Entry | Skip]
    ) -> None:
        """The producer's answer to a fetch, and the first of what follows."""
        if not self.awaits(claim):
            return
        self._asked = None
        inquired = self.state is states.INQUIRING
        self.state = states.MOVES[self.state, states.FETCHED if items else states.ANSWERED]
        if inquired:
            self.gone = isinstance(answer, Expired)
        else:
            self.bookmark.apply(view, answer)
            self._inbox.extend(items)
            self._fetched_bytes = sum(item.size for item in items)
            self.wake()

    @property
    def fetched_bytes(self) -> int:
        """Bytes of the last fetch, as long as some of that has not been read."""
        return self._fetched_bytes if self.state is states.CATCHING_UP else 0

    def forget_fetched(self) -> None:
        """Drops what was fetched. It asks again when it reads on."""
        self._ends_catch_up()
        if self.state is states.CATCHING_UP:
            self._inbox.clear()
            self.state = states.MOVES[self.state, states.EMPTIED]
        self.wake()

    def pull(self, choose: Choose, out: Outgoing) -> bool:
        """Writes what there is to read. Returns whether there is more; if not, `wake` tells when there is."""
        if self.state is states.PARKED:
            if self.overdue:
                self.settle(out)
            return False
        more = True
        while more and not out.full:
            state = self.state
            if state is states.READING:
                more = self._read_log(choose, out)
            elif state is states.CATCHING_UP:
                self._read_inbox(choose, out)
            elif state is states.ASKING:
                more = False
            else:
                more = self._find()
        if self.bookmark.pending.waits:
            self.bookmark.tell(out)
        log, cursor = self.source.log, self.bookmark.cursor
        parks = not more and self.state is states.READING
        if cursor is None or cursor.told == cursor.position.offset:
            self.overdue = False
            # Not the end: it may have had no room to read on.
            self.told = self.index if self.index is not None else -1
        elif not parks or self.overdue or log.is_old(self.told):
            self._settle(out)
        if parks:
            self.state = states.MOVES[self.state, states.READ_ALL]
            self.source.pacing.leave(self)
            log.interest.park(self, self._taken)
        elif not more:
            log.wait(self.wake)
        return more

    def _read_inbox(self, choose: Choose, out: Outgoing) -> None:
        cursor = self.bookmark.cursor
        assert cursor is not None
        self.bookmark.tell(out)
        while self._inbox and not out.full:
            cursor.pass_item(self._inbox.popleft(), choose, out)
        if not self._inbox:
            self.state = states.MOVES[self.state, states.EMPTIED]

    def _read_log(self, choose: Choose, out: Outgoing) -> bool:
        """Reads from the log at hand. Returns whether to go on."""
        cursor = self.bookmark.cursor
        assert cursor is not None
        assert self.index is not None
        log = self.source.log
        if self.bookmark.pending.waits and self._messages_follow(log):
            self.bookmark.tell(out)
        before, begin = out.messages, self.index
        self.index, stop = read(cursor, log, begin, choose, out)
        if out.messages > before:
            self._taken = self.index
            self.told = begin + 1
        match stop:
            case Stop.OVERRUN:
                self.index = None
                self.state = states.MOVES[self.state, states.DISPLACED]
                return True
            case Stop.GAP:
                return self._pass_gap(log[self.index])
            case Stop.END | Stop.FULL:
                return stop is Stop.FULL

    def _messages_follow(self, log: Log) -> bool:
        """Whether messages come next: a gap that comes next may be told in one notice with what waits."""
        assert self.index is not None
        return log.begin <= self.index < log.end and not isinstance(log[self.index], Gap)

    def _pass_gap(self, gap: object) -> bool:
        assert isinstance(gap, Gap)
        claim = self.bookmark.needs
        answer = resolve(claim, gap.view)
        self.index = None
        self.state = states.MOVES[self.state, states.DISPLACED]
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
            self.state = states.MOVES[self.state, states.AHEAD]
            return False
        claim = self.needs
        now = self.source.answer(claim)
        if now is None:
            self._fetch(claim, FETCH_BYTES)
            return False
        self.bookmark.apply(*now)
        return self._locate()

    def _fetch(self, claim: Claim, budget: int) -> bool:
        """Has the producer asked. Returns whether a link takes the question."""
        self._asked = claim
        asked = self.source.fetch(self, claim, budget)
        if not asked:
            self._asked = None
        self.state = states.MOVES[self.state, states.ASKED if asked else states.UNREACHABLE]
        return asked

    def _locate(self) -> bool:
        position = self.bookmark.position
        if position is not None:
            self.index = self.source.log.locate(position)
        if self.index is not None:
            self.state = states.MOVES[self.state, states.FOUND]
            self.told = -1 if self.bookmark.unreported else self.index
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
        return log.view.is_before(log.end_position, position) and log.view.contains(position)

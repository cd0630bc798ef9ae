"""A replica agrees, at every step, with what its producer published, lost and sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.core.builders import entry, skip
from tests.unit.examples import examples

from pubsubd_broker.core.limits import ITEM_OVERHEAD
from pubsubd_broker.core.log.log import Gap
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import (
    At,
    Claim,
    Earliest,
    Expired,
    FromStart,
    Reason,
    Remembered,
    Resume,
    resolve,
    short,
)
from pubsubd_protocol.entries import Entry, part_of
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Attached, CursorExpired, Skip
from pubsubd_protocol.positions import Epoch, Lineage, Losses, Position, StreamView, place

NEVER_DRAWN = Epoch(b"?" * 16)

_Sent = Entry | Skip | Attached | CursorExpired
"""Items that a producer sends to a replica."""

CLAIMS: list[Claim] = [FromStart(), Earliest(), Remembered(True), Remembered(False)]

BATCHES = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([None, None, "b", "c"]), st.sampled_from([0, 60])),
    min_size=1,
    max_size=4,
)
"""The number of messages, the node they are for, and their size."""

MISSING = st.sampled_from([0, 0, 1, 7, None])
"""The number of accepted messages of a life that its successor lacks; None: unknown."""


class _Loss(NamedTuple):
    """Beyond `end`, where `life` ended, `missing` messages of it are lost."""

    life: Epoch
    end: int
    missing: int | None


class _Producer:
    """Node "a". Every epoch has the whole history that it stands for, from its first message on."""

    def __init__(self) -> None:
        self.histories: dict[Epoch, list[Entry]] = {}
        """For each offset the entry that stands there: entries of several messages stand there repeatedly."""
        self.continues: dict[Epoch, tuple[Epoch, int]] = {}
        self.missing: dict[Epoch, int | None] = {}
        """The number of lost messages behind the end of each epoch that has a loss."""
        self.restart(None)

    def restart(self, kept: int | None, missing: int | None = 0) -> None:
        """A new epoch; it continues what the last one had before `kept`, or nothing. `missing`: lost beyond that."""
        earlier = list(self.histories)[-1:]
        epoch = Epoch(len(self.histories).to_bytes(16, "big"))
        self.histories[epoch] = []
        if kept is not None:
            self.histories[epoch] = self.histories[earlier[0]][:kept]
            self.continues[epoch] = (earlier[0], kept)
            if missing != 0:
                self.missing[earlier[0]] = missing
        self.epoch = epoch
        self.oldest = 0

    @property
    def history(self) -> list[Entry]:
        return self.histories[self.epoch]

    @property
    def view(self) -> StreamView:
        epoch = self.epoch
        return StreamView(
            epoch, self.lineage(epoch), self.oldest, len(self.history), self.losses(epoch)
        )

    def lineage(self, epoch: Epoch) -> Lineage:
        lineage: list[tuple[Epoch, int]] = []
        while epoch in self.continues:
            epoch, end = self.continues[epoch]
            lineage.append((epoch, min(end, lineage[-1][1]) if lineage else end))
        return tuple(lineage)

    def losses(self, epoch: Epoch) -> Losses:
        earlier = (each for each, _ in self.lineage(epoch))
        return tuple((each, self.missing[each]) for each in earlier if each in self.missing)

    def ahead(self, epoch: Epoch, read: Epoch) -> list[_Loss]:
        """The losses in the history of `epoch` that a reader has before it whose last message was placed under `read`."""
        found: list[_Loss] = []
        if read != epoch:
            for life, end in self.lineage(epoch):
                if life in self.missing:
                    found.insert(0, _Loss(life, end, self.missing[life]))
                if life == read:
                    break
        return found

    def contains(self, epoch: Epoch, position: Position) -> bool:
        """Whether who has read up to `position` has read a beginning of `epoch`'s history, and knows it."""
        read = self.histories.get(position.epoch, [])[: position.offset]
        related = position.epoch in (epoch, *(earlier for earlier, _ in self.lineage(epoch)))
        return (
            related
            and len(read) == position.offset
            and read == self.histories[epoch][: position.offset]
        )

    def boundary(self, back: int) -> int:
        """The position at which an entry begins, `back` entries before the end."""
        starts = [0, *dict.fromkeys(e.next for e in self.history)]
        return starts[max(0, len(starts) - 1 - back)]

    def publish(self, count: int, to: str | None, payload: bytes) -> None:
        new = entry(len(self.history), count, epoch=self.epoch, to=to, payload=payload)
        self.history.extend([new] * count)

    def sent(self, begin: int, entries: int, end: int) -> Iterator[Entry | Skip]:
        """The next `entries` from `begin` to `end`, as node "b" gets them: those for others are skipped in one."""
        told = now = begin
        for _ in range(entries):
            if now < end:
                item = self.history[now]
                now = item.next
                if item.to in (None, "b"):
                    if told < item.first:
                        yield skip(told, item.first, epoch=item.epoch)
                    yield item
                    told = item.next
        if told < now:
            yield skip(told, now, epoch=self.history[now - 1].epoch)


class _Segment:
    """A run of `items` that the replica took without a gap, on the branch of `epoch`, from `start` to `next`."""

    def __init__(self, view: StreamView, start: int) -> None:
        self.epoch = view.epoch
        self.next = start
        self.last = view.place(start).epoch
        """Under which the last message before `next` was placed; behind all that is lost there."""
        self.items: list[Entry | Skip] = []
        self.gap: StreamView | None = None
        """The gap at which the run ended; None while it goes on."""


_Taken = tuple[_Segment, Entry | Skip | StreamView]
"""A thing that the replica took, and the segment in which."""


class ReplicaMachine(RuleBasedStateMachine):
    """Node "b" holds a replica of node "a"'s stream; the machine is node "a"."""

    replica: Replica

    def __init__(self) -> None:
        super().__init__()
        self.producer = _Producer()
        self.linked = False
        self.taken: list[_Segment] = []
        self.cursor = 0
        self.woken = 0
        self.told: set[Epoch] = set()
        """Lives of whose lost end the replica was told."""

    @initialize(
        count=st.integers(0, 9),
        evicted=st.integers(0, 5),
        behind=st.integers(-1, 8),
        claim=st.none() | st.sampled_from(CLAIMS),
        restarted=st.booleans(),
        missing=MISSING,
        registered=st.none() | st.integers(0, 9),
        max_messages=st.integers(1, 12),
        max_bytes=st.integers(ITEM_OVERHEAD, 8 * (ITEM_OVERHEAD + 120)),
    )
    def first_contact(
        self,
        count: int,
        evicted: int,
        behind: int,
        claim: Claim | None,
        restarted: bool,
        missing: int | None,
        registered: int | None,
        max_messages: int,
        max_bytes: int,
    ) -> None:
        """Wherever it begins: also inside an entry, behind the ring, in an epoch that was continued."""
        for n in range(count):
            self.producer.publish(1 + n % 3, ("c", "b", None)[n % 3], b"")
        self.producer.oldest = self.producer.boundary(max(0, count - evicted))
        claimed = max(0, len(self.producer.history) - behind)
        presented = claim or At(Position(self.producer.epoch, claimed))
        if restarted:
            oldest = self.producer.oldest
            self.producer.restart(len(self.producer.history), missing)
            self.producer.oldest = oldest
        view = self.producer.view
        cursor = view.place(registered) if registered is not None else None
        answer = resolve(presented, view, cursor)
        attached = Attached(view, short(answer), cursor, {"s": Position(view.epoch, 3)})
        self.replica = Replica("a", "b", attached, answer, max_messages, max_bytes, Pace(0))
        self.cursor = answer.offset if isinstance(answer, Resume) else answer.next
        self.taken = [_Segment(view, self.cursor)]
        self.linked = True
        from_start = Position(next(iter(self.producer.histories)), 0)
        assert self.replica.origin == (cursor or from_start)
        assert self.replica.named == {"s": Position(view.epoch, 3)}

    # Moves of the producer.

    @rule(batches=BATCHES)
    def publish(self, batches: list[tuple[int, str | None, int]]) -> None:
        for count, to, size in batches:
            self.producer.publish(count, to, b"x" * size)

    @rule(batches=BATCHES)
    def publish_and_send(self, batches: list[tuple[int, str | None, int]]) -> None:
        self.publish(batches)
        self.send(len(batches))

    @rule(left=st.integers(0, 4))
    def the_ring_evicts(self, left: int) -> None:
        self.producer.oldest = max(self.producer.oldest, self.producer.boundary(left))

    @rule(lost=st.sampled_from([0, 0, 1, 2, None]), restarts=st.booleans())
    def the_link_is_lost(self, restarts: bool, lost: int | None) -> None:
        """If with its producer, that one proves its past but for the last entries, or has lost it all."""
        self.linked = False
        if restarts:
            floor = self.producer.oldest
            self.producer.restart(None if lost is None else self.producer.boundary(lost))
            self.producer.oldest = min(floor, len(self.producer.history))

    @rule(lost=st.integers(0, 2), missing=MISSING.filter(lambda missing: missing != 0))
    def the_producer_comes_back_with_a_lost_end(self, lost: int, missing: int | None) -> None:
        """The producer restarts without its last entries, and had accepted more than it recovers."""
        self.linked = False
        floor = self.producer.oldest
        self.producer.restart(self.producer.boundary(lost), missing)
        self.producer.oldest = min(floor, len(self.producer.history))

    # Frames that it sends.

    @precondition(lambda self: not self.linked)
    @rule()
    def attach_again(self) -> None:
        presented, view = self.replica.registration, self.producer.view
        answer = resolve(At(presented), view)
        held = self.producer.contains(view.epoch, presented) and presented.offset >= view.oldest
        here = self._lost_here(presented) if held else []
        assert isinstance(answer, Resume) == (held and not here), (
            "nothing is given up that is there, nor made up"
        )
        self._is_taken(Attached(view, short(answer), presented))
        self.linked = True
        if isinstance(answer, Resume):
            self.taken[-1].epoch = view.epoch
            self.cursor = presented.offset
            return
        if here:
            assert answer == Expired(Reason.STATE_LOST, presented.offset, _in_all(here))
        elif self.producer.contains(view.epoch, presented):
            here = self.producer.ahead(view.epoch, presented.epoch)
        self._gap(view.until(answer.next), here)

    @rule(entries=st.integers(1, 6))
    def send(self, entries: int) -> None:
        """Sends the next items, or a notice to a consumer that the ring has overtaken."""
        if not self.linked:
            self.attach_again()
        view, newest = self.producer.view, self.taken[-1]
        ahead = self.producer.ahead(view.epoch, newest.last)
        missing = _in_all(ahead)
        if self.cursor < self.producer.oldest:
            reason = Reason.STATE_LOST if ahead else Reason.OVERWRITTEN
            missed = None if missing is None else view.next - self.cursor + missing
            self._is_taken(CursorExpired("a", reason, missed, view))
            self._gap(view, ahead)
            return
        here = self._lost_here(Position(newest.last, self.cursor))
        if here:
            cut = view.until(self.cursor)
            self._is_taken(CursorExpired("a", Reason.STATE_LOST, _in_all(here), cut))
            self._gap(cut, here)
            return
        end = min((loss.end for loss in ahead), default=view.next)
        for item in self.producer.sent(self.cursor, entries, end):
            self._is_taken(item)
            newest.items.append(item)
            newest.next = self.cursor = item.next
            newest.last = item.epoch

    def _lost_here(self, position: Position) -> list[_Loss]:
        """Messages lost between a reader at `position` and the next one of the producer's present history."""
        ahead = self.producer.ahead(self.producer.epoch, position.epoch)
        return [loss for loss in ahead if loss.end == position.offset]

    def _gap(self, view: StreamView, lost: list[_Loss]) -> None:
        lives = {loss.life for loss in lost}
        assert not lives & self.told, "the reader is told of each loss once"
        self.told |= lives
        self.taken[-1].gap = view
        self.taken.append(_Segment(view, view.next))
        self.cursor = view.next

    def _is_taken(self, sent: _Sent) -> None:
        woken = self.woken
        self.replica.log.wait(self._wake)
        self._receive(sent)
        assert self.woken == woken + 1, "who waits is woken"

    # Frames that it must not send.

    @rule(
        wrong=st.sampled_from(
            ["jump", "overlap", "history", "stream", "addressee", "part", "loss"]
        ),
        off=st.integers(1, 6),
        count=st.integers(1, 8),
        skipped=st.booleans(),
    )
    def what_does_not_come_next_is_refused(
        self, wrong: str, off: int, count: int, skipped: bool
    ) -> None:
        newest = self.taken[-1]
        first, epoch, node, to = newest.next, newest.epoch, "a", None
        match wrong:
            case "jump":
                first += off
            case "overlap":
                first -= off
                if first < 0 or (not newest.items and count > off):
                    return  # the first item of all may contain the place where the replica begins
            case "history":
                ends = dict(self.producer.lineage(epoch))
                others = [*ends, *self.producer.histories, NEVER_DRAWN]
                epoch = [e for e in others if e != newest.epoch][off % (len(others) - 1)]
                if first <= ends.get(epoch, -1):
                    # An earlier epoch counts up to where this history left it: one more is refused.
                    count = ends[epoch] + 1 - first
            case "stream":
                node = "c"
            case "addressee":
                to, skipped = "c", False
            case "loss":
                if not self.producer.ahead(epoch, newest.last):
                    return  # nothing is lost before what comes next under this epoch
        if wrong == "part":
            part = part_of(entry(first, topics=["t", "u"], epoch=epoch), lambda t: t == "t")
            assert part is not None
            self._is_refused(part)
        elif skipped:
            self._is_refused(skip(first, first + count, node=node, epoch=epoch))
        else:
            self._is_refused(entry(first, count, node=node, epoch=epoch, to=to))

    @rule(
        wrong=st.sampled_from(["resume", "stream", "history", "place"]),
        off=st.integers(-5, 5).filter(bool),
    )
    def an_answer_or_a_notice_that_contradicts_what_is_held_is_refused(
        self, wrong: str, off: int
    ) -> None:
        newest = self.taken[-1]
        if wrong == "resume":
            if newest.next + off >= 0:
                view = self.producer.view
                self._is_refused(Attached(view, Resume(newest.next + off), None))
            return
        following = newest.next - abs(off) if wrong == "place" else newest.next + abs(off)
        if following >= 0:
            epoch = NEVER_DRAWN if wrong == "history" else newest.epoch
            view = StreamView(epoch, self.producer.lineage(newest.epoch), 0, following)
            node = "c" if wrong == "stream" else "a"
            self._is_refused(CursorExpired(node, Reason.OVERWRITTEN, None, view))

    def _is_refused(self, sent: _Sent) -> None:
        before, woken = self._state(), self.woken
        self.replica.log.wait(self._wake)
        with pytest.raises(ProtocolError):
            self._receive(sent)
        assert self._state() == before
        assert self.woken == woken, "a reader is woken only for an item"

    def _receive(self, sent: _Sent) -> None:
        match sent:
            case Attached():
                self.replica.attached(sent)
            case CursorExpired():
                self.replica.expired(sent)
            case _:
                self.replica.append(sent)

    def _wake(self) -> None:
        self.woken += 1

    def _state(self) -> object:
        log = self.replica.log
        return (
            [log[index] for index in range(log.begin, log.end)],
            [
                (s.epoch, s.lineage, s.losses, s.end_position, s.first, s.begin, s.joined)
                for s in log.segments
            ],
            (log.begin, log.end, log.messages, log.bytes),
            (self.replica.registration, self.replica.origin, self.replica.named),
        )

    # Invariants.

    @invariant()
    def its_registration_is_all_that_it_took(self) -> None:
        if self.taken:
            newest = self.taken[-1]
            lineage, losses = (
                self.producer.lineage(newest.epoch),
                self.producer.losses(newest.epoch),
            )
            assert self.replica.registration == Position(newest.last, newest.next)
            ahead = self.producer.ahead(newest.epoch, newest.last)
            if not any(loss.end == newest.next for loss in ahead):
                assert newest.last == place(newest.epoch, lineage, newest.next, losses).epoch
            assert (self.replica.log.newest.lineage, self.replica.log.newest.losses) == (
                lineage,
                losses,
            )

    @invariant()
    def it_holds_the_newest_that_fit_and_the_markers_in_their_places(self) -> None:
        if self.taken:
            log = self.replica.log
            all_taken = [item for _, item in self._items()]
            tail: list[Entry | Skip | StreamView] = []
            messages = size = 0
            for item in reversed(all_taken):
                messages += item.count if isinstance(item, Entry) else 0
                size += ITEM_OVERHEAD + (item.size if isinstance(item, Entry) else 0)
                if messages > log.max_messages or size > log.max_bytes:
                    break
                tail.insert(0, item)
            held = [log[index] for index in range(log.begin, log.end)]
            assert log.end == len(all_taken)
            assert [i.view if isinstance(i, Gap) else i for i in held] == tail
            assert log.messages == sum(i.count for i in tail if isinstance(i, Entry))
            assert log.messages <= log.max_messages
            assert log.bytes <= log.max_bytes

    @invariant()
    def from_every_position_that_it_holds_all_that_follows_can_be_read(self) -> None:
        if self.taken:
            longest = max(map(len, self.producer.histories.values()))
            left = list(self._items())[self.replica.log.begin :]
            for epoch in self.producer.histories:
                for offset in range(longest + 2):
                    self._read_from(Position(epoch, offset), left)

    def _items(self) -> Iterator[_Taken]:
        for segment in self.taken:
            for item in segment.items:
                yield segment, item
            if segment.gap is not None:
                yield segment, segment.gap

    def _read_from(self, position: Position, left: list[_Taken]) -> None:
        log = self.replica.log
        index = log.locate(position)
        segment = self._standing_in(position, left)
        if segment is None:
            assert index is None
            return
        assert index is not None
        now = position.offset
        read: list[Entry] = []
        while index < log.end:
            item = log[index]
            if isinstance(item, Gap):
                break
            assert item.first <= now < item.next if now == position.offset else item.first == now
            if isinstance(item, Entry):
                read.append(item)
            now = item.next
            index += 1
        owed = dict.fromkeys(self.producer.histories[segment.epoch][position.offset : segment.next])
        assert now == segment.next
        assert read == [item for item in owed if item.to in (None, "b")]
        marker = log[index] if index < log.end else None
        assert (marker.view if isinstance(marker, Gap) else None) == segment.gap

    def _standing_in(self, position: Position, left: list[_Taken]) -> _Segment | None:
        """The newest segment that still holds `position`, or whose marker does, on that reader's branch."""
        for segment in reversed(self.taken):
            held = [item for of, item in left if of is segment]
            if not held and segment.gap is not None:
                return None
            first = next((i.first for i in held if not isinstance(i, StreamView)), segment.next)
            within = first <= position.offset <= segment.next
            ahead, here = (
                self.producer.ahead(segment.epoch, read) for read in (position.epoch, segment.last)
            )
            if within and ahead == here and self.producer.contains(segment.epoch, position):
                return segment
        return None


def _in_all(losses: list[_Loss]) -> int | None:
    known = [loss.missing for loss in losses if loss.missing is not None]
    return sum(known) if len(known) == len(losses) else None


ReplicaMachine.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=40, deadline=None
)
test_the_replica_agrees_with_what_its_producer_published = ReplicaMachine.TestCase

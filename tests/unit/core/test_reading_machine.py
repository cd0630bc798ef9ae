"""A reading hands its session every wanted message once, in order, or a notice, in spite of all that happens around it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit.core.builders import MANY, at, entry, frames_in, log_of, view
from tests.unit.core.fake_source import FakeSource
from tests.unit.examples import examples

from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions import reading_states as states
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.sessions.reading_states import MOVES, TABLE, ReadingEvent, ReadingState
from pubsubd_broker.core.streams.fetching import LaggingReader
from pubsubd_protocol.attach import Claim, Resume, resolve
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, CursorExpired, Frame, Skip
from pubsubd_protocol.positions import StreamView
from pubsubd_protocol.topics import Filter

RING = 6
REPLICA = 3

ABSENT = {ReadingState.AWAY, ReadingState.INQUIRING}

Move = tuple[ReadingState, ReadingEvent]


def test_every_state_is_reached_and_left() -> None:
    for start in (ReadingState.SEEKING, ReadingState.AWAY):
        reached, new = {start}, {start}
        while new:
            new = {then for state in new for then in TABLE[state].values()} - reached
            reached |= new
        assert reached == set(ReadingState)


def test_every_state_can_be_stopped() -> None:
    for state, row in TABLE.items():
        assert row[ReadingEvent.STOPPED] is (
            ReadingState.AWAY if state in ABSENT else ReadingState.SEEKING
        )


class CountingSource(FakeSource):
    """Counts the readers that begin to lag, as a link does."""

    begun = 0

    def fetch(self, reader: LaggingReader, claim: Claim, budget: int) -> bool:
        asked = super().fetch(reader, claim, budget)
        if asked and budget and reader.catches_up():
            self.begun += 1
        return asked


class ReadingMachine(RuleBasedStateMachine):
    """A session on node "b" reads the stream of "a": one message an entry, of topic "x" or "y".

    The model knows the topics, the first offset of which the session has heard nothing, and where its next life begins:
    at what it acknowledged, and behind what it passed since, unless it `owes` an acknowledgement. It knows the state from
    facts that stand elsewhere: who was asked, what was fetched, which readers are parked; and from `seeks`, the state in
    which the reading looks for its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.topics: list[str] = []
        self.wanted = "x"
        self.source = CountingSource(log_of(max_messages=REPLICA))
        self.reading = Reading(self.source, at(0), Filter(("x",)), self._wake)
        self.woken = True
        self.heard = 0
        self.acknowledged = 0
        self.owes = False
        self.away = False
        self.seeks = ReadingState.SEEKING
        self.begun = 0
        """Times at which it began to lag behind an earlier log at hand."""

    def _wake(self) -> None:
        self.woken = True

    @property
    def ring(self) -> StreamView:
        return view(max(0, len(self.topics) - RING), len(self.topics))

    @property
    def end(self) -> int:
        return self.source.log.end_position.offset

    # The stream.

    @initialize(topics=st.lists(st.sampled_from("xy"), max_size=8), begin=st.integers(0, 8))
    def begin(self, topics: list[str], begin: int) -> None:
        """The replica begins somewhere in the stream; the session has seen nothing of it."""
        self.topics += topics
        self._meet(min(begin, len(topics)))

    @rule(topics=st.lists(st.sampled_from("xy"), min_size=1, max_size=4))
    def publish(self, topics: list[str]) -> None:
        self.topics += topics

    @precondition(lambda self: self.source.reachable and self.end < len(self.topics))
    @rule(most=st.integers(1, 4))
    def replicate(self, most: int) -> None:
        log = self.source.log
        if log.newest.next < self.ring.oldest:
            log.append_gap(self.ring)
        for offset in range(log.newest.next, min(len(self.topics), log.newest.next + most)):
            log.append(entry(offset, topic=self.topics[offset]))

    @precondition(lambda self: self.source.fetches and not self.away)
    @rule(most=st.integers(1, 3), step=st.sampled_from(["", "drop", "leave", "meet anew"]))
    def answer_and_disturb(self, most: int, step: str) -> None:
        """Fetched items are seldom left for long: what disturbs has to come at once."""
        self.answer(most)
        self.disturb(step, 0)

    @precondition(lambda self: self.source.fetches)
    @rule(most=st.integers(0, 3))
    def answer(self, most: int) -> None:
        claim = self.source.fetches[0][1]
        wanted = self.reading.awaits(claim)
        answer = resolve(claim, self.ring)
        items: list[Entry | Skip] = []
        if isinstance(answer, Resume):
            last = min(answer.offset + most, len(self.topics))
            items += (entry(n, topic=self.topics[n]) for n in range(answer.offset, last))
        self.woken = self.woken and not wanted
        self.source.reply(self.ring, *items)
        if wanted:
            self.seeks = ReadingState.SEEKING
            assert self.woken != self.away, "only a session that is there is woken by the answer"
            if self.away:
                assert self.reading.gone == (not isinstance(answer, Resume))

    @rule(first=st.booleans())
    def link_is_lost_or_back(self, first: bool) -> None:
        """`first`: when the link is back, the replica comes to the end before the session pulls."""
        if not self.source.reachable:
            self._link_is_back()
            while first and self.end < len(self.topics):
                self.replicate(4)
            return
        if self.reading.state is states.ASKING:
            self.seeks = ReadingState.AWAITING_LINK
        self.source.reachable = False
        self.source.fetches.clear()
        self.reading.link_lost()

    def _link_is_back(self) -> None:
        self.source.reachable = True
        self.source.log.wake()

    def _meet_anew(self, behind: int) -> None:
        """The broker gave the stream up, and has another log at hand."""
        self._meet(max(0, len(self.topics) - behind))

    def _meet(self, begin: int) -> None:
        old = self.source
        self.source = CountingSource(log_of(max_messages=REPLICA, offset=begin))
        self.source.reachable = old.reachable
        self.reading.moves_to(self.source)
        assert len(old.caught) == old.begun, "the producer keeps nothing for it any more"
        assert not old.log.interest.parked
        assert not old.log._waiting
        assert not old.pacing._readers
        assert not self.reading.gone
        self.seeks = ReadingState.SEEKING
        self.woken = not self.away

    # The session.

    @precondition(lambda self: not self.away)
    @rule(budget=st.sampled_from([1, MANY]))
    def pull(self, budget: int) -> None:
        out = Outgoing(budget)
        overdue = self.reading.overdue
        self.woken = False
        more = self.reading.pull(self._choose, out)
        self.woken = self.woken or more
        self._hear(out)
        if overdue and not out.full:
            assert not self.reading.unreported, "it was to be told how far it has come"
        assert more or not self.reading.overdue
        if more:
            self.seeks = ReadingState.SEEKING
        elif self.passed > self.end and self.reading.bookmark.proved:
            self.seeks = ReadingState.AWAITING_REPLICA
        else:
            self.seeks = ReadingState.AWAITING_LINK

    @property
    def passed(self) -> int:
        position = self.reading.position
        assert position is not None
        return position.offset

    @precondition(lambda self: not self.away)
    @rule()
    def pull_while_woken(self) -> None:
        for _ in range(20):
            if self.woken:
                self.pull(MANY)

    # One rule for all that disturbs: else most steps would, and few would read.

    @precondition(lambda self: not self.away)
    @rule(
        step=st.sampled_from(
            ["acknowledge", "remind", "refilter", "drop", "remember", "leave", "meet anew"]
        ),
        number=st.integers(0, 4),
    )
    def disturb(self, step: str, number: int) -> None:
        match step:
            case "acknowledge":
                self.reading.bookmark.acknowledge(Ack("a", at(self.heard)))
                self.acknowledged, self.owes = self.heard, False
            case "remind":
                self.reading.remind()
                assert self.woken
                assert self.reading.overdue
            case "refilter":
                self._refilter("xy"[number % 2])
            case "drop" if self.reading.fetched_bytes:
                self._drop_fetched()
            case "remember":
                # A peer remembers a place that tells nothing new: the reading looks again.
                self.woken = False
                self.reading.lived_before(at(0), reads=True)
                assert self.woken
            case "leave":
                self.reading.leave()
                self.away = True
                assert not self.reading.gone
            case "meet anew":
                self._meet_anew(number)

    @precondition(lambda self: self.away)
    @rule(
        step=st.sampled_from(["come back", "present", "inquire", "leave", "meet anew"]),
        number=st.integers(0, 4),
    )
    def stay_away_or_come_back(self, step: str, number: int) -> None:
        match step:
            case "come back" | "present":
                self._come_back(presents=step == "present")
            case "inquire":
                self.reading.inquire()
                if self.source.fetches and number > 2:
                    self.answer(number - 2)
                elif number == 2 and self.source.reachable:
                    self.link_is_lost_or_back(first=False)
            case "leave" if self.reading.state is states.AWAY:
                self.reading.leave()
            case "meet anew":
                self._meet_anew(number)

    @precondition(lambda self: not self.away and self.source.reachable)
    @rule(step=st.sampled_from(["leave", "meet anew"]))
    def stop_in_the_middle(self, step: str) -> None:
        self.pull_while_woken()
        self.publish([self.wanted] * 2)
        while self.end < len(self.topics):
            self.replicate(4)
        self.pull(1)
        self.disturb(step, 0)

    @precondition(lambda self: not self.away and self.source.reachable)
    @rule(step=st.sampled_from(["answer", "lose the link", "come back", "meet anew"]))
    def fall_behind_and_inquire(self, step: str) -> None:
        """The replica lets go of what the next life needs, so only the producer can tell whether it is held."""
        self.publish(["x"] * (REPLICA + 1))
        self.disturb("leave", 0)
        while self.end < len(self.topics):
            self.replicate(4)
        self.reading.inquire()
        match step:
            case "answer" if self.source.fetches:
                self.answer(2)
            case "lose the link":
                self.link_is_lost_or_back(first=False)
            case "come back" | "meet anew":
                self.stay_away_or_come_back(step, 0)
            case _:
                pass

    def _drop_fetched(self) -> None:
        self.woken = False
        self.reading.forget_fetched()
        self.seeks = ReadingState.SEEKING
        assert self.woken, "it asks again"
        assert not self.reading.lags

    def _refilter(self, wanted: str) -> None:
        out = Outgoing(0)
        self.reading.settle(out)
        self._hear(out)
        self.reading.refilter(Filter((wanted,)))
        self.wanted = wanted
        self.woken = True

    def _come_back(self, *, presents: bool) -> None:
        """The application is back. `presents`: it says where it stands, which counts more than what it acknowledged."""
        if self.reading.gone:
            assert self.acknowledged < self.ring.oldest, "the ring holds what it needs"
        self.reading.attend()
        assert not self.reading.gone
        self.away, self.woken, self.seeks = False, True, ReadingState.SEEKING
        if presents:
            self.reading.bookmark.acknowledged = at(self.acknowledged)
            self.reading.go_on(at(self.heard))
            self.owes = self.heard > self.acknowledged
            return
        self.heard = self.acknowledged
        place = self.reading.position
        assert place is not None
        self._passes(place.offset)
        self.heard = self.acknowledged = place.offset
        self.owes = False

    def _choose(self, item: Entry) -> Entry | None:
        return item if item.topics == self.wanted else None

    def _hear(self, out: Outgoing) -> None:
        """The session takes what it was written: no wanted message is missing between what it hears."""
        frames: list[Frame] = frames_in(out)
        for frame in frames:
            match frame:
                case Entry():
                    assert frame.topics == self.wanted
                    self._passes(frame.first)
                    self.heard, self.owes = frame.next, True
                case Skip():
                    self._passes(frame.next)
                    self.heard = frame.next
                case CursorExpired():
                    assert self.heard < frame.view.oldest, "the producer held all that it needed"
                    assert frame.view.next >= self.heard
                    self.heard, self.owes = frame.view.next, True
                case _:
                    raise AssertionError(f"{frame} was not to be told")
        last = bool(frames) and isinstance(frames[-1], Skip)
        assert out.settled == ["a"] * last, "a position is noted when it is told alone"
        if last and not self.owes:
            self.acknowledged = self.heard

    def _passes(self, offset: int) -> None:
        assert offset >= self.heard, "it was told of that before"
        assert self.wanted not in self.topics[self.heard : offset], "a silent gap"

    # Invariants.

    @invariant()
    def state_is_the_one_that_the_facts_say(self) -> None:
        reading, log = self.reading, self.source.log
        asked = any(reading.awaits(claim) for _, claim in self.source.fetches)
        assert (reading._asked is not None) == asked
        if self.away:
            expected = states.INQUIRING if asked else states.AWAY
        elif asked:
            expected = states.ASKING
        elif reading._inbox:
            expected = states.CATCHING_UP
        elif reading.index is not None:
            expected = states.PARKED if reading in log.interest.parked else states.READING
        else:
            expected = self.seeks
        assert reading.state is expected
        in_the_log = reading.state in {states.READING, states.PARKED}
        assert (reading.index is not None) == in_the_log
        assert bool(reading._inbox) == (reading.state is states.CATCHING_UP)

    @invariant()
    def publishers_wait_for_it_only_while_it_reads(self) -> None:
        paced = self.reading in self.source.pacing._readers
        if self.reading.state is states.READING:
            assert paced
        elif self.reading.state in {states.PARKED, *ABSENT}:
            assert not paced

    @invariant()
    def the_producer_keeps_a_place_only_while_it_lags(self) -> None:
        assert self.source.begun - len(self.source.caught) == self.reading.lags
        if self.reading.state in {states.READING, states.PARKED, *ABSENT}:
            assert not self.reading.lags

    @invariant()
    def it_is_woken_or_something_will_wake_it(self) -> None:
        if self.away or self.woken:
            return
        log, reading = self.source.log, self.reading
        if reading.state is states.PARKED:
            assert self.wanted not in self.topics[self.heard : self.end]
            assert self.heard >= log.view.oldest or reading.overdue, "the log let go of its place"
        elif reading.state is not states.ASKING:
            assert reading.wake in log._waiting

    @invariant()
    def it_waits_only_where_it_reads(self) -> None:
        if self.away:
            assert not self.source.log._waiting
            assert not self.source.log.interest.parked
            assert not self.reading.overdue

    def teardown(self) -> None:
        """All faults heal: the session comes to the end, if it only pulls when it was woken."""
        if not self.source.reachable:
            self._link_is_back()
        if self.away:
            self._come_back(presents=False)
        while self.source.log.newest.next < len(self.topics):
            self.replicate(4)
        for _ in range(100):
            if self.woken:
                self.pull(MANY)
            elif self.source.fetches:
                self.answer(3)
            else:
                break
        assert self.wanted not in self.topics[self.heard :], "it waits for ever"
        assert self.reading.state is states.PARKED


TestReading = ReadingMachine.TestCase
TestReading.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)


class RecordedMoves(dict[Move, ReadingState]):
    """The table, and the moves that were looked up in it."""

    def __init__(self) -> None:
        super().__init__(MOVES)
        self.taken: set[Move] = set()

    def __getitem__(self, move: Move) -> ReadingState:
        self.taken.add(move)
        return super().__getitem__(move)


MOST_ROUNDS: Final = 10
"""Rounds of examples within which each move is taken. Most often two are enough."""


def as_seeking(moves: Collection[Move]) -> set[Move]:
    """`moves`, as if the three states that share a row were one."""
    seeking = {ReadingState.AWAITING_REPLICA, ReadingState.AWAITING_LINK}
    return {(ReadingState.SEEKING if state in seeking else state, event) for state, event in moves}


@pytest.mark.interpreted
def test_the_machine_takes_every_move_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RecordedMoves()
    monkeypatch.setattr(states, "MOVES", recorded)
    steps = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for number in range(MOST_ROUNDS):
        run_state_machine_as_test(seed(number)(ReadingMachine), settings=steps)
        if as_seeking(recorded.taken) == as_seeking(MOVES):
            break
    assert as_seeking(recorded.taken) == as_seeking(MOVES)

"""A reading hands its session every wanted message once, in order, or a notice, in spite of all that happens around it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.core.builders import MANY, at, entry, frames_in, log_of, view
from tests.unit.core.fake_source import FakeSource

from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions import reading_states as states
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.sessions.reading_states import TABLE, ReadingEvent, ReadingState
from pubsubd_protocol.attach import Resume, resolve
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, CursorExpired, Frame, Skip
from pubsubd_protocol.positions import StreamView
from pubsubd_protocol.topics import Filter

RING = 6
REPLICA = 3

IN_THE_LOG = {ReadingState.READING, ReadingState.PARKED}
ASKS = {ReadingState.ASKING, ReadingState.INQUIRING}
ABSENT = {ReadingState.AWAY, ReadingState.INQUIRING}


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


class ReadingMachine(RuleBasedStateMachine):
    """A session on node "b" reads the stream of "a": one message an entry, of topic "x" or "y".

    The model knows the topics, the first offset of which the session has heard nothing, and where its next life begins:
    at what it acknowledged, and behind what it passed since, unless it `owes` an acknowledgement.
    """

    def __init__(self) -> None:
        super().__init__()
        self.topics: list[str] = []
        self.wanted = "x"
        self.source = FakeSource(log_of(max_messages=REPLICA))
        self.reading = Reading(self.source, at(0), Filter(("x",)), self._wake)
        self.woken = True
        self.heard = 0
        self.acknowledged = 0
        self.owes = False
        self.away = False

    def _wake(self) -> None:
        self.woken = True

    @property
    def ring(self) -> StreamView:
        return view(max(0, len(self.topics) - RING), len(self.topics))

    # The stream.

    @rule(topics=st.lists(st.sampled_from("xy"), min_size=1, max_size=4))
    def publish(self, topics: list[str]) -> None:
        self.topics += topics

    @precondition(lambda self: self.source.reachable)
    @rule(most=st.integers(1, 4))
    def replicate(self, most: int) -> None:
        log = self.source.log
        if log.newest.next < self.ring.oldest:
            log.append_gap(self.ring)
        for offset in range(log.newest.next, min(len(self.topics), log.newest.next + most)):
            log.append(entry(offset, topic=self.topics[offset]))

    @precondition(lambda self: self.source.fetches)
    @rule(most=st.integers(0, 3))
    def answer(self, most: int) -> None:
        claim, asked = self.source.fetches[0][1], len(self.source.asked)
        budget = self.source.budgets[asked - len(self.source.fetches)]
        answer = resolve(claim, self.ring)
        items: list[Entry | Skip] = []
        if isinstance(answer, Resume) and budget:
            last = min(answer.offset + most, len(self.topics))
            items += (entry(n, topic=self.topics[n]) for n in range(answer.offset, last))
        self.source.reply(self.ring, *items)

    @rule()
    def link_is_lost(self) -> None:
        self.source.reachable = False
        self.source.fetches.clear()
        self.reading.link_lost()

    @rule()
    def link_is_back(self) -> None:
        self.source.reachable = True
        self.source.log.wake()

    # The session.

    @precondition(lambda self: not self.away)
    @rule(budget=st.sampled_from([1, MANY]))
    def pull(self, budget: int) -> None:
        out = Outgoing(budget)
        self.woken = False
        self.woken = self.reading.pull(self._choose, out) or self.woken
        self._hear(frames_in(out))

    @precondition(lambda self: not self.away)
    @rule()
    def is_reminded(self) -> None:
        self.reading.remind()

    @precondition(lambda self: self.reading.fetched_bytes)
    @rule()
    def fetched_is_dropped(self) -> None:
        self.reading.forget_fetched()

    @precondition(lambda self: not self.away)
    @rule(wanted=st.sampled_from("xy"))
    def wants_another_topic(self, wanted: str) -> None:
        out = Outgoing(0)
        self.reading.settle(out)
        self._hear(frames_in(out))
        self.reading.refilter(Filter((wanted,)))
        self.wanted = wanted
        self.woken = True

    @precondition(lambda self: not self.away)
    @rule()
    def acknowledge(self) -> None:
        self.reading.bookmark.acknowledge(Ack("a", at(self.heard)))
        self.acknowledged, self.owes = self.heard, False

    @precondition(lambda self: not self.away)
    @rule()
    def leave(self) -> None:
        self.reading.leave()
        self.away = True

    @precondition(lambda self: self.away)
    @rule()
    def inquire(self) -> None:
        self.reading.inquire()

    @precondition(lambda self: self.away)
    @rule()
    def come_back(self) -> None:
        if self.reading.gone:
            assert self.acknowledged < self.ring.oldest, "the ring holds what it needs"
        self.reading.attend()
        self.away, self.woken = False, True
        self.heard = self.acknowledged
        place = self.reading.position
        assert place is not None
        self._passes(place.offset)
        self.heard = self.acknowledged = place.offset
        self.owes = False

    def _choose(self, item: Entry) -> Entry | None:
        return item if item.topics == self.wanted else None

    def _hear(self, frames: list[Frame]) -> None:
        """The session takes what it was written: no wanted message is missing between what it hears."""
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
        if frames and isinstance(frames[-1], Skip) and not self.owes:
            self.acknowledged = self.heard

    def _passes(self, offset: int) -> None:
        assert offset >= self.heard, "it was told of that before"
        assert self.wanted not in self.topics[self.heard : offset], "a silent gap"

    @invariant()
    def place_question_and_inbox_are_those_of_the_state(self) -> None:
        reading = self.reading
        assert (reading.index is not None) == (reading.state in IN_THE_LOG)
        assert (reading._asked is not None) == (reading.state in ASKS)
        assert bool(reading._inbox) == (reading.state is states.CATCHING_UP)
        assert (reading.state in ABSENT) == self.away

    def teardown(self) -> None:
        """All faults heal: the session comes to the end, if it only pulls when it was woken."""
        self.link_is_back()
        if self.away:
            self.come_back()
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
TestReading.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

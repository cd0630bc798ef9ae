"""Readers are parked at the end of a log, and wake for entries that match their filter."""

from __future__ import annotations

import pytest
from tests.unit.core.builders import at
from tests.unit.counting import calls_of

from pubsubd_broker.core.log import interest
from pubsubd_broker.core.log.interest import Interest
from pubsubd_broker.core.log.pattern_index import PatternIndex
from pubsubd_protocol.positions import Position
from pubsubd_protocol.topics import Filter


class Parked:
    """Counts how often its filter was asked, and by what it was woken."""

    def __init__(self, *patterns: str) -> None:
        self.filter = Filter(patterns)
        self.woken: list[tuple[int, Position]] = []
        self.told = 0
        self.reminded = 0

    def unpark(self, index: int, position: Position) -> None:
        self.woken.append((index, position))

    def remind(self) -> None:
        self.reminded += 1


def parked(*readers: Parked) -> Interest:
    found = Interest()
    for reader in readers:
        found.park(reader)
    return found


def test_only_who_wants_a_topic_of_the_entry_is_woken_and_once() -> None:
    a, b, everything = Parked("a", "a.>"), Parked("b"), Parked(">")
    log = parked(a, b, everything)
    log.wake("a\na.x\nc", 7, at(5))
    assert (a.woken, b.woken, everything.woken) == ([(7, at(5))], [], [(7, at(5))])


def test_a_woken_reader_is_not_woken_again_until_it_rests() -> None:
    a = Parked("a")
    log = parked(a)
    log.wake("a", 0, at(0))
    log.wake("a", 1, at(1))
    assert len(a.woken) == 1
    log.park(a)
    log.wake("a", 2, at(2))
    assert [index for index, _ in a.woken] == [0, 2]


@pytest.mark.parametrize("end", [Interest.unpark, Interest.leave])
def test_a_reader_that_rose_or_left_is_not_woken(end: object) -> None:
    for reader in (Parked("a"), Parked(">")):
        log = parked(reader)
        end(log, reader)  # type: ignore[operator]
        log.wake("a", 0, at(0))
        log.wake_all(0, at(0))
        assert reader.woken == []


def test_a_gap_wakes_all_who_rest() -> None:
    some = [Parked("a"), Parked("b"), Parked(">")]
    parked(*some).wake_all(3, at(9))
    assert [reader.woken for reader in some] == [[(3, at(9))]] * 3


def test_a_later_reader_counts_for_remembered_topics() -> None:
    first, second = Parked("a"), Parked("*")
    log = parked(first)
    log.wake("a", 0, at(0))
    log.park(second)
    log.wake("a", 1, at(1))
    assert second.woken == [(1, at(1))]


@pytest.mark.interpreted
def test_a_topic_is_looked_up_once_for_all_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    owners = PatternIndex.owners

    def counted(self: PatternIndex[Parked], topic: str) -> tuple[Parked, ...]:
        asked.append(topic)
        return owners(self, topic)

    monkeypatch.setattr(PatternIndex, "owners", counted)
    log = parked(*(Parked("never") for _ in range(10)))
    for index in range(100):
        log.wake("a\nb", index, at(index))
    assert sorted(asked) == ["a", "b"]


def test_lookups_for_an_entry_do_not_grow_with_resting_readers() -> None:
    """A publisher chooses the topics, a session the patterns, and the broker has one thread for all."""
    topics = [f"t.{i}" for i in range(1000)]
    log = parked(*(Parked("no", "no.*", "*.no", "no.>") for _ in range(1000)))
    assert calls_of(lambda: log.wake("\n".join(topics), 0, at(0))) < 10 * len(topics)


def test_an_entry_that_would_cost_too_many_looks_wakes_everybody() -> None:
    readers = [Parked("a" + ".*" * i) for i in range(100)]
    log = parked(*readers)
    log.wake("\n".join(f"b{i}" for i in range(interest.MOST_LOOKS // 100)), 1, at(0))
    assert not any(reader.woken for reader in readers)
    log.wake("\n".join(f"c{i}" for i in range(interest.MOST_LOOKS // 100 + 1)), 2, at(1))
    assert [reader.woken for reader in readers] == [[(2, at(1))]] * 100


def test_an_entry_of_remembered_topics_wakes_its_readers_at_no_cost() -> None:
    readers = [Parked("a" + ".*" * i) for i in range(100)]
    log = parked(*readers)
    topics = [f"b{i}" for i in range(interest.REMEMBERED_TOPICS - 1)]
    for topic in topics:
        log.wake(topic, 1, at(0))
    log.wake("\n".join(topics), 2, at(1))
    assert not any(reader.woken for reader in readers)
    log.wake("\n".join((*topics, "a")), 3, at(2))
    assert [bool(reader.woken) for reader in readers] == [True] + [False] * 99


def test_indexed_patterns_are_bounded_and_further_filters_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interest, "MOST_PATTERNS", 5)
    within, beyond = Parked("a", "b", "c.*"), Parked("c", "d", "e.>")
    log = parked(within, beyond)
    log.wake("x\ne", 1, at(0))
    assert (within.woken, beyond.woken) == ([], [])
    log.wake("e.x", 2, at(1))
    assert (within.woken, beyond.woken) == ([], [(2, at(1))])
    log.leave(within)
    log.leave(beyond)
    # There is room now.
    log.park(beyond)
    log.wake("d", 3, at(2))
    assert len(beyond.woken) == 2


@pytest.mark.interpreted
def test_readers_beyond_the_bound_count_for_what_an_entry_may_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interest, "MOST_PATTERNS", 0)
    readers = [Parked("a", "a.*") for _ in range(500)]
    log = parked(*readers)
    topics = "\n".join(f"b{i}" for i in range(1000))
    assert calls_of(lambda: log.wake(topics, 1, at(0))) < 10 * 500
    assert all(reader.woken for reader in readers)
    for reader in readers:
        log.leave(reader)
    assert log._others_looks == 0


@pytest.mark.interpreted
def test_remembered_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interest, "REMEMBERED_TOPICS", 10)
    reader = Parked("t.*")
    log = parked(reader)
    for number in range(100):
        log.wake(f"t.{number}", number, at(number))
        log.park(reader)
        assert len(log._by_topic) <= 10
    assert len(reader.woken) == 100

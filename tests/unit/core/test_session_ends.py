"""Sessions at a node: filters, places, positions, and what one pull may write."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Publisher, RawClient, Subscriber
from tests.unit.core.nets import alone, pair

from pubsubd_broker.core.limits import (
    FETCH_BYTES,
)
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.session import Session
from pubsubd_protocol.frames import (
    Ack,
    CursorExpired,
    FilterSet,
    Query,
    SetFilter,
    Skip,
    Subscribe,
)
from pubsubd_protocol.positions import Position


def test_a_session_says_first_what_it_wants() -> None:
    for frame in (SetFilter((">",)), Ack("a", Position(alone().new_epoch(), 0)), Query("status")):
        client = RawClient(alone(), "a", "session")
        client.send(frame)
        assert client.refusal == "protocol"


def test_a_second_subscribe_is_a_violation() -> None:
    subscriber = Subscriber(alone(), "a")
    subscriber.send(Subscribe((">",), "latest", None, None, None, True))
    assert subscriber.refusal == "protocol"


@pytest.mark.parametrize("patterns", [("a.>.b",), ("white space",)])
def test_a_bad_pattern_is_refused(patterns: tuple[str, ...]) -> None:
    client = RawClient(alone(), "a", "session")
    client.send(Subscribe(patterns, "latest", None, None, None, True))
    assert client.refusal == "invalid_topic"


def test_a_bad_pattern_in_a_changed_filter_is_refused() -> None:
    subscriber = Subscriber(alone(), "a")
    subscriber.change("a.>.b")
    assert subscriber.refusal == "invalid_topic"


def test_earliest_begins_at_what_is_left() -> None:
    net = pair(ring=3)
    publisher = Publisher(net, "a")
    publisher.fill(5)
    here, there = Subscriber(net, "a", start="earliest"), Subscriber(net, "b", start="earliest")
    publisher.publish()
    assert here.of_node("a") == ["told 2", 2, 3, 4, 5]
    assert there.of_node("a") == ["told 2", 2, 3, 4, 5]


def test_a_session_gets_its_own_messages_only_with_echo() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    with_echo = Subscriber(net, "a", life=publisher.life)
    without = Subscriber(net, "a", life=publisher.life, echo=False)
    other = Publisher(net, "a")
    publisher.publish()
    other.publish()
    assert with_echo.of_node("a") == [0, 1]
    assert without.of_node("a") == [1]


def test_a_changed_filter_takes_effect_at_the_stated_positions() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b", "old"), Publisher(net, "a")
    publisher.publish(topic="old")
    publisher.publish(topic="new")
    subscriber.stop_reading()
    publisher.publish(topic="old")
    publisher.publish(topic="new")
    subscriber.change("new")
    publisher.publish(topic="old")
    publisher.publish(topic="new")
    subscriber.read_on()
    assert subscriber.filter_set is not None
    point = subscriber.filter_set["a"].offset
    old, new = [0, 2, 4], [1, 3, 5]
    expected = [n for n in old if n < point] + [n for n in new if n >= point]
    assert subscriber.of_node("a") == sorted(expected)
    kinds = [type(frame) for frame in subscriber.frames]
    before = subscriber.frames[: kinds.index(FilterSet)]
    told = [frame.next for frame in before if isinstance(frame, Skip) and frame.node == "a"]
    assert point in {*told, 1}  # all before it has been told


def test_two_changes_of_the_filter_in_a_row_state_two_places() -> None:
    net = alone()
    subscriber, publisher = Subscriber(net, "a", "x"), Publisher(net, "a")
    subscriber.change("y")
    publisher.publish(topic="y")
    subscriber.change("z")
    publisher.publish(topic="y")
    publisher.publish(topic="z")
    assert len(subscriber.of(FilterSet)) == 2
    assert subscriber.of_node("a") == [0, 2]


def test_a_session_that_wants_nothing_is_told_of_its_progress() -> None:
    net = alone()
    subscriber, publisher = Subscriber(net, "a", "wanted"), Publisher(net, "a")
    publisher.fill(20)
    assert subscriber.of(Skip) == []
    net.advance(2)
    assert [(skip.first, skip.next) for skip in subscriber.of(Skip)] == [(0, 20)]
    net.advance(5)
    assert len(subscriber.of(Skip)) == 1


@pytest.mark.interpreted
def test_an_entry_touches_only_sessions_that_want_it() -> None:
    net = pair()
    idle = [Subscriber(net, node, f"idle.{n}") for n in range(50) for node in "ab"]
    busy = Subscriber(net, "b", "t")
    pulled: list[str] = []
    pull = Session.pull

    def counted(self: Session, out: Outgoing) -> bool:
        pulled.append(self.filter.patterns[0])
        return pull(self, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "pull", counted)
        Publisher(net, "a").fill(20)
    assert pulled == ["t"] * 20
    assert busy.of_node("a") == [*range(20)]
    # They stand at the end all the same, and lose nothing that is for them.
    net.advance(2)
    assert {subscriber.positions["a"].offset for subscriber in idle} == {20}
    Publisher(net, "a").fill(500)
    Publisher(net, "a").publish(topic="idle.7")
    assert [s.of_node("a") for s in idle if s.of_node("a")] == [[520], [520]]


def test_a_changed_filter_counts_for_one_that_rests() -> None:
    net = pair()
    subscriber = Subscriber(net, "b", "other")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    subscriber.change("t")
    assert subscriber.filter_set is not None
    assert subscriber.filter_set["a"].offset == 3
    publisher.fill(2)
    publisher.publish(topic="other")
    assert subscriber.of_node("a") == [3, 4]


def test_a_slow_session_loses_what_the_ring_lost_and_no_other_does() -> None:
    net = alone(ring=10)
    slow, fast, publisher = Subscriber(net, "a"), Subscriber(net, "a"), Publisher(net, "a")
    slow.stop_reading()
    publisher.fill(50)
    assert fast.of_node("a") == list(range(50))
    slow.read_on()
    publisher.publish()
    assert slow.of_node("a") == ["overwritten", 50]


@pytest.mark.parametrize("far", [False, True])
def test_a_position_of_another_cluster_is_told_not_guessed(far: bool) -> None:
    net = pair()
    Publisher(net, "a").fill(5)
    made_up = Position(net.new_epoch(), 3)
    subscriber = Subscriber(net, "b" if far else "a", positions={"a": made_up, "zzz": made_up})
    assert subscriber.of_node("a") == ["state_lost"]
    assert subscriber.of_node("zzz") == []


def test_a_position_beyond_the_end_is_told_ahead() -> None:
    net = pair()
    Publisher(net, "a").fill(5)
    beyond = {"a": Position(net.nodes["a"].epoch, 9)}
    for name in ("a", "b"):
        assert Subscriber(net, name, positions=beyond).of_node("a") == ["ahead"]


def test_a_reader_that_takes_all_gets_it_in_bounded_pulls() -> None:
    net = alone(ring=1000)
    subscriber, publisher = Subscriber(net, "a"), Publisher(net, "a")
    subscriber.stop_reading()
    publisher.fill(100, b"x" * 10_000)
    net.nodes["a"].ready.wake(subscriber.connection)
    first = subscriber.connection.pull(FETCH_BYTES, net.now)
    assert FETCH_BYTES <= sum(map(len, first)) < FETCH_BYTES + 11_000
    assert subscriber.of(CursorExpired) == []

"""A session: a filter and a reading for every stream, over several lives of its application."""

from __future__ import annotations

import pytest
from tests.unit.core.builders import (
    E1,
    E2,
    MANY,
    PUBLISHER,
    at,
    entry,
    frames_in,
    log_of,
    told,
    view,
)
from tests.unit.core.fake_source import FakeSource

from pubsubd_broker.core.log.outgoing import LOOKS_AT_ONCE, Outgoing
from pubsubd_broker.core.sessions.session import Session
from pubsubd_protocol.attach import At, Claim, Earliest, FromStart, Remembered
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import InvalidTopic, ProtocolError
from pubsubd_protocol.frames import Ack, Skip, Subscribe
from pubsubd_protocol.positions import Position
from pubsubd_protocol.topics import Filter

CLIENT = b"c" * 16


def a_session(
    *patterns: str,
    start: str = "latest",
    positions: dict[str, Position] | None = None,
    born_here: bool = True,
    echo: bool = True,
    name: str | None = None,
) -> Session:
    subscribe = Subscribe(patterns or (">",), start, positions, None, name, echo)
    return Session("b", subscribe, CLIENT, born_here=born_here)


def pull(session: Session, budget: int = MANY) -> list[str]:
    out = Outgoing(budget)
    session.pull(out)
    return told(frames_in(out))


def settle(session: Session) -> list[str]:
    out = Outgoing(0)
    session.settle(out)
    return told(frames_in(out))


# Messages of a session.


def test_it_gets_what_its_patterns_match_and_parts_of_batches() -> None:
    session = a_session("rooms.*")
    items = [entry(0, topic="rooms.1"), entry(1, topic="orders"), entry(2, topics=["rooms.2", "x"])]
    session.add(FakeSource(log_of(*items)), at(0))
    assert pull(session) == ["entry 0..1", "skip 1..2", "entry 2..4 only 2"]


def test_overlapping_patterns_deliver_a_message_once() -> None:
    session = a_session("rooms.*", "rooms.>", "rooms.1", ">")
    session.add(FakeSource(log_of(entry(0, 2, topic="rooms.1"))), at(0))
    assert pull(session) == ["entry 0..2"]
    assert pull(session) == []


@pytest.mark.parametrize(("echo", "expected"), [(True, ["entry 0..1"]), (False, [])])
def test_it_gets_what_its_own_client_published_only_if_it_wants_that(
    echo: bool, expected: list[str]
) -> None:
    session = a_session(echo=echo)
    session.add(FakeSource(log_of(entry(0, publisher=CLIENT))), at(0))
    assert pull(session) == expected


def test_without_echo_it_still_gets_what_others_published() -> None:
    session = a_session(echo=False)
    session.add(
        FakeSource(log_of(entry(0, publisher=PUBLISHER), entry(1, publisher=CLIENT))), at(0)
    )
    assert pull(session) == ["entry 0..1"]
    assert settle(session) == ["skip 1..2"]


@pytest.mark.parametrize(("to", "expected"), [(None, True), ("b", True), ("c", False)])
def test_it_gets_what_is_for_its_node(to: str | None, expected: bool) -> None:
    session = a_session()
    session.add(FakeSource(log_of(entry(0, to=to))), at(0))
    assert bool(pull(session)) == expected


def test_after_an_expiry_the_filter_counts_again() -> None:
    source = FakeSource(log_of(entry(0, topic="x")))
    source.log.append_gap(view(3, 5))
    source.log.append(entry(5, topic="x"))
    source.log.append(entry(6, topic="wanted"))
    session = a_session("wanted")
    session.add(source, at(0))
    assert pull(session) == ["skip 0..1", "overwritten -> 5", "skip 5..6", "entry 6..7"]


def test_a_changed_filter_counts_from_where_the_session_stands() -> None:
    source = FakeSource(log_of(entry(0, topic="old"), entry(1, topic="new")))
    session = a_session("old")
    session.add(source, at(0))
    assert pull(session) == ["entry 0..1"]
    assert settle(session) == ["skip 1..2"]
    session.filter = Filter(["new"])
    assert session.positions == {"a": at(2)}
    source.log.append(entry(2, topic="old"))
    source.log.append(entry(3, topic="new"))
    assert pull(session) == ["skip 2..3", "entry 3..4"]


def idle_beside(source: FakeSource) -> Session:
    """A session that rests at the end of `source`'s log, and wants nothing of what comes."""
    session = a_session("rare.>")
    session.add(source, source.log.end_position)
    assert pull(session) == []
    return session


@pytest.mark.parametrize("size", [1, 2, 3, 10, 100])
def test_its_place_is_told_before_the_last_told_one_is_evicted(size: int) -> None:
    source = FakeSource(log_of(max_messages=size))
    session, woken, told = idle_beside(source), 0, 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    session.wake = wake
    for offset in range(10 * size):
        source.log.append(entry(offset, topic="busy.x"))
        if woken:
            woken = 0
            out = Outgoing(MANY)
            session.pull(out)
            for frame in frames_in(out):
                assert isinstance(frame, Skip)
                told = frame.next
        assert told >= source.log.view.oldest
    assert told > 0


def idle_at_a_log_of(messages: int) -> tuple[FakeSource, Session, list[int]]:
    """A source with room for that many, an idle session, and a 1 for each time that the session is woken."""
    source = FakeSource(log_of(max_messages=messages))
    session, wakings = idle_beside(source), list[int]()
    session.wake = lambda: wakings.append(1)
    return source, session, wakings


def test_an_idle_session_is_told_its_place_a_few_times_per_log() -> None:
    source, session, wakings = idle_at_a_log_of(100)
    for offset in range(1000):
        source.log.append(entry(offset, topic="busy.x"))
        if wakings:
            pull(session)
    assert 0 < len(wakings) <= 4 * 10


def test_a_log_that_is_far_from_full_wakes_no_idle_session() -> None:
    source, _session, wakings = idle_at_a_log_of(100)
    for offset in range(50):
        source.log.append(entry(offset, topic="busy.x"))
    assert wakings == []


def test_one_whose_socket_takes_nothing_is_woken_once() -> None:
    source, session, wakings = idle_at_a_log_of(10)
    for offset in range(1000):
        source.log.append(entry(offset, topic="busy.x"))
    assert wakings == [1]
    assert pull(session) == ["skip 0..1000"]


def test_a_backlog_of_which_nothing_is_for_it_is_told_with_every_pull() -> None:
    source = FakeSource(log_of(*(entry(i, topic="busy.x") for i in range(5)), entry(5, topic="r")))
    session = a_session("r")
    session.add(source, at(0))
    out = Outgoing(MANY)
    out.looked = LOOKS_AT_ONCE - 2
    assert session.pull(out)
    assert told(frames_in(out)) == ["skip 0..2"]
    assert pull(session) == ["skip 2..5", "entry 5..6"]


# Kept positions of a session.


def test_the_kept_place_moves_over_unwanted_messages() -> None:
    source = FakeSource(log_of(max_messages=10))
    session = idle_beside(source)
    for offset in range(300):
        source.log.append(entry(offset, topic="busy.x"))
    assert session.kept == {"a": at(300)}
    session.leave(0)
    assert session.positions == {"a": at(300)}


@pytest.mark.parametrize(("acknowledged", "kept"), [(None, 0), (0, 0), (1, 9)])
def test_the_kept_place_stays_before_an_unacknowledged_message(
    acknowledged: int | None, kept: int
) -> None:
    source = FakeSource(log_of())
    session = idle_beside(source)
    source.log.append(entry(0, topic="rare.x"))
    for offset in range(1, 9):
        source.log.append(entry(offset, topic="busy.x"))
    assert pull(session)[0] == "entry 0..1"
    settle(session)
    if acknowledged is not None:
        session.acknowledge(Ack("a", at(acknowledged)))
    assert session.kept == {"a": at(kept)}
    session.leave(0)
    assert session.positions == {"a": at(kept)}


def test_the_kept_place_stays_before_an_unacknowledged_middle_message() -> None:
    source = FakeSource(log_of())
    session = idle_beside(source)
    source.log.append(entry(0, topic="busy.x"))
    settle(session)
    source.log.append(entry(1, topic="rare.x"))
    source.log.append(entry(2, topic="busy.x"))
    pull(session)
    settle(session)
    session.acknowledge(Ack("a", at(1)))
    assert session.kept == {"a": at(1)}
    session.acknowledge(Ack("a", at(2)))
    assert session.kept == {"a": at(3)}


def test_the_kept_place_stays_before_an_unacknowledged_gap() -> None:
    source = FakeSource(log_of(entry(0, topic="busy.x")))
    session = idle_beside(source)
    source.log.append_gap(view(3, 5))
    source.log.append(entry(5, topic="busy.x"))
    assert pull(session) == ["overwritten -> 5"]
    settle(session)
    assert session.kept == {"a": at(1)}
    session.acknowledge(Ack("a", at(5)))
    assert session.kept == {"a": at(6)}


def test_a_late_acknowledgement_of_what_was_passed_takes_nothing_back() -> None:
    source = FakeSource(log_of())
    session = idle_beside(source)
    for offset in range(8):
        source.log.append(entry(offset, topic="busy.x"))
        settle(session)
    session.acknowledge(Ack("a", at(3)))
    assert session.readings["a"].bookmark.acknowledged == at(8)


def test_unacknowledged_messages_are_not_passed_by_a_reconnect() -> None:
    source = FakeSource(log_of(*(entry(i, topic="busy.x") for i in range(5))))
    again = Subscribe(("rare.>",), "latest", {"a": at(3)}, None, "n", True, {"a": at(1)})
    session = Session("b", again, CLIENT, born_here=True)
    session.add(source, at(3))
    pull(session)
    assert session.kept == {"a": at(1)}
    session.acknowledge(Ack("a", at(3)))
    assert session.kept == {"a": at(5)}


def test_streams_take_turns() -> None:
    session = a_session()
    for node in ("a", "d", "e"):
        items = [entry(offset, node=node) for offset in range(10)]
        session.add(FakeSource(log_of(*items), node), at(0))
    first = [Outgoing(1) for _ in range(6)]
    for out in first:
        assert session.pull(out)
    nodes = [frame.node for out in first for frame in frames_in(out) if isinstance(frame, Entry)]
    assert nodes == ["a", "d", "e"] * 2


def test_a_session_has_more_only_if_its_budget_was_used_up() -> None:
    session = a_session()
    session.add(FakeSource(log_of(entry(0), entry(1))), at(0))
    assert session.pull(Outgoing(1))
    session.pull(Outgoing(MANY))
    assert not session.pull(Outgoing(MANY))
    assert session.drained


def test_it_is_woken_by_any_of_its_streams() -> None:
    session, woken = a_session(), []
    session.wake = lambda: woken.append(1)
    sources = [FakeSource(log_of(), node) for node in ("a", "d")]
    for source in sources:
        session.add(source, at(0))
    pull(session)
    sources[1].log.append(entry(0, node="d"))
    assert woken == [1]


# Where it begins in a stream that its broker meets.


@pytest.mark.parametrize(
    ("start", "positions", "born_here", "expected"),
    [
        ("latest", None, True, Remembered(waiting=True)),
        ("earliest", None, True, Earliest(Remembered(waiting=True))),
        ("latest", {}, True, Remembered(waiting=True)),
        ("latest", {}, False, FromStart()),
        ("latest", {"a": at(5)}, True, at(5)),
        ("latest", {"a": at(5)}, False, at(5)),
        ("earliest", {"a": at(5)}, False, at(5)),
        ("latest", {"d": at(5)}, False, FromStart()),
        # Resumed from an earlier life: it is owed all of it, so the loss of the beginning has to be told.
        ("earliest", {"d": at(5)}, False, Earliest(FromStart())),
    ],
)
def test_where_it_begins_at_first_contact(
    start: str,
    positions: dict[str, Position] | None,
    born_here: bool,
    expected: Position | Claim,
) -> None:
    session = a_session(start=start, positions=positions, born_here=born_here)
    assert session.first_contact("a") == expected
    needs = At(expected) if isinstance(expected, Position) else expected
    assert session.needs("a") == needs


def test_what_it_needs_of_a_stream_it_reads_is_where_it_stands() -> None:
    session = a_session()
    session.add(FakeSource(log_of(entry(0, 3))), at(0))
    pull(session)
    assert session.needs("a") == At(at(3))


# Acknowledging.


def acknowledged(session: Session) -> Position | None:
    return session.readings["a"].bookmark.acknowledged


def reading_five() -> Session:
    session = a_session(name="s")
    session.add(FakeSource(log_of(*(entry(offset) for offset in range(5)))), at(0))
    pull(session)
    return session


def test_acknowledgements_move_forward_only() -> None:
    session = reading_five()
    for offset in (2, 2, 5):
        session.acknowledge(Ack("a", at(offset)))
        assert acknowledged(session) == at(offset)
    with pytest.raises(ProtocolError, match="acknowledged 4 of a after 5"):
        session.acknowledge(Ack("a", at(4)))
    assert acknowledged(session) == at(5)


def test_an_acknowledgement_beyond_what_was_sent_is_a_violation() -> None:
    session = reading_five()
    with pytest.raises(ProtocolError, match="acknowledged 6 of a, sent 5"):
        session.acknowledge(Ack("a", at(6)))
    assert acknowledged(session) == at(0)


def test_an_acknowledgement_of_an_unknown_stream_is_a_violation() -> None:
    with pytest.raises(ProtocolError, match="has read nothing") as caught:
        reading_five().acknowledge(Ack("zzz", at(0)))
    assert caught.value.kind == "ack"


def test_an_acknowledgement_without_a_place_is_a_violation() -> None:
    session = a_session()
    session.add(FakeSource(log_of(), reachable=False), FromStart())
    with pytest.raises(ProtocolError, match="has read nothing"):
        session.acknowledge(Ack("a", at(0)))


def test_messages_before_an_expiry_may_be_acknowledged_after_it() -> None:
    source = FakeSource(log_of(*(entry(offset) for offset in range(5))))
    session = a_session(name="s")
    session.add(source, at(0))
    source.log.append_gap(view(0, 1, E2))
    pull(session)
    session.acknowledge(Ack("a", at(5, E1)))
    assert acknowledged(session) == at(5, E1)
    session.acknowledge(Ack("a", at(1, E2)))
    assert acknowledged(session) == at(1, E2)


# Its lives.


def test_the_next_life_begins_at_what_was_acknowledged() -> None:
    session = reading_five()
    session.acknowledge(Ack("a", at(3)))
    session.leave(now_ns=7)
    assert (session.connected, session.left_ns) == (False, 7)
    session.rejoin(Subscribe((">",), "latest", None, None, "s", True), CLIENT)
    assert session.introduce() == {"a": at(3)}
    assert pull(session) == ["entry 3..4", "entry 4..5"]


def test_a_position_that_the_application_presents_counts_more() -> None:
    session = reading_five()
    session.acknowledge(Ack("a", at(3)))
    session.leave(now_ns=7)
    session.rejoin(Subscribe((">",), "latest", {"a": at(1)}, None, "s", True), CLIENT)
    assert pull(session)[0] == "entry 1..2"


def test_a_returning_session_goes_by_the_client_that_came() -> None:
    session = reading_five()
    session.leave(now_ns=7)
    session.rejoin(Subscribe((">",), "latest", None, None, "s", False), PUBLISHER)
    assert session.connected
    session.leave(now_ns=8)
    session.rejoin(Subscribe((">",), "latest", {"a": at(0)}, None, "s", False), PUBLISHER)
    assert pull(session) == [], "all of it is of its own client"


def test_the_remembered_place_in_the_latest_history_counts() -> None:
    session = a_session()
    for place in (at(9, E2), at(5), at(3)):
        session.lived_before("a", place)
    stream = view(0, 20, E1, (E2, 10))
    assert session.remembered("b", stream) is None
    assert session.remembered("a", stream) == at(5)
    assert session.remembered("a", stream) is None


def test_the_kept_place_in_an_unknown_stream_is_0() -> None:
    session = a_session(name="s")
    assert session.kept_in("a") == 0
    session.add(FakeSource(log_of(), reachable=False), FromStart())
    assert session.kept_in("a") == 0
    session = reading_five()
    session.acknowledge(Ack("a", at(3)))
    assert session.kept_in("a") == 3


def test_an_absent_session_is_woken_for_nothing() -> None:
    source = FakeSource(log_of())
    session, woken = a_session(name="s"), []
    session.wake = lambda: woken.append(1)
    session.add(source, at(0))
    pull(session)
    session.leave(now_ns=0)
    source.log.append(entry(0))
    assert woken == []


def test_a_rejoin_with_a_bad_pattern_leaves_the_session_as_it_was() -> None:
    session = reading_five()
    session.leave(now_ns=7)
    with pytest.raises(InvalidTopic):
        session.rejoin(Subscribe(("a.>.b",), "latest", None, None, "s", True), CLIENT)
    assert not session.connected
    assert session.filter.everything


def test_a_closed_session_is_not_woken_and_asks_nothing_more() -> None:
    source = FakeSource(log_of(entry(9), offset=9))
    session, woken = a_session(), []
    session.wake = lambda: woken.append(1)
    session.add(source, at(3))
    pull(session)
    session.close()
    source.reply(view(0, 10), entry(3))
    source.log.append(entry(10))
    assert woken == []


def test_a_life_that_goes_back_may_acknowledge_lower_than_before() -> None:
    session = a_session(name="n")
    session.add(FakeSource(log_of(*(entry(i) for i in range(6)))), at(0))
    pull(session)
    session.acknowledge(Ack("a", at(5)))
    session.leave(0)
    session.rejoin(Subscribe((">",), "latest", {"a": at(2)}, None, "n", True), CLIENT)
    assert pull(session)[0] == "entry 2..3"
    session.acknowledge(Ack("a", at(3)))
    assert session.kept == {"a": at(3)}


def test_in_an_unmet_stream_the_presented_position_counts() -> None:
    session = a_session(name="n", positions={"a": at(5)})
    session.acknowledge(Ack("a", at(5)))
    session.leave(0)
    session.rejoin(Subscribe((">",), "latest", {"a": at(2)}, None, "n", True), CLIENT)
    assert session.kept == {"a": at(2)}

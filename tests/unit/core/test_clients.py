"""Clients of a node: publishers, sessions with and without a name, commands, and a node that stops."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber, query
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.access.remote import Caller
from pubsubd_broker.core.limits import (
    FETCH_BYTES,
    FRAMES_AT_ONCE,
    MAX_OUTBOX_BYTES,
    PUBLISH_WINDOW,
    SECOND_NS,
)
from pubsubd_broker.core.links.client_ends import SessionEnd
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.session import Session
from pubsubd_protocol.attach import At, Reason, Resume, resolve
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.frames import (
    Ack,
    CursorExpired,
    FilterSet,
    Heartbeat,
    Query,
    Receipt,
    Refused,
    Rejected,
    Report,
    SetFilter,
    Skip,
    Subscribe,
    Subscribed,
)
from pubsubd_protocol.positions import MAX_OFFSET, UNTOLD, Position


def alone(ring: int = 100, **options: Any) -> Net:
    net = Net()
    net.start("a", ring_messages=ring, **options)
    return net


def pair(ring: int = 100) -> Net:
    """`b` pulls `a`'s stream."""
    net = alone(ring)
    net.start("b", peers=["a"])
    net.run()
    return net


# Publishers.


def test_a_retry_after_a_lost_answer_gets_the_first_receipt_and_no_second_place() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    publisher.pipe.swallow(publisher.connection)
    publisher.send(batch_of([("t", b"x")], sequence=1))
    publisher.cut()
    again = Publisher(net, "a", life=publisher.life, spoke_to=net.nodes["a"].life)
    assert again.batch(1, "x", retry=True) == Receipt(1, net.nodes["a"].life, 0)
    assert net.nodes["a"].stream.next == 1
    assert again.batch(2, "y") == Receipt(2, net.nodes["a"].life, 1)


def test_a_retry_at_a_restarted_broker_is_placed_there() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    publisher.publish("x")
    old = net.nodes["a"].life
    net.restart("a")
    again = Publisher(net, "a", life=publisher.life, spoke_to=old)
    assert again.batch(1, "x", retry=True) == Receipt(1, net.nodes["a"].life, 0)


def test_a_retry_that_the_table_has_forgotten_is_answered_unknown() -> None:
    net = alone(ring=1000)
    publisher = Publisher(net, "a")
    publisher.fill(PUBLISH_WINDOW + 1)
    again = Publisher(net, "a", life=publisher.life)
    answer = again.batch(1, retry=True)
    assert isinstance(answer, Rejected)
    assert answer.code == "unknown"
    assert again.batch(2, retry=True) == Receipt(2, net.nodes["a"].life, 1)


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("sequence", [2, 5])
def test_on_one_connection_each_batch_has_a_higher_sequence_than_the_one_before(
    sequence: int, retry: bool
) -> None:
    net = alone()
    publisher = Publisher(net, "a")
    publisher.batch(2)
    publisher.batch(5)
    publisher.send(batch_of([("t", b"x")], sequence=sequence, retry=retry))
    assert publisher.last == Refused(
        "protocol", f"sequence: batch {sequence} came behind batch 5 on one connection"
    )
    assert net.nodes["a"].stream.next == 2
    assert Publisher(net, "a", life=publisher.life).batch(5, retry=True) == Receipt(
        5, net.nodes["a"].life, 1
    )


def test_a_batch_that_was_held_comes_again_and_is_not_behind_itself() -> None:
    net = alone(ring=1, pace_ns=SECOND_NS)
    Subscriber(net, "a").stop_reading()
    publisher = Publisher(net, "a")
    for sequence in (1, 2):
        publisher.send(batch_of([("t", b"x")], sequence=sequence))
    assert not publisher.connection.wants_more
    net.advance(1.1)
    assert [receipt.sequence for receipt in publisher.of(Receipt)] == [1, 2]


def test_a_publisher_that_was_forgotten_in_this_life_is_answered_unknown_on_retry() -> None:
    net = alone()
    publisher = Publisher(net, "a", spoke_to=net.nodes["a"].life)
    answer = publisher.batch(1, retry=True)
    assert isinstance(answer, Rejected)
    assert answer.code == "unknown"
    assert publisher.batch(2) == Receipt(2, net.nodes["a"].life, 0)


def test_a_message_to_a_node_never_seen_is_refused_and_takes_no_place() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    answer = publisher.publish(to="nobody")
    assert isinstance(answer, Rejected)
    assert answer.code == "unknown_node"
    assert isinstance(publisher.publish(to="b"), Receipt)
    assert isinstance(publisher.publish(to="a"), Receipt)
    assert net.nodes["a"].stream.next == 2


def test_a_node_that_was_seen_once_can_be_written_to_while_it_is_away() -> None:
    net = pair()
    net.stop("b")
    assert isinstance(Publisher(net, "a").publish(to="b"), Receipt)


def test_a_retry_of_an_accepted_message_is_accepted_though_its_node_was_forgotten() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    first = publisher.publish(to="b")
    net.stop("b")
    net.run()
    query(net, "a", "drop_cursor", "b")
    again = Publisher(net, "a", life=publisher.life, spoke_to=net.nodes["a"].life)
    assert again.batch(1, to="b", retry=True) == first


def test_near_the_last_offset_publishing_is_refused_and_readers_are_undisturbed() -> None:
    net = alone()
    node = net.nodes["a"]
    node.stream.begin((), MAX_OFFSET - 2, (), ())
    net.start("b", peers=["a"])
    net.run()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    assert isinstance(publisher.publish("x", "y"), Receipt)
    answer = publisher.publish("z")
    assert isinstance(answer, Rejected)
    assert answer.code == "stream_full"
    net.advance(1)
    assert subscriber.of_node("a") == [MAX_OFFSET - 2, MAX_OFFSET - 1]
    assert json.loads(query(net, "a", "status"))["ring"]["next_offset"] == MAX_OFFSET


def test_a_batch_that_contradicts_itself_ends_the_connection_and_no_other() -> None:
    net = alone()
    good, bad = Publisher(net, "a"), Publisher(net, "a")
    bad.send(Batch(1, False, None, "t", b"", b"\x01\x00\x00\x00", b"two bytes"))
    assert bad.refusal == "protocol"
    assert isinstance(good.publish(), Receipt)


def test_a_publisher_only_publishes() -> None:
    publisher = Publisher(alone(), "a")
    publisher.send(SetFilter(("t",)))
    assert publisher.refusal == "protocol"


def test_a_publisher_that_does_not_read_its_answers_is_not_read_from() -> None:
    net = alone(ring=100_000)
    publisher = Publisher(net, "a")
    publisher.stop_reading()
    bad = batch_of([("not a topic", b"")])
    sequence = 0
    while publisher.connection.wants_more:
        sequence += 1
        bad.sequence = sequence
        publisher.send(bad)
        assert sequence < MAX_OUTBOX_BYTES
    publisher.read_on()
    assert publisher.connection.wants_more
    assert len(publisher.of(Rejected)) == sequence


def test_of_many_questions_in_one_read_no_more_are_answered_than_are_taken() -> None:
    net = alone()
    client = RawClient(net, "a", "control")
    client.stop_reading()
    one = encode(Query("status"))
    client.pipe.carry(client, one * 3000)
    net.run()
    assert MAX_OUTBOX_BYTES <= client.connection._outbox_bytes < 2 * MAX_OUTBOX_BYTES
    assert not client.connection.wants_more
    client.read_on()
    assert client.connection.wants_more
    assert len(client.of(Report)) == 3000


@pytest.mark.parametrize("reads", [True, False], ids=["who reads", "who does not read"])
def test_what_one_has_said_at_once_is_taken_in_turns(reads: bool) -> None:
    """Others come between: one buffer holds thousands of frames, and some of them cost much."""
    net = alone()
    subscriber = Subscriber(net, "a", "t", session="named")
    if not reads:
        subscriber.stop_reading()
    asked: list[tuple[str, ...]] = [(f"t{i}",) for i in range(5)]
    ack = Ack("a", Position(net.nodes["a"].life, 0))
    for frames, further_turns in (
        ([SetFilter(patterns) for patterns in asked], len(asked)),
        ([ack] * (2 * FRAMES_AT_ONCE + 1), 2),
    ):
        subscriber.pipe.carry(subscriber, b"".join(map(encode, frames)))
        for left in reversed(range(further_turns + 1)):
            assert subscriber.connection.behind == (left > 0)
            assert subscriber.connection.wants_more == (left == 0)
            for connection in net.nodes["a"].turns.take():
                net._pump(net.nodes["a"], connection)
    session = net.nodes["a"].sessions.list()[0]
    assert session.filter.patterns == asked[-1]


def test_publishes_of_a_whole_window_are_taken_in_one_turn() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    batches = [batch_of([("t", b"")], sequence=i) for i in range(PUBLISH_WINDOW)]
    publisher.pipe.carry(publisher, b"".join(map(encode, batches)))
    assert not publisher.connection.behind
    assert net.nodes["a"].stream.next == PUBLISH_WINDOW


def test_what_is_wrong_behind_answers_that_had_to_wait_is_said_behind_them() -> None:
    net = alone()
    client = RawClient(net, "a", "control")
    client.stop_reading()
    asked = 0
    while client.connection.wants_more:
        client.pipe.carry(client, encode(Query("status")))
        asked += 1
    client.pipe.carry(client, encode(Heartbeat()))
    client.read_on()
    assert len(client.of(Report)) == asked
    assert client.refusal == "protocol"


def test_how_long_answers_took_is_measured() -> None:
    net = alone()
    Publisher(net, "a").fill(3)
    assert net.nodes["a"].counters.publish_seconds.count == 3
    assert net.nodes["a"].stream.messages_published == 3


# Sessions.


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


def test_a_session_gets_what_its_own_client_published_only_with_echo() -> None:
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


def test_a_session_that_wants_nothing_is_told_of_its_progress_once_in_a_while() -> None:
    net = alone()
    subscriber, publisher = Subscriber(net, "a", "wanted"), Publisher(net, "a")
    publisher.fill(20)
    assert subscriber.of(Skip) == []
    net.advance(2)
    assert [(skip.first, skip.next) for skip in subscriber.of(Skip)] == [(0, 20)]
    net.advance(5)
    assert len(subscriber.of(Skip)) == 1


def test_sessions_that_want_nothing_of_an_entry_are_not_touched_by_it() -> None:
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


def test_a_session_that_reads_slowly_costs_the_others_nothing_and_loses_what_the_ring_lost() -> (
    None
):
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
    beyond = {"a": Position(net.nodes["a"].life, 9)}
    for name in ("a", "b"):
        assert Subscriber(net, name, positions=beyond).of_node("a") == ["ahead"]


# Named sessions.


def test_a_named_session_goes_on_at_what_it_acknowledged() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    first = Subscriber(net, "b", session="s")
    publisher.fill(5)
    first.acknowledge("a", Position(net.nodes["a"].life, 3))
    first.cut()
    publisher.publish()
    second = Subscriber(net, "b", session="s")
    assert second.resumed
    assert second.of_node("a") == [3, 4, 5]


def test_a_name_in_use_is_refused_with_a_reason() -> None:
    net = alone()
    first = Subscriber(net, "a", session="s")
    second = Subscriber(net, "a", session="s")
    assert second.refusal == "name_in_use"
    second.cut()
    first.cut()
    assert Subscriber(net, "a", session="s").resumed


def test_a_named_session_refused_for_a_bad_pattern_can_come_back_with_a_good_one() -> None:
    net = alone()
    Subscriber(net, "a", session="s").cut()
    assert Subscriber(net, "a", "a.>.b", session="s").refusal == "invalid_topic"
    assert Subscriber(net, "a", "good", session="s").resumed


def test_so_many_named_sessions_are_kept_and_no_more() -> None:
    net = alone()
    for number in range(MAX_NAMED_SESSIONS):
        Subscriber(net, "a", session=f"s{number}").cut()
    assert Subscriber(net, "a", session="one more").refusal == "too_many_sessions"
    assert Subscriber(net, "a", session="s7").resumed
    assert Subscriber(net, "a").subscribed


def test_named_sessions_that_have_expired_are_dropped_when_their_application_stays_away() -> None:
    net = alone(ring=5, cursor_ttl_ns=10 * SECOND_NS)
    Subscriber(net, "a", session="gone").cut()
    here = Subscriber(net, "a", session="here")
    net.advance(9)
    Subscriber(net, "a", session="back").cut()
    Publisher(net, "a").fill(6)
    Subscriber(net, "a", session="unexpired").cut()
    net.advance(3)
    assert net.said("a", "session.forgotten") == [{"session": "gone"}]
    net.advance(20)
    forgotten = [said["session"] for said in net.said("a", "session.forgotten")]
    assert forgotten == ["gone", "back"]
    assert not here.lost
    assert not Subscriber(net, "a", session="gone").resumed
    assert Subscriber(net, "a", session="unexpired").resumed


def test_an_acknowledgement_beyond_what_was_sent_ends_the_session() -> None:
    net = alone()
    subscriber = Subscriber(net, "a", session="s")
    subscriber.acknowledge("a", Position(net.nodes["a"].life, 1))
    assert subscriber.refusal == "protocol"
    assert Subscriber(net, "a", session="s").resumed


def test_a_late_acknowledgement_of_a_named_session_reaches_the_producer_by_itself() -> None:
    net = pair()
    subscriber = Subscriber(net, "b", session="s")
    Publisher(net, "a").fill(3)
    net.advance(5)
    subscriber.acknowledge("a")
    net.advance(0.5)
    assert named(net, "a") == {"s": 3}


def test_a_named_session_learns_on_its_return_of_streams_that_were_met_meanwhile() -> None:
    net = Net()
    net.start("b", peers=["a"])
    Subscriber(net, "b", session="s").cut()
    net.start("a")
    Publisher(net, "a").fill(2)
    net.advance(5)
    back = Subscriber(net, "b", session="s")
    assert back.of(Subscribed)[0].positions["a"].offset == 0
    assert back.of_node("a") == [0, 1]


def test_what_was_acknowledged_of_a_stream_not_met_again_yet_counts_when_it_is_met() -> None:
    net = acknowledged_three_of_five()
    life = net.nodes["a"].life
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b", session="s", positions={"a": Position(life, 5)})
    subscriber.acknowledge("a", Position(life, 4))
    net.unreachable.clear()
    net.advance(5)
    assert named(net, "a") == {"s": 4}
    subscriber.cut()
    assert Subscriber(net, "b", session="s").of_node("a") == [4]


def test_a_revived_session_gets_its_place_in_every_stream() -> None:
    net = Net()
    for name in ("a", "c"):
        net.start(name)
    net.start("b", peers=["a", "c"])
    net.run()
    subscriber = Subscriber(net, "b", session="s")
    publishers = [Publisher(net, name) for name in ("a", "c")]
    for publisher in publishers:
        publisher.fill(3)
    for name in ("a", "c"):
        subscriber.acknowledge(name, Position(net.nodes[name].life, 1))
    net.advance(1)
    net.stop("b")
    for publisher in publishers:
        publisher.fill(1)
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a", "c"])
    net.advance(1)
    net.unreachable.clear()
    net.advance(5)
    back = Subscriber(net, "b", session="s")
    assert back.resumed
    assert back.of_node("a") == back.of_node("c") == [1, 2, 3]
    assert back.of_node("b") == ["state_lost"]


def test_a_broker_whose_session_wants_the_earliest_attaches_there() -> None:
    net = Net()
    net.start("a", ring_messages=3)
    Publisher(net, "a").fill(5)
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b", start="earliest")
    also = Subscriber(net, "b")
    assert len(net.nodes["b"].sessions.list()) == 2
    net.unreachable.clear()
    net.advance(1)
    assert subscriber.of_node("a") == ["unseen", 2, 3, 4]
    assert net.nodes["b"].replicas["a"].log.view.oldest == 2
    assert also.of_node("a") == ["unseen"]


def acknowledged_three_of_five() -> Net:
    """`b` has a named session that acknowledged up to 3, told to `a`; then `b` is gone."""
    net = pair()
    subscriber = Subscriber(net, "b", session="s")
    publisher = Publisher(net, "a")
    publisher.fill(5)
    subscriber.acknowledge("a", Position(net.nodes["a"].life, 3))
    net.advance(1)
    assert named(net, "a") == {"s": 3}
    net.stop("b")
    return net


LOST = "lost"


def named(net: Net, producer: str) -> dict[str, int | str]:
    """What it remembers of `b`'s named sessions: an offset in its present history, or that there is none."""
    node = net.nodes[producer]
    found = node.registry.get("b")
    assert found is not None
    view = node.stream.view
    return {
        name: place.offset if isinstance(resolve(At(place), view), Resume) else LOST
        for name, place in found.named.items()
    }


def test_a_named_session_outlives_its_broker_by_the_producers_registry() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"])
    net.advance(1)
    subscriber = Subscriber(net, "b", session="s")
    assert subscriber.resumed
    assert subscriber.of_node("a") == [3, 4]
    assert subscriber.of_node("b") == ["state_lost"]


def test_a_named_session_that_is_back_before_its_broker_met_the_producer_goes_on_too() -> None:
    net = acknowledged_three_of_five()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b", session="s")
    net.unreachable.clear()
    net.advance(5)
    assert subscriber.of_node("a") == ["told 3", 3, 4]
    assert subscriber.of_node("b") == ["state_lost"]


def test_a_session_that_resumed_by_its_own_position_is_told_of_its_nodes_loss_once() -> None:
    net = acknowledged_three_of_five()
    old = net.new_epoch()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b", session="s", positions={"b": Position(old, 4)}, born=old)
    assert subscriber.of_node("b") == ["state_lost"]
    net.unreachable.clear()
    net.advance(5)
    assert subscriber.of_node("b") == ["state_lost"]
    assert subscriber.of_node("a")[-2:] == [3, 4]


def restarted_apart() -> Net:
    """The same, and b has been restarted and can't reach a yet."""
    net = acknowledged_three_of_five()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    return net


def meet(net: Net) -> None:
    net.unreachable.clear()
    net.advance(5)


def test_the_loss_of_its_own_node_is_told_though_the_connection_broke_before_that_was_known() -> (
    None
):
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    first.cut()
    second = Subscriber(
        net, "b", session="s", positions=first.positions, born=first.born, life=first.life
    )
    meet(net)
    assert second.of_node("b") == ["state_lost"]
    assert second.of_node("a") == ["told 3", 3, 4]


def test_the_loss_of_its_own_node_is_told_though_the_application_restarted_before_that_was_known() -> (
    None
):
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "b").fill(2)
    first.acknowledge("b")
    first.cut()
    second = Subscriber(net, "b", session="s")
    meet(net)
    assert second.of_node("b") == ["state_lost"]


def test_the_loss_of_its_own_node_is_told_though_it_was_found_between_two_connections() -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    held = dict(first.positions)
    first.cut()
    meet(net)
    second = Subscriber(
        *(net, "b"),
        positions=held,
        acknowledged=held,
        session="s",
        born=first.born,
        life=first.life,
    )
    assert second.of_node("b") == ["state_lost"]
    second.acknowledge("b", noticed=True)
    second.cut()
    assert Subscriber(net, "b", session="s").of_node("b") == []


@pytest.mark.parametrize("noticed", [False, True])
def test_an_acknowledgement_under_way_does_not_take_in_a_loss_that_is_told_in_the_same_place(
    noticed: bool,
) -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "b").fill(2)
    meet(net)
    assert first.of_node("b")[-1] == "state_lost"
    first.acknowledge("b", noticed=noticed)
    first.cut()
    second = Subscriber(net, "b", session="s")
    assert second.of_node("b") == ([] if noticed else ["state_lost"])
    # That has a place of its own: it went on from nowhere.
    second.acknowledge("b", noticed=True)
    second.cut()
    assert Subscriber(net, "b", session="s").of_node("b") == []


def test_a_loss_told_in_place_that_did_not_arrive_is_told_again_to_the_same_application() -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "b").fill(2)
    held, log = dict(first.positions), list(first.log["b"])
    first.pipe.swallow(first.connection)
    meet(net)
    assert first.log["b"] == log
    first.cut()
    second = Subscriber(
        *(net, "b"),
        positions=held,
        acknowledged=held,
        session="s",
        born=first.born,
        life=first.life,
    )
    assert second.of_node("b") == ["state_lost"]
    second.cut()
    # It was received, and its application died before it had read it.
    assert Subscriber(net, "b", session="s").of_node("b") == ["state_lost"]


def test_what_a_session_received_and_is_not_done_with_comes_again_after_both_have_crashed() -> None:
    net = acknowledged_three_of_five()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    life = net.nodes["a"].life
    received, done = {"a": Position(life, 5)}, {"a": Position(life, 4)}
    old = net.new_epoch()
    Subscriber(net, "b", session="s", positions=received, acknowledged=done, born=old).cut()
    meet(net)
    assert Subscriber(net, "b", session="s").of_node("a") == [4]


def test_of_a_stream_that_a_session_is_not_done_with_anywhere_its_next_life_is_told_of_a_loss() -> (
    None
):
    net = acknowledged_three_of_five()
    received = {"a": Position(net.nodes["a"].life, 5)}
    net.start("b", peers=["a"])
    net.advance(1)
    old = net.new_epoch()
    Subscriber(net, "b", session="s", positions=received, acknowledged={}, born=old).cut()
    assert Subscriber(net, "b", session="s").of_node("a") == ["state_lost"]


def test_a_named_session_that_lost_something_at_a_producer_is_told_so_though_both_are_restarted() -> (
    None
):
    net = pair()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "a").fill(5)
    first.acknowledge("a")
    net.advance(1)
    first.cut()
    net.restart("a")
    net.advance(10)
    Publisher(net, "a").fill(2)
    net.advance(1)
    assert named(net, "a") == {"s": LOST}
    net.restart("b")
    net.advance(10)
    second = Subscriber(net, "b", session="s")
    assert second.of_node("a") == ["state_lost"]
    second.acknowledge("a")
    net.advance(1)
    assert named(net, "a") == {"s": 2}


def test_a_named_session_further_than_what_its_producer_recovered_is_told_so_after_both_restart() -> (
    None
):
    net = pair()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "a").fill(5)
    first.acknowledge("a")
    net.advance(1)
    first.cut()
    before = net.nodes["a"]
    net.stop("a")
    a = net.start("a")
    kept = [before.stream.log[index] for index in range(3)]
    a.stream.begin(((before.life, 3),), 0, (), kept)  # type: ignore[arg-type]
    net.advance(10)
    Publisher(net, "a").fill(2)
    net.advance(1)
    net.restart("b")
    net.advance(10)
    # The messages at 3 and 4 are others than those that it had: it must not go on at 5 of that as if nothing were.
    assert Subscriber(net, "b", session="s").of_node("a") == ["ahead"]


def test_a_revived_name_is_kept_as_long_as_its_producer_holds_what_it_needs() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"], cursor_ttl_ns=5 * SECOND_NS)
    net.advance(20)
    back = Subscriber(net, "b", session="s")
    assert (back.of_node("a"), back.of_node("b")) == ([3, 4], ["state_lost"])


def test_a_producer_hears_of_a_loss_that_it_did_not_know_of_only_when_the_session_has_been_told() -> (
    None
):
    # c knows nothing of the name that a remembers, and holds its own stream's beginning no more.
    net = acknowledged_three_of_five()
    net.start("c", ring_messages=2)
    Publisher(net, "c").fill(5)
    net.start("b", peers=["a", "c"])
    net.advance(1)
    assert named(net, "c") == {}
    back = Subscriber(net, "b", session="s")
    assert back.of_node("c") == ["unseen"]
    net.advance(1)
    assert named(net, "c") == {"s": LOST}
    back.acknowledge("c")
    net.advance(1)
    assert named(net, "c") == {"s": 5}


def test_a_session_that_comes_and_knows_its_place_is_told_to_its_producers_at_once() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"])
    net.advance(1)
    here = {"a": Position(net.nodes["a"].life, 4)}
    Subscriber(net, "b", session="s", positions=here, born=net.new_epoch(), acknowledged=here)
    net.advance(1)
    assert named(net, "a") == {"s": 4}


def test_a_session_that_was_dropped_is_dropped_at_the_producer_too() -> None:
    net = alone(ring=4)
    net.start("b", peers=["a"], cursor_ttl_ns=5 * SECOND_NS)
    net.run()
    subscriber = Subscriber(net, "b", session="s")
    publisher = Publisher(net, "a")
    publisher.publish()
    subscriber.acknowledge("a")
    subscriber.cut()
    net.part("a", "b")
    publisher.fill(5)
    net.heal("a", "b")
    net.advance(10)
    assert net.said("b", "session.forgotten") == [{"session": "s"}]
    assert named(net, "a") == {}


@pytest.mark.parametrize("overrun", [False, True])
def test_an_absent_session_is_dropped_only_if_its_producer_lost_what_it_needs(
    overrun: bool,
) -> None:
    net = alone(ring=100)
    net.start("b", peers=["a"], replica_messages=2, cursor_ttl_ns=5 * SECOND_NS)
    net.run()
    Subscriber(net, "b", session="s").cut()
    Publisher(net, "a").fill(101 if overrun else 100)
    net.advance(20)
    back = Subscriber(net, "b", session="s")
    assert back.resumed is not overrun
    assert back.of_node("a") == ([] if overrun else [*range(100)])


def test_a_new_session_of_an_old_name_is_known_to_its_producers_soon() -> None:
    net = pair()
    Publisher(net, "a").fill(3)
    a = net.nodes["a"]
    a.registry.acknowledge("b", Position(a.life, 3), {"s": UNTOLD}, 0)
    Subscriber(net, "b", session="s")
    net.advance(1)
    assert named(net, "a") == {"s": 3}


def test_what_an_absent_session_needs_is_asked_for_without_being_sent() -> None:
    net = alone(ring=1000)
    net.start("b", peers=["a"], replica_messages=2, cursor_ttl_ns=5 * SECOND_NS)
    net.run()
    Subscriber(net, "b", session="s").cut()
    Publisher(net, "a").fill(200, bytes(1000))
    producer = net.link("b", "a").ends[1]
    before = net.link("b", "a").sent[producer]
    net.advance(60)
    assert net.link("b", "a").sent[producer] - before < 10_000
    assert len(Subscriber(net, "b", session="s").of_node("a")) == 200


def test_a_named_session_that_came_further_than_its_broker_is_remembered_as_far_as_that() -> None:
    net = alone(ring=1000)
    net.start("b", peers=["a"], replica_messages=2)
    net.run()
    first = Subscriber(net, "b", session="s")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    first.acknowledge("a")
    net.advance(1)
    replica = net.nodes["b"].replicas["a"]
    # By catch-up it has read on, and its broker's own link hangs.
    end = first.connection.end
    assert isinstance(end, SessionEnd)
    assert end.session is not None
    end.session.readings["a"].go_on(Position(replica.log.newest.epoch, 5))
    first.positions["a"] = Position(replica.log.newest.epoch, 5)
    first.acknowledge("a")
    net.advance(1)
    assert named(net, "a") == {"s": 3}


def test_more_moves_of_named_sessions_than_a_frame_takes_are_told_in_turns() -> None:
    net = pair()
    a, b = net.nodes["a"], net.nodes["b"]
    names = {f"old-{n}": Position(a.life, 0) for n in range(MAX_NAMED_SESSIONS)}
    b.producers["a"]._named_told.update(names)
    a.registry.acknowledge("b", Position(a.life, 0), names, 0)
    for number in range(MAX_NAMED_SESSIONS):
        Subscriber(net, "b", session=f"new-{number}").cut()
    Publisher(net, "a").publish()
    net.advance(1)
    Publisher(net, "a").publish()
    net.advance(1)
    found = a.registry.get("b")
    assert found is not None
    assert set(found.named) == {f"new-{n}" for n in range(MAX_NAMED_SESSIONS)}
    assert net.linked("b", "a")


def test_a_named_session_expires_like_any_other_while_it_is_away_and_once() -> None:
    net = pair(ring=5)
    publisher = Publisher(net, "a")
    first = Subscriber(net, "b", session="s")
    publisher.fill(2)
    first.acknowledge("a")
    first.cut()
    publisher.fill(200)
    net.nodes["b"].replicas["a"].log.max_messages = 5
    publisher.publish()
    second = Subscriber(net, "b", session="s")
    assert second.of_node("a") == ["overwritten"]
    second.acknowledge("a")
    second.cut()
    publisher.publish()
    assert Subscriber(net, "b", session="s").of_node("a") == [203]


# Commands.


def test_an_unknown_query_is_answered_with_those_there_are() -> None:
    answer = json.loads(query(alone(), "a", "make_coffee"))
    assert "make_coffee" in answer["error"]
    assert "drop_cursor" in answer["error"]


def test_a_command_only_asks() -> None:
    client = RawClient(alone(), "a", "control")
    client.send(Heartbeat())
    assert client.refusal == "protocol"


def test_a_cursor_is_dropped_only_while_its_consumer_is_away() -> None:
    net = pair()
    refusal = json.loads(query(net, "a", "drop_cursor", "b"))
    assert refusal["dropped"] is False
    assert "connected" in refusal["error"]
    net.stop("b")
    assert json.loads(query(net, "a", "drop_cursor", "b")) == {"dropped": True}
    assert json.loads(query(net, "a", "drop_cursor", "b")) == {"dropped": False}
    assert json.loads(query(net, "a", "drop_cursor")) == {"dropped": False}


def test_dropping_a_cursor_changes_nothing_for_a_consumer_that_comes_back_with_its_position() -> (
    None
):
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.fill(2)
    net.part("a", "b")
    query(net, "a", "drop_cursor", "b")
    publisher.fill(2)
    net.heal("a", "b")
    net.advance(5)
    assert subscriber.of_node("a") == [0, 1, 2, 3]


def test_the_status_tells_of_cursors_peers_and_sessions() -> None:
    net = pair()
    Publisher(net, "a").fill(4)
    Subscriber(net, "b", "t", session="s")
    net.advance(1)
    a, b = (json.loads(query(net, name, "status")) for name in ("a", "b"))
    assert a["consumers"] == [
        {"consumer": "b", "connected": True, "cursor": 4, "lag_messages": 0, "away_s": None}
    ]
    assert a["ring"]["next_offset"] == 4
    (peer,) = b["peers"]
    assert (peer["node"], peer["connected"], peer["next_offset"]) == ("a", True, 4)
    assert peer["replica"]["oldest_offset"] == 0
    (session,) = b["sessions"]
    assert (session["name"], session["patterns"], session["connected"]) == ("s", ["t"], True)
    assert session["lag_messages"] == {"a": 0, "b": 0}
    net.stop("b")
    net.advance(2)
    (away,) = json.loads(query(net, "a", "cursors"))["cursors"]
    assert (away["connected"], away["cursor"]) == (False, 4)
    assert away["away_s"] == pytest.approx(2)


def test_an_expiry_is_counted_and_logged_for_the_hop_where_it_happened() -> None:
    net = pair(ring=5)
    Subscriber(net, "b", session="s")
    net.part("a", "b")
    Publisher(net, "a").fill(20)
    net.heal("a", "b")
    net.advance(5)
    a, b = net.nodes["a"].counters, net.nodes["b"].counters
    assert a.expired_at_peers == {Reason.OVERWRITTEN: 1}
    assert b.expired_at_sessions == {Reason.OVERWRITTEN: 1}
    hops = [(said["hop"], said["missed"]) for said in net.said("b", "cursor.expired")]
    assert hops == [("registration", 20), ("session", 20)]


def test_a_lagging_consumer_is_warned_of_once_a_minute() -> None:
    net = pair(ring=10)
    net.part("a", "b")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.advance(5)
    assert net.said("a", "ring.capacity_warning") == []
    publisher.publish()
    net.advance(50)
    assert len(net.said("a", "ring.capacity_warning")) == 1
    net.advance(20)
    assert len(net.said("a", "ring.capacity_warning")) == 2
    assert net.said("a", "ring.capacity_warning")[0]["consumer"] == "b"


# A bug in one connection.


def test_an_exception_in_one_connection_ends_that_one_and_no_other() -> None:
    net = pair()
    broken, fine = Subscriber(net, "a"), Subscriber(net, "a")
    publisher = Publisher(net, "a")

    def crashes(connection: Connection) -> bool:
        return connection is broken.connection

    net.crash_on = crashes
    broken.change("x")
    assert broken.lost
    publisher.publish()
    assert fine.of_node("a") == [0]
    assert net.linked("b", "a")
    (failed,) = net.said("a", "connection.failed")
    assert "a bug" in str(failed["error"])
    assert net.nodes["a"].counters.protocol_errors == {"internal": 1}


# Stopping.


def test_a_draining_node_takes_nothing_more_and_says_so() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    accepted = publisher.publish()
    node = net.nodes["a"]
    node.drain()
    publisher.send(batch_of([("t", b"")], sequence=2))
    assert publisher.refusal == "draining"
    assert node.stream.next == 1
    assert isinstance(accepted, Receipt)
    for role in ("publisher", "session"):
        assert RawClient(net, "a", role).refusal == "draining"
    assert RawClient(net, "a", "peer", peer="c").refusal == "draining"
    assert json.loads(query(net, "a", "status"))["not_ready"][0] == "draining"


def test_a_draining_node_dials_nobody() -> None:
    net = Net()
    node = net.start("b", peers=["a"])
    node.drain()
    assert node.due(net.now) == []


def test_a_node_is_drained_when_all_that_are_connected_have_what_was_accepted() -> None:
    net = pair()
    near, far, publisher = Subscriber(net, "a"), Subscriber(net, "b"), Publisher(net, "a")
    near.stop_reading()
    publisher.fill(3)
    node = net.nodes["a"]
    node.drain()
    assert not node.drained
    near.read_on()
    assert not node.drained  # b has not acknowledged yet
    net.advance(1)
    assert node.drained
    assert near.of_node("a") == far.of_node("a") == [0, 1, 2]


def test_absent_named_sessions_do_not_hold_up_a_node_that_stops() -> None:
    net = alone()
    Subscriber(net, "a", session="s").cut()
    Publisher(net, "a").publish()
    net.nodes["a"].drain()
    assert net.nodes["a"].drained


# Bounds of one pull.


def test_a_reader_that_takes_all_gets_it_in_pulls_of_a_bounded_size() -> None:
    net = alone(ring=1000)
    subscriber, publisher = Subscriber(net, "a"), Publisher(net, "a")
    subscriber.stop_reading()
    publisher.fill(100, b"x" * 10_000)
    net.nodes["a"].turns.wake(subscriber.connection)
    first = subscriber.connection.pull(FETCH_BYTES, net.now)
    assert FETCH_BYTES <= sum(map(len, first)) < FETCH_BYTES + 11_000
    assert subscriber.of(CursorExpired) == []


def test_a_loss_of_its_own_node_that_did_not_arrive_is_told_again() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"])
    net.advance(1)
    net.link("b", "a")  # revived
    lost = RawClient(net, "b", "session")
    lost.pipe.swallow(lost.connection)
    lost.send(Subscribe((">",), "latest", None, None, "s", True))
    lost.cut()
    assert Subscriber(net, "b", session="s").of_node("b") == ["state_lost"]


def test_each_user_has_names_of_his_own() -> None:
    """Whoever came under another one's name while that one is away would read on in its place."""
    net = Net()
    a = net.start("a")
    users = {uid: Caller(f"client of {uid}", uid=uid, gid=uid) for uid in (0, 1001, 1002)}
    owner = Subscriber(net, "a", session="projector", caller=users[1001])
    owner.cut()
    Publisher(net, "a").fill(3)
    stranger = Subscriber(net, "a", session="projector", caller=users[1002])
    own = Subscriber(net, "a", session="projector", caller=users[0])
    assert (stranger.resumed, own.resumed) == (False, False)
    again = Subscriber(net, "a", session="projector", caller=users[1001])
    assert again.resumed
    assert again.of_node("a") == [0, 1, 2]
    names = {name for name, _ in a.sessions.all_named()}
    assert names == {"projector", "1001:projector", "1002:projector"}


def test_a_name_that_is_too_long_with_its_user_is_refused_with_figures() -> None:
    net = Net()
    net.start("a")
    user = Caller("somebody", uid=1001, gid=1001)
    assert Subscriber(net, "a", session="n" * 123, caller=user).subscribed
    longer = Subscriber(net, "a", session="n" * 124, caller=user)
    assert longer.refusal == "name_too_long"
    assert "129 characters, allowed are 128" in longer.detail

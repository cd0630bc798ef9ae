"""Named sessions: a place is kept while the application is away."""

from __future__ import annotations

from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import acknowledged_three_of_five, alone, named, pair

from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.limits import (
    SECOND_NS,
)
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.frames import (
    Subscribed,
)
from pubsubd_protocol.positions import Position


def test_a_named_session_goes_on_at_what_it_acknowledged() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    first = Subscriber(net, "b", session="s")
    publisher.fill(5)
    first.acknowledge("a", Position(net.nodes["a"].epoch, 3))
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


def test_a_name_refused_for_a_bad_pattern_may_come_back() -> None:
    net = alone()
    Subscriber(net, "a", session="s").cut()
    assert Subscriber(net, "a", "a.>.b", session="s").refusal == "invalid_topic"
    assert Subscriber(net, "a", "good", session="s").resumed


def test_kept_named_sessions_are_bounded() -> None:
    net = alone()
    for number in range(MAX_NAMED_SESSIONS):
        Subscriber(net, "a", session=f"s{number}").cut()
    assert Subscriber(net, "a", session="one more").refusal == "too_many_sessions"
    assert Subscriber(net, "a", session="s7").resumed
    assert Subscriber(net, "a").subscribed


def test_an_expired_name_is_dropped_if_its_application_stays_away() -> None:
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
    subscriber.acknowledge("a", Position(net.nodes["a"].epoch, 1))
    assert subscriber.refusal == "protocol"
    assert Subscriber(net, "a", session="s").resumed


def test_a_late_acknowledgement_reaches_the_producer_by_itself() -> None:
    net = pair()
    subscriber = Subscriber(net, "b", session="s")
    Publisher(net, "a").fill(3)
    net.advance(5)
    subscriber.acknowledge("a")
    net.advance(0.5)
    assert named(net, "a") == {"s": 3}


def test_a_returning_name_learns_of_streams_met_meanwhile() -> None:
    net = Net()
    net.start("b", peers=["a"])
    Subscriber(net, "b", session="s").cut()
    net.start("a")
    Publisher(net, "a").fill(2)
    net.advance(5)
    back = Subscriber(net, "b", session="s")
    assert back.of(Subscribed)[0].positions["a"].offset == 0
    assert back.of_node("a") == [0, 1]


def test_an_acknowledgement_counts_when_its_stream_is_met_again() -> None:
    net = acknowledged_three_of_five()
    life = net.nodes["a"].epoch
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
        subscriber.acknowledge(name, Position(net.nodes[name].epoch, 1))
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
    assert net.nodes["b"].peers.replicas["a"].log.view.oldest == 2
    assert also.of_node("a") == ["unseen"]


def test_an_absent_name_expires_once_like_any_session() -> None:
    net = pair(ring=5)
    publisher = Publisher(net, "a")
    first = Subscriber(net, "b", session="s")
    publisher.fill(2)
    first.acknowledge("a")
    first.cut()
    publisher.fill(200)
    net.nodes["b"].peers.replicas["a"].log.max_messages = 5
    publisher.publish()
    second = Subscriber(net, "b", session="s")
    assert second.of_node("a") == ["overwritten"]
    second.acknowledge("a")
    second.cut()
    publisher.publish()
    assert Subscriber(net, "b", session="s").of_node("a") == [203]


def test_each_user_has_names_of_his_own() -> None:
    """Otherwise a session under another user's name would read on in the place of that one while it is away."""
    net = Net()
    a = net.start("a")
    users = {uid: Remote(f"client of {uid}", uid=uid, gid=uid) for uid in (0, 1001, 1002)}
    owner = Subscriber(net, "a", session="projector", remote=users[1001])
    owner.cut()
    Publisher(net, "a").fill(3)
    stranger = Subscriber(net, "a", session="projector", remote=users[1002])
    own = Subscriber(net, "a", session="projector", remote=users[0])
    assert (stranger.resumed, own.resumed) == (False, False)
    again = Subscriber(net, "a", session="projector", remote=users[1001])
    assert again.resumed
    assert again.of_node("a") == [0, 1, 2]
    names = {name for name, _ in a.sessions.all_named()}
    assert names == {"projector", "1001:projector", "1002:projector"}


def test_a_name_too_long_with_its_user_is_refused_with_figures() -> None:
    net = Net()
    net.start("a")
    user = Remote("a user", uid=1001, gid=1001)
    assert Subscriber(net, "a", session="n" * 123, remote=user).subscribed
    longer = Subscriber(net, "a", session="n" * 124, remote=user)
    assert longer.refusal == "name_too_long"
    assert "129 characters, allowed are 128" in longer.detail

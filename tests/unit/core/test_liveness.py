"""Time and silence on the links of a node: deadlines, heartbeats, greetings, clean-up."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber, query
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import CLIENT_PATIENCE, SECOND_NS, Limits
from pubsubd_broker.core.links.health import ProducerHealth as Losses
from pubsubd_broker.core.status import not_ready
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import MAX_CONTROL_BYTES, decode, encode
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Health,
    Heartbeat,
    Hello,
    Receipt,
    Rejected,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.positions import Position

TIMEOUT_S = 6
HEARTBEAT_S = 2
HANDSHAKE_S = Limits().handshake_ns / SECOND_NS


def pair() -> Net:
    net = Net()
    net.start("a")
    net.start("b", peers=["a"])
    net.run()
    return net


# Silence.


def test_a_silent_link_is_cut_by_both_sides_in_time() -> None:
    net = pair()
    link = net.link("b", "a")
    for end in link.ends:
        link.swallow(end)
    link.open = False  # neither hears of an end either
    net.advance(TIMEOUT_S - 0.5)
    assert "a" in net.nodes["b"].peers.producers
    assert "b" in net.nodes["a"].peers.consumers
    net.advance(1.5)
    assert net.said("a", "peer.silent")
    assert net.said("b", "peer.silent")


@pytest.mark.parametrize("mute", ["a", "b"])
def test_a_one_way_cut_ends_for_both_and_is_no_endless_half_life(mute: str) -> None:
    net = pair()
    link = net.link("b", "a")
    link.swallow(link.ends[0] if mute == "b" else link.ends[1])
    net.advance(TIMEOUT_S + 1)
    assert link not in net.pipes
    hearing = "a" if mute == "b" else "b"
    assert net.said(hearing, "peer.silent")
    net.advance(5)
    assert net.linked("b", "a")


def test_only_received_bytes_prove_that_a_peer_lives() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    link = net.link("b", "a")
    link.swallow(link.ends[0])
    link.swallow(link.ends[1])
    for _ in range(2 * (TIMEOUT_S + 1)):
        publisher.publish()
        net.advance(0.5)
    assert net.said("a", "peer.silent")
    assert net.said("b", "peer.silent")


def test_a_link_cut_for_silence_is_made_anew_without_a_loss() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    link = net.link("b", "a")
    link.swallow(link.ends[1])
    publisher.fill(3)
    net.advance(TIMEOUT_S + 3)
    assert subscriber.of_node("a") == [0, 1, 2]


def test_the_lag_shows_meanwhile() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    link = net.link("b", "a")
    link.swallow(link.ends[0])
    publisher.fill(3)
    end = net.nodes["a"].peers.consumers["b"]
    assert net.nodes["a"].stream.next - end.acknowledged == 3


# Heartbeats.


class IdlePeer(RawClient):
    """A consumer that never says anything after it attached."""

    def __init__(self, net: Net) -> None:
        super().__init__(net, "a", "peer", peer="c")
        self.send(Attach(Remembered(waiting=False)))


def test_an_idle_producer_says_that_it_lives_and_how_far_it_is() -> None:
    net = pair()
    Publisher(net, "a").fill(3)
    peer = IdlePeer(net)
    net.advance(TIMEOUT_S - 1)
    beats = peer.of(Heartbeat)
    assert len(beats) == 2
    assert {beat.next for beat in beats} == {3}


def test_a_busy_producer_sends_no_heartbeats() -> None:
    net = pair()
    publisher, peer = Publisher(net, "a"), IdlePeer(net)
    for _ in range(10):
        publisher.publish()
        net.advance(0.5)
    assert peer.of(Heartbeat) == []


def test_heartbeats_alone_keep_an_idle_link() -> None:
    net = pair()
    link = net.link("b", "a")
    net.advance(60)
    assert net.link("b", "a") is link
    assert net.said("a", "peer.silent") == net.said("b", "peer.silent") == []


def test_an_idle_link_says_little() -> None:
    net = pair()
    net.advance(1)
    link = net.link("b", "a")
    before = dict(link.sent)
    net.advance(60)
    for end in link.ends:
        assert link.sent[end] - before[end] < 60 / HEARTBEAT_S * 32


def test_a_client_that_never_beats_is_never_cut_for_silence() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "a"), Publisher(net, "a")
    net.advance(60)
    assert not subscriber.lost
    assert not publisher.lost
    publisher.publish()
    assert subscriber.of_node("a") == [0]


def test_a_broker_is_never_silent_for_longer_than_it_told_clients() -> None:
    net = pair()
    for client in (Subscriber(net, "a"), Publisher(net, "a")):
        assert client.welcome.heartbeat_ms == HEARTBEAT_S * 1000
        assert client.welcome.silent_ms == TIMEOUT_S * 1000
        before = len(client.of(Heartbeat))
        net.advance(10 * HEARTBEAT_S)
        assert len(client.of(Heartbeat)) - before >= 8


@pytest.mark.parametrize("kind", [Subscriber, Publisher])
def test_a_client_that_beat_and_fell_silent_is_cut_in_time(
    kind: type[Subscriber] | type[Publisher],
) -> None:
    net = pair()
    client = kind(net, "a")
    for _ in range(20):
        client.send(Heartbeat())
        net.advance(CLIENT_PATIENCE * TIMEOUT_S - 1)
        assert not client.lost
    net.advance(2)
    assert client.lost
    assert net.said("a", "peer.silent")


def test_the_name_of_a_session_that_fell_silent_is_free_again() -> None:
    net = pair()
    hangs = Subscriber(net, "a", session="n")
    hangs.send(Heartbeat())
    refused = Subscriber(net, "a", session="n")
    assert refused.refusal == "name_in_use"
    net.advance(CLIENT_PATIENCE * TIMEOUT_S + 1)
    assert Subscriber(net, "a", session="n").subscribed


# Health.


def test_a_session_is_told_of_lost_producers_and_their_return() -> None:
    net = pair()
    session, other = Subscriber(net, "b"), Subscriber(net, "b")
    link = net.link("b", "a")
    for end in link.ends:
        link.swallow(end)
    net.unreachable.add(("b", "a"))
    net.advance(TIMEOUT_S + 1)
    for told in (session, other):
        (health,) = told.of(Health)
        assert health.lost.keys() == {"a"}
        assert health.lost["a"] < 1000
    late = Subscriber(net, "b")
    net.advance(3)
    assert late.of(Subscribed)[0].lost["a"] < 1500
    assert late.of(Health) == []
    net.unreachable.clear()
    net.advance(10)
    assert [told.of(Health)[-1].lost for told in (session, other, late)] == [{}, {}, {}]


def test_health_is_told_as_it_stands_when_the_session_reads() -> None:
    net = pair()
    session = Subscriber(net, "b")
    session.stop_reading()
    for _ in range(50):
        net.link("b", "a").cut()
        net.advance(6)
    session.read_on()
    net.run()
    assert session.of(Health) == []


def test_a_producer_that_the_broker_has_not_met_counts_as_unheard() -> None:
    net = Net()
    net.start("b", peers=["a"])
    session = Subscriber(net, "b", positions={"a": Position(net.new_epoch(), 3)})
    assert session.of(Subscribed)[0].lost.keys() == {"a"}
    net.start("a")
    net.advance(10)
    assert session.of(Health)[-1].lost == {}


def test_no_more_lost_producers_are_told_than_a_frame_holds() -> None:
    health = Losses(0)
    for number in range(MAX_STREAMS - 1):
        health.lost(f"met-{number}", 0)
    told = health.report({f"unmet-{number}" for number in range(MAX_STREAMS)}, SECOND_NS)
    assert len(told) == MAX_STREAMS
    assert sum(node.startswith("met-") for node in told) == MAX_STREAMS - 1
    assert decode(memoryview(encode(Health(told)))) == Health(told)


# Greetings.


@pytest.mark.parametrize("peers", [True, False])
def test_a_client_that_never_speaks_is_closed(peers: bool) -> None:
    net = pair()
    client = RawClient(net, "a", greets=False, peers=peers)
    net.advance(HANDSHAKE_S - 0.5)
    assert client.refusal is None
    net.advance(1.5)
    assert client.refusal == "handshake_timeout"
    assert client.lost
    assert client.connection not in net.nodes["a"].connections


def test_a_session_that_never_subscribes_is_closed() -> None:
    net = pair()
    session, publisher = RawClient(net, "a", "session"), RawClient(net, "a", "publisher")
    net.advance(HANDSHAKE_S + 1.5)
    assert session.refusal == "handshake_timeout"
    assert not publisher.lost


def test_a_mute_peer_is_given_up_and_dialled_again() -> None:
    net = Net()
    net.start("a")
    net.mute.add("a")
    b = net.start("b", peers=["a"])
    net.advance(HANDSHAKE_S + 1)
    (target,) = b.targets
    assert target.attempts >= 1
    assert "no greeting" in str(target.error)
    assert not_ready(b) != []
    net.mute.clear()
    net.advance(2 * HANDSHAKE_S)
    assert net.linked("b", "a")
    assert not_ready(b) == []


def test_half_a_greeting_is_none() -> None:
    net = pair()
    client = RawClient(net, "a", greets=False)
    client.send_bytes(b"\x00\x00\x00\x20half")
    net.advance(HANDSHAKE_S + 1)
    assert client.refusal == "handshake_timeout"


def test_a_frame_before_the_greeting_is_a_violation() -> None:
    net = pair()
    client = RawClient(net, "a", greets=False)
    client.send(Heartbeat())
    assert client.refusal == "protocol"


def test_a_long_frame_before_the_greeting_is_a_violation() -> None:
    net = pair()
    client = RawClient(net, "a", greets=False)
    client.send_bytes((100_000).to_bytes(4) + b"x" * 10)
    assert client.refusal == "protocol"
    assert list(net.nodes["a"].events.counters.protocol_errors) == ["frame_length"]


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello("http/1.1", 1, 1, "control", "", bytes(16)), "protocol"),
        (Hello("pubsubd", 2, 9, "control", "", bytes(16)), "version"),
        (Hello("pubsubd", 0, 0, "control", "", bytes(16)), "version"),
        (Hello("pubsubd", 1, 1, "peer", "c", bytes(16)), "role"),
        (Hello("pubsubd", 1, 9, "control", "", bytes(16)), None),
        (Hello("pubsubd", 0, 1, "control", "", bytes(16)), None),
    ],
)
def test_a_greeting_is_checked_and_a_refusal_says_why(hello: Hello, code: str | None) -> None:
    net = pair()
    client = RawClient(net, "a", greets=False, peers=False)
    client.send(hello)
    assert client.refusal == code
    assert client.lost == (code is not None)


@pytest.mark.parametrize("role", ["publisher", "session", "control"])
def test_clients_are_not_served_where_peers_are(role: str) -> None:
    assert RawClient(pair(), "a", role, peers=True).refusal == "role"


def test_a_second_greeting_is_a_violation() -> None:
    client = RawClient(pair(), "a", "session")
    client.send(Hello("pubsubd", 1, 1, "session", "", bytes(16)))
    assert client.refusal == "protocol"


def test_a_producer_of_another_version_is_refused_and_dialled_again() -> None:
    net = Net()
    net.start("a")
    b = net.start("b", peers=["a"])
    net.mute.add("a")
    net.run()
    (connection,) = net.nodes["a"].connections
    net.mute.clear()
    pipe = net.pipes[0]
    pipe.swallows.clear()
    connection.send(Welcome(7, "a", net.nodes["a"].epoch, 1, 1, 1))
    net.run()
    assert b.events.counters.protocol_errors == {"greeting": 1}
    assert "version 7" in str(b.targets[0].error)
    net.advance(5)
    assert net.linked("b", "a")


# Clocks.


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wall_clock_that_steps_changes_nothing(hours: int) -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    link = net.link("b", "a")
    publisher.publish()
    net.step_wall_clock(3600 * hours)
    net.advance(1)
    publisher.publish()
    net.advance(30)
    assert net.link("b", "a") is link
    assert subscriber.of_node("a") == [0, 1]
    assert len(net.nodes["a"].registry) == 1


# Dialling.


def test_an_absent_peer_is_dialled_ever_more_slowly_and_told_once() -> None:
    net = Net()
    b = net.start("b", peers=["a"])
    net.advance(60)
    (target,) = b.targets
    assert 12 <= target.attempts <= 25
    assert len(net.said("b", "peer.unreachable")) == 1
    assert not_ready(b) == [
        "peer a:1 has not been reached yet: no answer",
    ]
    net.start("a")
    net.advance(6)
    assert not_ready(b) == []
    assert target.attempts == 0


def test_an_end_before_the_greeting_is_reported_once_with_a_guess() -> None:
    net = Net()
    b = net.start("b", peers=["a"])
    net.advance(1)
    net.mute.add("a")
    net.start("a")
    for _ in range(3):
        while not net.linked("b", "a"):
            net.advance(0.25)
        net.link("b", "a").cut()
    unanswered, closed = net.said("b", "peer.unreachable")
    assert unanswered["error"] == "no answer"
    assert "it may ask for TLS" in str(closed["error"])
    assert not_ready(b) == [f"peer a:1 has not been reached yet: {closed['error']}"]


def test_a_lost_link_is_not_reported_as_unreachable() -> None:
    net = Net()
    net.start("a")
    net.start("b", peers=["a"])
    net.run()
    net.link("b", "a").cut()
    assert len(net.said("b", "peer.lost")) == 1
    assert net.said("b", "peer.unreachable") == []


def test_an_address_is_dialled_once_at_a_time() -> None:
    net = Net()
    b = net.start("b", peers=["a"])
    (target,) = b.due(net.now)
    assert b.due(net.now) == []
    b.dial_failed(target, "no", net.now, 0.5)
    assert b.due(net.now) == []
    net.advance(0.5)


# Clean-up.


def test_expired_cursors_of_absent_consumers_are_removed() -> None:
    net = Net()
    a = net.start("a", ring_messages=5, cursor_ttl_ns=10 * SECOND_NS)
    publisher = Publisher(net, "a")
    for number in range(50):
        peer = RawClient(net, "a", "peer", peer=f"c{number}")
        peer.send(Attach(Remembered(waiting=False)))
        peer.send(Ack("a", Position(a.epoch, a.stream.next)))
        peer.cut()
        publisher.publish()
        net.advance(1)
    assert len(a.registry) <= 5 + 10 + 1
    assert a.registry.removed >= 34
    assert len(net.said("a", "cursor.removed")) == a.registry.removed


def test_only_so_many_consumers_are_registered() -> None:
    net = Net()
    a = net.start("a")
    for number in range(1024):
        a.registry.acknowledge(f"c{number}", Position(a.epoch, 0), {}, 0)
    assert RawClient(net, "a", "peer", peer="one-more").refusal == "too_many_consumers"
    assert RawClient(net, "a", "peer", peer="c7").refusal is None


def test_only_so_many_connections_are_open_at_once() -> None:
    net = Net()
    a = net.start("a")
    for _ in range(4096):
        a.accept(net.remote("stranger"), net.now, peers=False)
    for role in ("publisher", "session"):
        assert RawClient(net, "a", role).refusal == "too_many_connections"
    assert RawClient(net, "a", "peer", peer="b").refusal == "too_many_connections"
    # An operator that looks for the reason can still ask.
    assert "consumers" in query(net, "a", "status")


def test_far_beyond_the_limit_connections_are_closed_unheard() -> None:
    net = Net()
    a = net.start("a")
    for _ in range(4096 + 64):
        a.accept(net.remote("stranger"), net.now, peers=False)
    client = RawClient(net, "a")
    assert (client.frames, client.lost) == ([], True)


def test_consumers_that_have_not_acknowledged_yet_count_for_the_limit() -> None:
    net = Net()
    a = net.start("a")
    for number in range(1022):
        a.registry.acknowledge(f"c{number}", Position(a.epoch, 0), {}, 0)
    both = [RawClient(net, "a", "peer", peer=name) for name in ("new", "newer", "newest")]
    assert [consumer.refusal for consumer in both] == [None, None, None]
    for consumer in both:
        consumer.send(Attach(Remembered(waiting=False)))
    assert [consumer.refusal for consumer in both] == [None, None, "too_many_consumers"]
    for consumer in both:
        if not consumer.lost:
            consumer.send(Ack("a", Position(a.epoch, 0)))
    assert len(a.registry) == 1024


def test_an_unfinished_frame_goes_with_its_connection() -> None:
    net = Net()
    net.start("a", max_frame=2**20)
    client = RawClient(net, "a", "publisher")
    client.send_bytes((2**20).to_bytes(4) + bytes(2**19))
    connection = client.connection
    client.cut()
    assert connection.reader.unfinished == 0
    assert len(connection.reader._buffer) == 0


def test_only_publishers_may_send_long_frames() -> None:
    for role, longest in (
        ("publisher", 16 * 2**20),
        ("session", MAX_CONTROL_BYTES),
        ("control", MAX_CONTROL_BYTES),
        ("peer", MAX_CONTROL_BYTES),
    ):
        net = Net()
        net.start("a")
        client = RawClient(net, "a", role, peer="b" if role == "peer" else "")
        client.send_bytes(longest.to_bytes(4))
        assert client.refusal is None
        client = RawClient(net, "a", role, peer="b" if role == "peer" else "")
        client.send_bytes((longest + 1).to_bytes(4))
        assert client.refusal == "protocol"


def test_a_producer_of_longer_frames_is_refused_with_both_figures() -> None:
    net = Net()
    net.start("a", max_frame=2**21)
    b = net.start("b", peers=["a"], max_frame=2**20)
    net.run()
    assert not net.linked("b", "a")
    said = str(b.targets[0].error)
    assert str(2**21) in said
    assert str(2**20) in said
    assert "--max-frame" in said


def test_a_publisher_is_told_what_the_ring_can_hold() -> None:
    net = Net()
    net.start("a", ring_messages=10, ring_bytes=10_000)
    welcome = RawClient(net, "a", "publisher").welcome
    assert welcome.max_batch == 10
    assert welcome.max_frame < 10_000
    publisher = Publisher(net, "a")
    spare = welcome.max_frame - len(encode(batch_of([("t", b"")], sequence=1)))
    assert isinstance(publisher.publish(bytes(spare)), Receipt)
    assert isinstance(publisher.publish(*[b""] * 10), Receipt)
    assert isinstance(publisher.publish(*[b""] * 11), Rejected)

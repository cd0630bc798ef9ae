"""A producer without a memory begins with what its peers still hold of its stream. Through whole nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from tests.unit.core.builders import E1, E2, E3, E4, entry, view
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber

from pubsubd_broker.core.links.peer_recovery import RecoveryEnd, _checked, _reach
from pubsubd_broker.core.status import not_ready
from pubsubd_protocol.attach import Earliest, Resume
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import CursorExpired, Fetch, Fetched, Frame, Receipt, Rejected
from pubsubd_protocol.positions import Epoch, Position, StreamView


def mesh(*names: str) -> Net:
    """A cluster in which each node reads from all others, and asks them for its stream after a restart."""
    net = Net()
    for name in names:
        peers = [peer for peer in names if peer != name]
        net.start(name, peers=peers, recover_from_peers=True)
    net.advance(5)
    return net


def test_a_first_start_asks_and_finds_nothing() -> None:
    net = mesh("a", "b")
    assert all(node.recovery is None for node in net.nodes.values())
    assert net.said("a", "stream.recalled") == [
        {"epoch": None, "lost": None, "oldest": 0, "next": 0}
    ]
    assert net.linked("a", "b")
    assert net.linked("b", "a")


def test_a_producer_recovers_from_its_peer_and_tells_a_possible_loss() -> None:
    net = mesh("a", "b")
    on_b = Subscriber(net, "b")
    first = net.nodes["a"].epoch
    publisher = Publisher(net, "a")
    publisher.fill(5)
    net.restart("a")
    net.advance(20)
    assert net.nodes["a"].stream.view.lineage == ((first, 5),)
    Publisher(net, "a").fill(2)
    net.advance(1)
    assert on_b.of_node("a") == [*range(5), "state_lost", *range(5, 7)]
    (notice,) = on_b.of(CursorExpired)
    assert (notice.missed, notice.view.next) == (None, 5)
    # A batch that is repeated for lack of an answer has its place already.
    again = Publisher(net, "a", life=publisher.life)
    assert again.batch(5, retry=True) == Receipt(5, first, 4)


def test_the_furthest_history_is_taken_and_readers_beyond_are_told() -> None:
    net = mesh("a", "b", "c")
    publisher = Publisher(net, "a")
    publisher.fill(5)
    net.advance(1)
    net.part("a", "b")
    publisher.fill(5)
    net.advance(1)
    on_c = Subscriber(net, "c", positions={"a": net.nodes["c"].peers.replicas["a"].registration})
    on_b = Subscriber(net, "b", positions={"a": net.nodes["b"].peers.replicas["a"].registration})
    net.heal("a", "b")
    net.part("a", "c")
    net.restart("a")
    net.advance(20)
    # The history of b: it held 5, while c, with 10, could not be reached.
    assert net.nodes["a"].stream.next == 5
    Publisher(net, "a").fill(7)
    net.heal("a", "c")
    net.advance(20)
    assert on_c.of_node("a") == ["ahead"]
    assert on_b.of_node("a") == ["state_lost", *range(5, 12)]


def test_recovery_takes_only_entries_behind_a_skipped_range() -> None:
    net = mesh("a", "b", "c")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    publisher.publish(to="c")
    publisher.fill(3)
    net.advance(1)
    net.stop("c")
    net.restart("a")
    net.advance(30)
    assert (net.nodes["a"].stream.view.oldest, net.nodes["a"].stream.next) == (4, 7)


@pytest.mark.parametrize("skipped", [False, True])
def test_a_retry_that_peers_cannot_speak_for_is_unknown(skipped: bool) -> None:
    """Peers hold entries, and not the last answer of each publisher. A batch gets no second place by that."""
    net = mesh("a", "b", "c")
    early, late = Publisher(net, "a"), Publisher(net, "a")
    early.fill(3)
    if skipped:
        late.publish(to="c")
    late.fill(3)
    net.advance(1)
    net.stop("c")
    before = net.nodes["a"].epoch
    net.restart("a")
    net.advance(30)
    again = Publisher(net, "a", life=early.life, spoke_to=before)
    answer = again.batch(3, retry=True)
    if skipped:
        assert isinstance(answer, Rejected)
        assert answer.code == "unknown"
    else:
        assert answer == Receipt(3, before, 2)
    # A batch that was never sent before has a place in any case.
    assert isinstance(again.batch(4), Receipt)


def test_more_than_one_answer_holds_is_asked_for_again_and_again() -> None:
    net = mesh("a", "b")
    publisher = Publisher(net, "a")
    publisher.fill(100, bytes(20_000))
    net.advance(1)
    net.restart("a")
    net.advance(20)
    assert net.nodes["a"].stream.view.oldest == 0
    assert net.nodes["a"].stream.next == 100


def test_no_client_is_served_before_all_peers_answered_or_time_is_up() -> None:
    net = mesh("a", "b", "c")
    Publisher(net, "a").fill(3)
    net.advance(1)
    net.stop("c")
    net.restart("a")
    net.advance(1)
    assert not_ready(net.nodes["a"])[0] == "asking peers for its own stream"
    client = RawClient(net, "a", "publisher")
    assert client.refusal == "recovering"
    net.advance(20)
    assert net.nodes["a"].stream.next == 3
    assert RawClient(net, "a", "publisher").refusal is None


@pytest.mark.parametrize("peer_holds", [3, 0])
def test_no_client_is_served_before_the_life_is_noted(peer_holds: int) -> None:
    net = mesh("a", "b")
    Publisher(net, "a").fill(peer_holds)
    net.advance(1)
    net.lives_wait = True
    net.restart("a")
    net.advance(60)
    a = net.nodes["a"]
    assert a.recovery is not None
    assert a.recovery.decided
    assert a.stream.next == peer_holds
    assert RawClient(net, "a", "publisher").refusal == "recovering"
    assert not net.linked("b", "a")
    net.begin_lives()
    net.advance(5)
    assert net.said("a", "stream.recalled")[-1]["next"] == peer_holds
    Publisher(net, "a").fill(1)
    assert a.stream.next == peer_holds + 1
    assert net.linked("b", "a")


def test_the_peer_that_is_being_read_may_go_away() -> None:
    net = mesh("a", "b", "c")
    Publisher(net, "a").fill(100, bytes(20_000))
    net.advance(1)
    net.mute.add("b")
    net.stop("b")
    net.restart("a")
    net.advance(30)
    assert net.nodes["a"].stream.next == 100


def test_a_stream_of_somebody_else_is_not_given_away() -> None:
    net = mesh("a", "b")
    Publisher(net, "a").fill(3)
    net.advance(1)
    stranger = RawClient(net, "b", "peer", peer="x")
    stranger.send(Fetch(0, Earliest(), 1000, "a"))
    assert "asked for the stream of a" in str(net.said("b", "protocol.violated"))


@pytest.mark.parametrize("peers", [[], ["a"]])
def test_one_without_peers_begins_at_once(peers: list[str]) -> None:
    net = Net()
    net.start("a", peers=peers, recover_from_peers=True)
    net.advance(20)
    assert net.nodes["a"].recovery is None
    assert Publisher(net, "a").last is not None


class Liar:
    """A peer by whose answers a node without a memory goes, and all that it says."""

    def __init__(self, oldest: int, following: int) -> None:
        self.net = Net()
        self.node = self.net.start("a", peers=["b"], recover_from_peers=True, ring_messages=10)
        connection = self.node.dialled(self.node.targets[0], self.net.remote("b"), self.net.now)
        assert self.node.recovery is not None
        self.end = RecoveryEnd(
            connection,
            self.node.targets[0],
            node="a",
            ring=(10, 2**20),
            max_frame=2**20,
            recovery=self.node.recovery,
        )
        self.view = StreamView(E1, (), oldest, following)
        self.says(Fetched(0, self.view, Resume(oldest), 0))
        self.asked = 0

    def says(self, frame: Frame) -> None:
        self.end.received(frame, self.net.now)

    def answers(self, *items: Entry) -> None:
        self.asked += 1
        self.says(Fetched(self.asked, self.view, Resume(0), len(items)))
        for item in items:
            self.says(item)


def test_no_more_is_held_of_a_recalled_stream_than_the_ring_takes() -> None:
    liar = Liar(0, 10**9)
    for first in range(0, 1000, 100):
        liar.answers(*(entry(offset) for offset in range(first, first + 100)))
        assert liar.end.held <= 10


def test_a_peer_that_says_it_has_more_and_gives_nothing_is_cut_off() -> None:
    liar = Liar(0, 5)
    liar.answers(entry(0))
    with pytest.raises(ProtocolError, match="nothing behind offset 1 of 5"):
        liar.answers()


def acknowledged_by_name(net: Net) -> Subscriber:
    """A named session of node a that has acknowledged 5 of its own node's messages, and was given 7."""
    named = Subscriber(net, "a", session="n")
    publisher = Publisher(net, "a")
    publisher.fill(5)
    net.advance(1)
    named.acknowledge("a")
    publisher.fill(2)
    net.advance(1)
    assert named.of_node("a") == [*range(7)]
    return named


def remember(net: Net, offset: int) -> None:
    """Node b remembers, of the named session of a, another place in the stream of a than it was told."""
    place = {"n": {"a": Position(net.nodes["a"].epoch, offset)}}
    net.nodes["b"].registry.acknowledge(
        "a", Position(net.nodes["b"].epoch, 0), {}, net.now.mono_ns, place
    )


def test_a_recovered_nodes_own_name_goes_on_where_it_acknowledged() -> None:
    net = mesh("a", "b")
    acknowledged_by_name(net)
    net.restart("a")
    net.advance(20)
    again = Subscriber(net, "a", session="n")
    Publisher(net, "a").fill(2)
    net.advance(5)
    assert again.resumed
    assert again.of_node("a") == [5, 6, "state_lost", 7, 8]


def test_repeated_recoveries_tell_a_name_once_of_a_possible_loss() -> None:
    net = mesh("a", "b", "c")
    named = acknowledged_by_name(net)
    named.acknowledge("a")
    net.advance(1)
    for _ in range(3):
        net.restart("a")
        net.advance(20)
    again = Subscriber(net, "a", session="n")
    Publisher(net, "a").fill(2)
    net.advance(5)
    assert again.of_node("a") == ["state_lost", 7, 8]


def test_a_name_that_stood_beyond_what_the_peers_hold_is_told_so() -> None:
    net = mesh("a", "b")
    acknowledged_by_name(net)
    remember(net, 9)
    net.restart("a")
    net.advance(20)
    again = Subscriber(net, "a", session="n")
    net.advance(5)
    assert net.nodes["a"].stream.next == 7
    assert again.of_node("a") == ["ahead"]


def test_the_furthest_place_that_peers_remember_of_a_name_counts() -> None:
    net = mesh("a", "b", "c")
    named = acknowledged_by_name(net)
    net.part("a", "b")
    named.acknowledge("a")
    net.advance(1)
    net.heal("a", "b")
    remember(net, 2)
    net.restart("a")
    net.advance(30)
    again = Subscriber(net, "a", session="n")
    Publisher(net, "a").fill(1)
    net.advance(5)
    assert again.of_node("a") == ["state_lost", 7], "from 2 on it would get more"


def test_a_name_is_told_that_a_stream_without_a_copy_is_lost() -> None:
    net = mesh("a", "b")
    acknowledged_by_name(net)
    net.part("a", "b")
    net.restart("a")
    net.advance(30)
    net.heal("a", "b")
    net.advance(20)
    again = Subscriber(net, "a", session="n")
    net.advance(5)
    assert again.of_node("a") == ["state_lost"]


def test_a_node_that_would_not_ask_its_peers_does_not_tell_them_either() -> None:
    net = Net()
    net.start("a", peers=["b"])
    net.start("b", peers=["a"])
    net.advance(5)
    acknowledged_by_name(net)
    registered = net.nodes["b"].registry.get("a")
    assert registered is not None
    assert registered.elsewhere == {}


def holds(held: StreamView, *before: Epoch) -> RecoveryEnd:
    """A peer that holds `held`, and met `before` before, which its history does not continue."""
    epochs = frozenset((*before, *(epoch for epoch, _ in held.lineage)))
    return cast(RecoveryEnd, SimpleNamespace(view=held, epochs=epochs))


@pytest.mark.interpreted
def test_a_peer_that_met_a_later_life_wins_over_a_longer_history() -> None:
    more, later = ends = [holds(view(0, 50, E1)), holds(view(0, 9, E2), E1)]
    assert max(ends, key=lambda end: _reach(end, ends)) is later
    ends = [more, holds(view(0, 9, E2))]
    assert max(ends, key=lambda end: _reach(end, ends)) is more


def test_peers_tell_which_lives_they_met_before() -> None:
    net = mesh("a", "b", "c")
    first = net.nodes["a"].epoch
    Publisher(net, "a").fill(5)
    net.advance(1)
    # A life that finds no peer to ask begins anew; `b` and `c` hear of it one after the other.
    net.part("a", "b")
    net.part("a", "c")
    net.restart("a")
    net.advance(60)
    assert net.nodes["a"].stream.next == 0
    net.heal("a", "c")
    net.advance(10)
    Publisher(net, "a").fill(2)
    net.advance(1)
    second = net.nodes["a"].epoch
    assert net.nodes["c"].peers.replicas["a"].other_epochs == (first,)
    net.heal("a", "b")
    net.restart("a", recover_from_peers=True)
    net.advance(60)
    assert net.nodes["a"].stream.view.reach(second) == 2
    assert not net.said("a", "protocol.violated")


@pytest.mark.parametrize(
    "lives", [((E2, 5), (E1, 6)), ((E2, 5), (E2, 5)), ((E3, 5),)], ids=["back", "twice", "itself"]
)
def test_lives_that_no_node_can_have_had_are_a_violation(
    lives: tuple[tuple[Epoch, int], ...],
) -> None:
    with pytest.raises(ProtocolError, match="lives"):
        _checked(view(0, 9, E3, *lives))


@pytest.mark.interpreted
def test_the_later_history_counts_though_empty_lives_leave_no_lineage() -> None:
    """A peer that came further met an idle life; what the other one holds continues the same history."""
    views = view(0, 10, E2, (E1, 10)), view(0, 9, E4, (E3, 8), (E1, 8))
    older, later = ends = [holds(each) for each in views]
    assert max(ends, key=lambda end: _reach(end, ends)) is later
    assert older.view is not None


@pytest.mark.interpreted
def test_a_history_with_the_last_known_life_outweighs_any_other() -> None:
    """E3 is the last life that left a witness here: who knows it has met it, however little came of it."""
    views = view(0, 50, E2, (E1, 10)), view(0, 9, E3)
    _, knowing = ends = [holds(each) for each in views]
    assert max(ends, key=lambda end: _reach(end, ends)) is not knowing
    assert max(ends, key=lambda end: _reach(end, ends, E3)) is knowing


def three_ahead_of_its_peer() -> Net:
    """`a` leaves witnesses, and has accepted 8 messages. Its peer `b` was parted after 5."""
    net = mesh("a", "b")
    net.witnessed = True
    Publisher(net, "a").fill(5)
    net.advance(1)
    net.part("a", "b")
    Publisher(net, "a").fill(3)
    return net


def test_the_last_lifes_count_tells_what_a_recalled_end_lacks() -> None:
    net = three_ahead_of_its_peer()
    net.advance(1)
    net.restart("a")
    net.heal("a", "b")
    net.advance(20)
    assert net.said("a", "stream.recalled")[-1]["lost"] == 3
    # It is counted from there on: what was lost once is not lost again.
    net.restart("a")
    net.advance(20)
    assert net.said("a", "stream.recalled")[-1]["lost"] == 0


def test_a_life_that_ends_while_it_asks_keeps_the_one_before() -> None:
    net = three_ahead_of_its_peer()
    net.restart("a")
    assert net.nodes["a"].recovery is not None
    net.restart("a")
    net.heal("a", "b")
    net.advance(20)
    assert net.said("a", "stream.recalled")[-1]["lost"] == 3

"""Names that consumer and producer have both forgotten, and a third node remembers. Through whole nodes."""

from __future__ import annotations

from typing import Any

from tests.unit.core.net import Net, Publisher, Subscriber

from pubsubd_protocol.frames import CursorExpired


def read_by_name(**options: Any) -> Net:
    """Node c has a named session that has read 5 messages of a and 2 of b, and acknowledged them."""
    net = Net()
    for name in ("a", "b", "c"):
        peers = [peer for peer in ("a", "b", "c") if peer != name]
        net.start(name, peers=peers, **options)
    net.advance(5)
    reader = Subscriber(net, "c", session="n")
    Publisher(net, "a").fill(5)
    Publisher(net, "b").fill(2)
    Publisher(net, "c").fill(1)
    net.advance(1)
    reader.acknowledge("c")
    reader.acknowledge("a")
    reader.acknowledge("b")
    net.advance(1)
    return net


def both_forget(net: Net) -> None:
    """Nodes a and c crash; a has published 3 messages in its new life before they meet again."""
    net.stop("c")
    net.restart("a")
    net.advance(20)
    Publisher(net, "a").fill(3)
    net.advance(1)


def test_a_name_is_told_the_loss_that_only_a_third_node_can_know_of() -> None:
    net = read_by_name()
    both_forget(net)
    net.restart("c")
    net.advance(5)
    reader = Subscriber(net, "c", session="n")
    net.advance(5)
    assert reader.resumed
    assert reader.of_node("a")[-1] == "state_lost"
    assert reader.of_node("b") == []
    Publisher(net, "a").fill(1)
    net.advance(1)
    assert reader.of_node("a")[-1] == 3


def reading_before_b_tells() -> tuple[Net, Subscriber]:
    """Producer and broker have forgotten the name, and its reader is back at `c`, which cannot reach `b`."""
    net = read_by_name()
    both_forget(net)
    net.unreachable |= {("b", "c"), ("c", "b")}
    net.restart("c")
    reader = Subscriber(net, "c", session="n")
    net.advance(5)
    return net, reader


def test_a_loss_learned_of_while_reading_is_told_once_in_place() -> None:
    net, reader = reading_before_b_tells()
    assert reader.of_node("a") == []
    net.heal("c", "b")
    net.advance(20)
    Publisher(net, "a").fill(1)
    net.advance(1)
    assert reader.of_node("a") == ["state_lost", 3]
    reader.acknowledge("a", noticed=True)
    reader.cut()
    again = Subscriber(net, "c", session="n")
    assert again.of_node("a") == []


def test_an_ack_under_way_does_not_cover_a_loss_in_a_peers_stream() -> None:
    net, reader = reading_before_b_tells()
    net.heal("c", "b")
    net.advance(20)
    reader.acknowledge("a")
    reader.cut()
    again = Subscriber(net, "c", session="n")
    assert again.of_node("a") == ["state_lost"]


def test_a_name_goes_on_at_the_place_that_a_third_node_remembers() -> None:
    net = read_by_name(recover_from_peers=True)
    net.stop("c")
    net.restart("a")
    net.advance(20)
    Publisher(net, "a").fill(3)
    net.advance(1)
    net.restart("c")
    net.advance(20)
    reader = Subscriber(net, "c", session="n")
    net.advance(5)
    assert reader.resumed
    assert reader.of_node("a") == ["state_lost", 5, 6, 7], (
        "more may be lost at the end of the first life"
    )


def test_a_recovering_consumer_knows_all_places_before_it_serves() -> None:
    net = read_by_name(recover_from_peers=True)
    net.part("a", "b")
    both_forget(net)
    net.restart("c")
    net.advance(20)
    # No peer holds anything of a that its new life could go on with: b could not be reached.
    reader = Subscriber(net, "c", session="n")
    net.advance(5)
    assert reader.of_node("a")[-1] == "state_lost"
    # The broker knows the life of its own stream that ended, and not whether that had accepted more.
    notices = [frame for frame in reader.of(CursorExpired) if frame.node == "c"]
    assert [notice.view.losses != () for notice in notices] == [True]
    assert reader.of_node("c") == ["state_lost"]
    assert "state_lost" not in reader.of_node("b")


def test_neither_a_new_node_nor_a_new_name_is_a_reason_for_an_alarm() -> None:
    net = read_by_name()
    net.stop("c")
    net.start("d")
    Publisher(net, "d").fill(2)
    net.start("c", peers=["a", "b", "d"])
    net.advance(5)
    known, new = Subscriber(net, "c", session="n"), Subscriber(net, "c", session="m")
    net.advance(5)
    for node in ("a", "b", "d"):
        assert "state_lost" not in known.of_node(node)
        assert new.of_node(node) == []


def test_a_producers_word_on_its_own_stream_outweighs_others_memory() -> None:
    net = read_by_name()
    net.part("c", "b")
    net.advance(1)
    net.restart("c")
    net.advance(5)
    net.heal("c", "b")
    net.advance(20)
    again = Subscriber(net, "c", session="n")
    Publisher(net, "a").fill(1)
    net.advance(1)
    assert again.of_node("a") == [5]


def test_places_of_names_that_are_gone_are_forgotten_by_third_nodes_too() -> None:
    net = read_by_name()
    registered = net.nodes["b"].registry.get("c")
    assert registered is not None
    assert registered.places["n"]["a"].offset == 5
    node = net.nodes["c"]
    session = node.sessions.named("n")
    assert session is not None
    session.close()
    del node.sessions._named["n"]
    node.sessions.names_changed(session, net.now)
    net.advance(1)
    assert "n" not in registered.places

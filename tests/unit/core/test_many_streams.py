"""A session knows at most as many streams as a frame takes, however many nodes came and went since its position was stored."""

from __future__ import annotations

import pytest
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.positions import Position


def gone(net: Net, count: int) -> dict[str, Position]:
    """Places in the streams of nodes that no longer exist."""
    return {f"gone-{n}": Position(net.new_epoch(), n) for n in range(count)}


def reader(net: Net, disk: Disk | None = None) -> None:
    """`a`, which reads from `b`, and has not met `c` yet."""
    net.start("b")
    net.start("a", peers=["b", "c"], disk=disk)
    net.run()


@pytest.mark.parametrize("name", [None, "n"])
def test_a_full_position_makes_room_for_streams_that_are_there(
    name: str | None,
) -> None:
    net = Net()
    reader(net)
    subscriber = Subscriber(net, "a", positions=gone(net, MAX_STREAMS), session=name)
    assert subscriber.subscribed
    (session,) = net.nodes["a"].sessions.list()
    assert len(session.positions) == len(session.kept) == MAX_STREAMS
    # The ones that were met longest ago make room.
    assert list(session.positions)[:1] == ["gone-2"]
    assert {"a", "b"} < session.positions.keys()
    assert net.said("a", "session.places_forgotten") == [
        {"session": name, "nodes": 2, "limit": MAX_STREAMS}
    ]
    net.start("c")
    net.advance(6)
    assert {"a", "b", "c"} < session.positions.keys()
    assert len(session.positions) == MAX_STREAMS
    subscriber.change("t")
    assert subscriber.filter_set is not None
    assert len(subscriber.filter_set) == MAX_STREAMS


def test_a_place_in_a_stream_that_is_met_is_never_forgotten() -> None:
    net = Net()
    reader(net)
    known = {"b": Position(net.nodes["b"].epoch, 0)}
    Publisher(net, "b").fill(3)
    subscriber = Subscriber(net, "a", positions=known | gone(net, MAX_STREAMS - 1), session="n")
    assert subscriber.of_node("b") == [0, 1, 2]
    (session,) = net.nodes["a"].sessions.list()
    assert session.kept["b"].offset == 0


def test_a_stream_with_a_forgotten_place_is_given_whole_or_told() -> None:
    net, disk = Net(), Disk(Fsync.ALWAYS)
    reader(net)
    net.start("c", disk=disk)
    Publisher(net, "c").send(*(batch_of([("t", b"")], sequence=n) for n in (1, 2, 3)))
    net.write("c")
    place = {"c": Position(net.nodes["c"].epoch, 3)}
    net.stop("c")
    subscriber = Subscriber(
        net, "a", positions=place | gone(net, MAX_STREAMS - 1), born=net.nodes["a"].epoch
    )
    del subscriber.positions["c"]
    net.start("c", disk=disk)
    net.advance(6)
    assert subscriber.of_node("c") == ["told 0", 0, 1, 2]


def test_a_returning_name_keeps_no_more_streams_than_the_bound() -> None:
    net, disk = Net(), Disk(Fsync.INTERVAL)
    reader(net, disk)
    Subscriber(net, "a", positions=gone(net, MAX_STREAMS), session="n").cut()
    others = {f"other-{n}": Position(net.new_epoch(), n) for n in range(MAX_STREAMS)}
    back = Subscriber(net, "a", positions=others, session="n")
    assert back.subscribed
    (session,) = net.nodes["a"].sessions.list()
    assert len(session.kept) == MAX_STREAMS
    net.advance(1)
    net.write("a")
    net.restart("a")
    net.advance(6)
    (session,) = net.nodes["a"].sessions.list()
    assert len(session.kept) == MAX_STREAMS

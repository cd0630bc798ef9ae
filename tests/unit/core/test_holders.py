"""Holders of a name: a session that is back over another connection, or another session since."""

from __future__ import annotations

import pytest
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber
from tests.unit.core.nets import alone

from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_protocol.frames import Ack, Subscribe

MINE = b"m" * 16
OTHERS = b"o" * 16


def held_since(net: Net, other_id: bytes | None = OTHERS) -> tuple[Subscriber, Subscriber]:
    """A session that has received five messages and acknowledged none, and the other one that has its name now.

    The other one has read and acknowledged seven.
    """
    publisher = Publisher(net, "a")
    first = Subscriber(net, "a", session="s", session_id=MINE)
    publisher.fill(5)
    first.cut()
    other = Subscriber(net, "a", session="s", session_id=other_id)
    publisher.fill(2)
    assert other.of_node("a") == list(range(7))
    other.acknowledge("a")
    return first, other


def stop_cleanly(net: Net, disk: Disk) -> None:
    """`a` writes what its next life needs, and ends."""
    keeper = net.nodes["a"].keeper
    work = keeper.end(net.now) if keeper is not None else None
    assert work is not None
    disk.perform(work)
    net.stop("a")


def back_again() -> tuple[Net, Publisher, Subscriber, Subscriber]:
    """A session that has read 3 messages, over its first connection, and over another one while that is open."""
    net = alone()
    publisher, first = Publisher(net, "a"), Subscriber(net, "a", session="s", session_id=MINE)
    publisher.fill(3)
    return net, publisher, first, first.again()


def test_a_returning_session_takes_its_name_from_its_old_connection() -> None:
    net, publisher, first, second = back_again()
    assert (first.refusal, second.refusal) == ("replaced", None)
    publisher.publish()
    assert second.of_node("a") == [3]
    # The end of the older connection is not the end of the session.
    first.cut()
    assert Subscriber(net, "a", session="s", session_id=OTHERS).refusal == "name_in_use"
    second.acknowledge("a")
    second.cut()
    assert Subscriber(net, "a", session="s", session_id=OTHERS).of_node("a") == []


def test_later_frames_of_the_older_connection_do_not_count() -> None:
    net, _, first, second = back_again()
    first.send(Ack("a", first.positions["a"]))
    second.cut()
    assert net.nodes["a"].sessions.list()[0].kept == {"a": second.positions["a"]}
    assert second.refusal is None


def test_the_later_opened_connection_of_a_session_stays() -> None:
    """A broker that stood still may find the words of a dead connection last."""
    net = Net()
    net.start("a")
    first = Subscriber(net, "a", session="s", session_id=MINE)
    dead = RawClient(net, "a", "session")
    net.advance(1)
    second = first.again()
    dead.send(Subscribe((">",), "latest", first.positions, first.born, "s", True, None, MINE))
    assert (dead.refusal, second.refusal) == ("replaced", None)
    Publisher(net, "a").publish()
    assert second.of_node("a") == [0]


@pytest.mark.parametrize("other_id", [OTHERS, None])
def test_a_session_is_told_that_another_has_held_its_name_since(other_id: bytes | None) -> None:
    net = Net()
    net.start("a")
    first, other = held_since(net, other_id)
    assert first.again().refusal == "name_lost"
    other.cut()
    assert first.again().refusal == "name_lost"
    anew = Subscriber(net, "a", session="s", session_id=b"n" * 16)
    assert (anew.of_node("a"), anew.positions["a"].offset) == ([], 7)


@pytest.mark.parametrize("fsync", [Fsync.ALWAYS, Fsync.SNAPSHOT])
def test_it_is_told_so_by_the_next_life_of_its_broker(fsync: Fsync) -> None:
    net = Net()
    net.witnessed = True
    disk = Disk(fsync)
    net.start("a", disk=disk)
    net.run()
    first = Subscriber(net, "a", session="s", session_id=MINE)
    first.cut()
    other = Subscriber(net, "a", session="s", session_id=OTHERS)
    net.advance(1)
    if fsync is Fsync.ALWAYS:
        net.write("a")
    stop_cleanly(net, disk)
    net.restart("a")
    assert first.again().refusal == "name_lost"
    assert other.again().refusal is None


def test_a_name_taken_just_before_a_crash_is_kept_in_the_next_life() -> None:
    net = Net()
    net.start("a", disk=Disk(Fsync.ALWAYS))
    net.run()
    first = Subscriber(net, "a", session="s", session_id=MINE)
    net.advance(1)
    net.write("a")
    first.cut()
    other = Subscriber(net, "a", session="s", session_id=OTHERS)
    assert other.refusal is None
    net.restart("a")
    assert other.again().refusal is None


def held_once(net: Net) -> tuple[Subscriber, Disk]:
    """A session that had the name when `a` ended cleanly."""
    disk = Disk(Fsync.ALWAYS)
    net.witnessed = True
    net.start("a", disk=disk)
    net.run()
    first = Subscriber(net, "a", session="s", session_id=MINE)
    net.advance(1)
    net.write("a")
    first.cut()
    stop_cleanly(net, disk)
    return first, disk


def test_a_name_taken_without_the_journal_is_kept_when_it_is_back() -> None:
    """The journal's word on the name is older, though its end is clean and no message was published since."""
    net = Net()
    _, disk = held_once(net)
    net.start("a")
    other = Subscriber(net, "a", session="s", session_id=OTHERS)
    net.stop("a")
    net.start("a", disk=disk)
    assert other.again().refusal is None


def test_a_taken_name_is_kept_when_an_old_journal_is_put_back() -> None:
    net = Net()
    _, disk = held_once(net)
    copy = dict(disk.segments)
    net.restart("a")
    other = Subscriber(net, "a", session="s", session_id=OTHERS)
    net.advance(1)
    net.write("a")
    stop_cleanly(net, disk)
    disk.segments = copy
    net.restart("a")
    assert other.again().refusal is None


def test_a_session_goes_on_if_the_names_holder_is_unknown() -> None:
    net = Net()
    net.start("a")
    first, _ = held_since(net)
    net.restart("a")
    second = first.again()
    assert second.refusal is None
    assert Subscriber(net, "a", session="s", session_id=OTHERS).refusal == "name_in_use"

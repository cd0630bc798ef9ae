"""A producer comes back with a part of what it had accepted: every reader is told at that place, once. Through whole nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.journal.whole_end import RecoveredEnd
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.frames import CursorExpired
from pubsubd_protocol.positions import Position


class Ends(Disk):
    """A disk with the written entries, and a witness that counts `missing` more accepted messages; None: it cannot."""

    missing: int | None = None

    def judge(self, end: RecoveredEnd) -> int | None:
        return 0 if end.promised else self.missing


def kept(*, missing: int | None = None, **options: Any) -> Net:
    """`a`, which is kept, and `b`, which pulls its stream."""
    net = Net()
    disk = Ends(Fsync.OFF)
    disk.missing = missing
    net.start("a", disk=disk, **options)
    net.start("b", peers=["a"])
    net.run()
    return net


def publish(net: Net, count: int, *, written: bool = True, topic: str = "t") -> None:
    publisher = Publisher(net, "a")
    for sequence in range(1, count + 1):
        publisher.send(batch_of([(topic, b"")], sequence=sequence))
    if written:
        net.write("a")
    publisher.cut()


def dies(net: Net, *, missing: int | None = None) -> None:
    """`a` dies before it has written all, and comes back. Its witness counts `missing` more than the disk holds."""
    disk = net._disks["a"]
    assert isinstance(disk, Ends)
    disk.missing = missing
    net.restart("a")
    net.advance(3)


def notices(client: Subscriber) -> list[tuple[Reason, int | None, int]]:
    return [(f.reason, f.missed, f.view.next) for f in client.of(CursorExpired) if f.node == "a"]


def part(net: Net, act: Callable[[], None]) -> None:
    """`act` happens while `b` does not hear `a`."""
    net.part("a", "b")
    act()
    net.heal("a", "b")
    net.advance(3)


@pytest.mark.parametrize("lost", [50, None])
def test_readers_at_the_recovered_end_are_told_the_loss_behind_it(
    lost: int | None,
) -> None:
    net = kept()
    there = Subscriber(net, "b")
    publish(net, 100)
    net.advance(1)

    def tail() -> None:
        publish(net, 50, written=False)
        dies(net, missing=lost)

    part(net, tail)
    publish(net, 2)
    net.advance(1)
    assert there.of_node("a") == [*range(100), "state_lost", 100, 101]
    assert notices(there) == [(Reason.STATE_LOST, lost, 100)]


def test_a_reader_behind_gets_old_messages_the_gap_then_new_ones() -> None:
    net = kept()
    behind = Position(net.nodes["a"].epoch, 3)
    publish(net, 10)
    dies(net, missing=4)
    publish(net, 2)
    for node in ("a", "b"):
        reader = Subscriber(net, node, positions={"a": behind})
        net.advance(2)
        assert reader.of_node("a") == [*range(3, 10), "state_lost", 10, 11]
        assert notices(reader) == [(Reason.STATE_LOST, 4, 10)]


def test_a_reader_that_had_read_on_is_told_ahead_and_not_of_the_gap() -> None:
    net = kept()
    there = Subscriber(net, "b")
    publish(net, 10)
    publish(net, 5, written=False)
    net.advance(1)
    dies(net, missing=5)
    publish(net, 2)
    net.advance(1)
    assert there.of_node("a") == [*range(15), "ahead", 10, 11]


def test_no_reader_is_told_anything_without_a_loss() -> None:
    net = kept()
    readers = [Subscriber(net, node) for node in ("a", "b")]
    named = Subscriber(net, "b", session="n")
    publish(net, 10)
    net.advance(1)
    dies(net, missing=0)
    publish(net, 2)
    net.advance(1)
    here = readers[0].again()
    net.advance(1)
    assert here.of_node("a") == [10, 11]
    for reader in (readers[1], named):
        assert reader.of_node("a") == [*range(12)]
    assert net.nodes["a"].stream.view.losses == ()


def test_it_is_told_once_over_reconnects_and_restarts_of_both_brokers() -> None:
    net = kept()
    publish(net, 10)
    dies(net, missing=4)
    reader = Subscriber(net, "b", positions={"a": Position(net.new_epoch(), 0)})
    net.advance(2)
    stands = {"a": net.nodes["a"].stream.log.segments[0].end_position}
    reader = Subscriber(net, "b", positions=stands)
    net.advance(2)
    assert reader.of_node("a") == ["state_lost"]
    for again in range(3):
        reader.cut()
        if again == 1:
            net.restart("b")
            net.advance(3)
        if again == 2:
            dies(net, missing=0)
        reader = reader.again()
        net.advance(2)
        assert reader.of_node("a") == []
    publish(net, 1)
    net.advance(1)
    assert reader.of_node("a") == [10]


def test_a_session_that_dies_before_its_ack_is_told_again() -> None:
    net = kept()
    first = Subscriber(net, "b", session="n")
    publish(net, 10)
    net.advance(1)
    first.acknowledge("a")

    def tail() -> None:
        dies(net, missing=4)

    part(net, tail)
    assert first.of_node("a") == [*range(10), "state_lost"]
    first.cut()
    second = Subscriber(net, "b", session="n")
    net.advance(2)
    assert second.of_node("a") == ["state_lost"]
    second.acknowledge("a", noticed=True)
    net.advance(1)
    second.cut()
    third = Subscriber(net, "b", session="n")
    publish(net, 1)
    net.advance(2)
    assert third.of_node("a") == [10]


def test_a_names_next_life_gets_the_messages_then_the_gap() -> None:
    """The application resumed with messages and the notice unread, said so, and died."""
    net = kept()
    there = Subscriber(net, "b", session="s")
    publish(net, 10)
    net.advance(1)
    read = Position(net.nodes["a"].epoch, 4)
    dies(net, missing=4)
    assert there.of_node("a") == [*range(10), "state_lost"]
    there.cut()
    done = {**there.positions, "a": read}
    resumed = Subscriber(
        *(net, "b"), positions=there.positions, born=there.born, session="s", acknowledged=done
    )
    assert resumed.of_node("a") == []
    resumed.cut()
    publish(net, 2)
    net.advance(1)
    following = Subscriber(net, "b", session="s")
    net.advance(2)
    assert following.of_node("a") == [*range(4, 10), "state_lost", 10, 11]
    assert notices(following) == [(Reason.STATE_LOST, 4, 10)]


def test_a_named_session_of_the_producers_own_node_is_told_once() -> None:
    net = kept()
    first = Subscriber(net, "a", session="n")
    publish(net, 10)
    first.acknowledge("a")
    net.advance(1)
    net.write("a")
    dies(net, missing=4)
    second = Subscriber(net, "a", session="n")
    publish(net, 1)
    assert second.of_node("a") == ["state_lost", 10]
    second.acknowledge("a", noticed=True)
    net.advance(1)
    net.write("a")
    dies(net, missing=0)
    third = Subscriber(net, "a", session="n")
    publish(net, 1)
    assert third.of_node("a") == [11]


def test_a_reader_lives_later_is_told_of_each_loss_in_place() -> None:
    net = kept()
    begins = Position(net.nodes["a"].epoch, 0)
    expected: list[object] = []
    for life in range(10):
        publish(net, 3)
        expected += [3 * life, 3 * life + 1, 3 * life + 2, "state_lost"]
        dies(net, missing=life + 1)
    for node in ("a", "b"):
        reader = Subscriber(net, node, positions={"a": begins})
        net.advance(3)
        assert reader.of_node("a") == expected
        assert notices(reader) == [(Reason.STATE_LOST, n, 3 * n) for n in range(1, 11)]


def test_losses_at_one_place_are_one_notice() -> None:
    net = kept()
    publish(net, 10)
    stands = net.nodes["a"].stream.log.end_position
    for lost in (4, 3):
        dies(net, missing=lost)
    reader = Subscriber(net, "b", positions={"a": stands})
    net.advance(2)
    assert notices(reader) == [(Reason.STATE_LOST, 7, 10)]
    dies(net, missing=None)
    reader = Subscriber(net, "b", positions={"a": stands})
    net.advance(2)
    assert notices(reader) == [(Reason.STATE_LOST, None, 10)]


def test_evicted_and_lost_messages_are_one_notice() -> None:
    net = kept(ring_messages=10)
    begins = Position(net.nodes["a"].epoch, 2)
    publish(net, 10)
    dies(net, missing=4)
    publish(net, 12)
    reader = Subscriber(net, "a", positions={"a": begins})
    net.advance(2)
    # 2 to 21 of the stream, and 4 that it never came to hold.
    assert notices(reader) == [(Reason.STATE_LOST, 24, 22)]


def test_a_reader_at_the_end_is_told_of_a_gap_that_left_the_ring() -> None:
    net = kept(ring_messages=10)
    publish(net, 10)
    stands = net.nodes["a"].stream.log.end_position
    dies(net, missing=4)
    publish(net, 10)
    assert net.nodes["a"].stream.view.oldest == 10
    for node in ("a", "b"):
        reader = Subscriber(net, node, positions={"a": stands})
        net.advance(2)
        assert reader.of_node("a") == ["state_lost", *range(10, 20)]


def test_a_new_subscriber_is_told_of_nothing() -> None:
    net = kept()
    publish(net, 10)
    dies(net, missing=4)
    for node in ("a", "b"):
        reader = Subscriber(net, node)
        net.advance(2)
        publish(net, 1)
        net.advance(1)
        assert [what for what in reader.of_node("a") if isinstance(what, str)] == []


def test_a_consumer_without_memory_at_the_gap_is_told() -> None:
    net = kept()
    publish(net, 10)
    net.advance(1)
    net.write("a")

    net.stop("b")
    dies(net, missing=4)
    net.part("a", "b")
    net.start("b", peers=["a"])
    reader = Subscriber(net, "b")
    net.heal("a", "b")
    net.advance(3)
    publish(net, 1)
    net.advance(1)
    assert reader.of_node("a") == ["unseen", 10]


def test_a_wholly_lost_stream_is_told_to_sessions_owed_its_start() -> None:
    net = kept()
    there = Subscriber(net, "b")

    def all_of_it() -> None:
        publish(net, 3, written=False)
        dies(net, missing=3)

    part(net, all_of_it)
    publish(net, 1)
    net.advance(1)
    assert there.of_node("a") == ["state_lost", 0]
    assert notices(there) == [(Reason.STATE_LOST, 3, 0)]


def test_filters_change_nothing_of_it() -> None:
    net = kept()
    there = Subscriber(net, "b", "rare")
    publish(net, 10)
    net.advance(1)
    part(net, lambda: dies(net, missing=4))
    publish(net, 1, topic="rare")
    net.advance(1)
    assert there.of_node("a") == ["state_lost", 10]

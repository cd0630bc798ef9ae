"""A node that is kept on disk: what it says before and after it is written, and what its next life goes on with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber, query
from tests.unit.core.nets import reconnected
from tests.unit.protocol.strategies import batch_of

import pubsubd_protocol.positions as positions
from pubsubd_broker.core.journal.journal import MAX_BACKLOG_BYTES, Fsync
from pubsubd_broker.core.journal.keeper import Keeper
from pubsubd_broker.core.journal.whole_end import RecoveredEnd
from pubsubd_broker.core.limits import PUBLISH_WINDOW, SECOND_NS
from pubsubd_broker.core.observe.notices import Level
from pubsubd_broker.core.status import not_ready
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.frames import CursorExpired, Receipt, Rejected, Subscribe
from pubsubd_protocol.positions import Position

MIB = 2**20


class ProvenDisk(Disk):
    """A folder proven to be the one that `always` wrote: a record that was cut short held no accepted message."""

    def judge(self, end: RecoveredEnd) -> int | None:
        return 0


def kept(fsync: Fsync = Fsync.ALWAYS, *, disk: Disk | None = None, **options: Any) -> Net:
    """`a`, which is kept, and `b`, which pulls its stream and is not."""
    net = Net()
    net.start("a", disk=disk or Disk(fsync), **options)
    net.start("b", peers=["a"])
    net.run()
    return net


def keeper(net: Net) -> Keeper:
    found = net.nodes["a"].keeper
    assert found is not None
    return found


def fail(net: Net) -> None:
    """The disk of `a` is full."""
    keeper(net).take(net.now)
    keeper(net).failed("no space left on device")
    net.run()


def send(
    publisher: Publisher, *sequences: int, payload: bytes = b"", topic: str = "t", **options: Any
) -> None:
    """Batches of one message, whose answers may have to wait."""
    for sequence in sequences:
        publisher.send(batch_of([(topic, payload)], sequence=sequence, **options))


def answers(publisher: Publisher) -> list[tuple[int, int | str]]:
    """Sequence and offset, or sequence and why not, in the order in which they came."""
    return [
        (frame.sequence, frame.first if isinstance(frame, Receipt) else frame.code)
        for frame in publisher.frames
        if isinstance(frame, (Receipt, Rejected))
    ]


def held(net: Net, name: str) -> list[object]:
    """The offsets of `a`'s stream that a new session at `name` gets."""
    client = Subscriber(net, name, start="earliest")
    net.advance(2)
    taken = client.of_node("a")
    client.cut()
    return taken[1:] if taken[:1] == [f"told {taken[1] if taken[1:] else 0}"] else taken


def publish(net: Net, count: int) -> None:
    """Publishes batches of one message each, by a new publisher, and has them written as soon as possible."""
    publisher = Publisher(net, "a")
    send(publisher, *range(1, count + 1))
    if net.nodes["a"].keeper is not None:
        net.write("a")
    assert len(answers(publisher)) == count
    publisher.cut()


def restart(net: Net) -> None:
    """`a` is gone from one moment to the next, and lives again."""
    net.restart("a")
    net.advance(2)


# Before it is on disk.


def test_a_message_is_neither_seen_nor_accepted_before_it_is_on_disk() -> None:
    net = kept()
    here, there, publisher = Subscriber(net, "a"), Subscriber(net, "b"), Publisher(net, "a")
    send(publisher, 1, 2)
    work = keeper(net).take(net.now)
    assert work is not None
    net.advance(5)
    assert [here.of_node("a"), there.of_node("a"), held(net, "a")] == [[], [], []]
    assert answers(publisher) == []
    assert json.loads(query(net, "a", "status"))["ring"]["next_offset"] == 0
    assert net.nodes["b"].peers.replicas["a"].registration.offset == 0
    keeper(net).done(net.now)
    net.run()
    assert [here.of_node("a"), there.of_node("a"), held(net, "a")] == [[0, 1]] * 3
    assert answers(publisher) == [(1, 0), (2, 1)]


def test_batches_that_come_during_a_write_wait_for_the_next() -> None:
    net = kept()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    send(publisher, 1)
    keeper(net).take(net.now)
    send(publisher, 2, 3)
    keeper(net).done(net.now)
    net.run()
    assert subscriber.of_node("a") == [0]
    assert answers(publisher) == [(1, 0)]
    net.write("a")
    assert subscriber.of_node("a") == [0, 1, 2]
    assert answers(publisher) == [(1, 0), (2, 1), (3, 2)]


def test_a_publisher_with_much_to_say_leaves_room_to_the_others() -> None:
    """The ring takes four messages at a time: what has to be on disk first comes into it at once."""
    net = kept(ring_messages=4)
    busy, calm, other = (Publisher(net, "a") for _ in range(3))
    send(busy, *range(1, 41))
    send(calm, 1)
    send(other, 1, 2)
    for _ in range(3):
        keeper(net).take(net.now)
        keeper(net).done(net.now)
        net.run()
    assert [sequence for sequence, _ in answers(calm)] == [1]
    assert [sequence for sequence, _ in answers(other)] == [1, 2]
    assert len(answers(busy)) >= 4


@pytest.mark.parametrize("fsync", [Fsync.OFF, Fsync.SNAPSHOT, Fsync.INTERVAL])
def test_without_waiting_for_the_disk_a_message_is_seen_at_once(fsync: Fsync) -> None:
    net = kept(fsync)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    send(publisher, 1)
    assert subscriber.of_node("a") == [0]
    assert answers(publisher) == [(1, 0)]


def test_a_retry_while_the_batch_waits_for_the_disk_is_placed_once() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1)
    again = reconnected(net, publisher)
    send(again, 1, retry=True)
    send(again, 2)
    assert answers(again) == []
    net.write("a")
    assert publisher.refusal == "replaced"
    assert answers(again) == [(1, 0), (2, 1)]
    assert net.nodes["a"].stream.next == 2


def test_a_retry_that_differs_from_the_waiting_batch_is_a_violation() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1)
    again = reconnected(net, publisher)
    again.send(batch_of([("t", b"another")], sequence=1, retry=True))
    assert again.refusal == "protocol"
    net.write("a")
    assert net.nodes["a"].stream.next == 1


def test_a_stopping_broker_answers_waiting_batches_before_it_refuses() -> None:
    """Else a publisher would take what was accepted for turned away, and send it as new to the next life."""
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1)
    net.nodes["a"].drain()
    send(publisher, 2)
    assert publisher.refusal is None
    net.write("a")
    assert answers(publisher) == [(1, 0)]
    assert publisher.refusal == "draining"
    assert net.nodes["a"].stream.next == 1


def test_a_late_answer_reaches_the_connection_that_is_there_by_then() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1, 2)
    publisher.cut()
    again = reconnected(net, publisher)
    send(again, 1, 2, retry=True)
    net.write("a")
    assert answers(again) == [(1, 0), (2, 1)]
    late = reconnected(net, publisher)
    send(late, 1, 2, retry=True)
    assert answers(late) == [(1, 0), (2, 1)]
    assert net.nodes["a"].stream.next == 2


def test_answers_come_in_the_order_of_their_batches() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1)
    send(publisher, 2, topic="no topic")
    send(publisher, 3)
    send(publisher, 4, to="unknown")
    send(publisher, 5, to="unknown", retry=True)
    assert answers(publisher) == []
    net.write("a")
    known = [(4, "unknown_node"), (5, "unknown_node")]
    assert answers(publisher) == [(1, 0), (2, "invalid_topic"), (3, 1), *known]
    send(publisher, 6, topic="no topic")
    assert answers(publisher)[5:] == [(6, "invalid_topic")]


def test_answers_kept_behind_a_slow_disk_are_bounded_by_the_window() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, *range(1, PUBLISH_WINDOW))
    assert publisher.connection.wants_more
    bad = range(PUBLISH_WINDOW, 3 * PUBLISH_WINDOW)
    send(publisher, *bad, topic="no topic")
    assert not publisher.connection.wants_more
    net.write("a")
    places = [(sequence, sequence - 1) for sequence in range(1, PUBLISH_WINDOW)]
    assert answers(publisher) == places + [(sequence, "invalid_topic") for sequence in bad]
    assert publisher.connection.wants_more


def test_an_answer_that_is_known_keeps_nobody_who_asks_for_it_again() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1)
    net.write("a")
    record = net.nodes["a"].publishers.connect(publisher.life, same_life=True)
    assert record.earlier_answer(1, retry=True) == Receipt(1, net.nodes["a"].epoch, 0)


def test_a_node_that_stops_waits_for_its_disk() -> None:
    net = kept()
    send(Publisher(net, "a"), 1)
    node = net.nodes["a"]
    node.drain()
    assert not node.drained
    net.write("a")
    net.advance(1)
    assert node.drained


# More than the disk takes.


@pytest.mark.parametrize("fsync", [Fsync.ALWAYS, Fsync.INTERVAL, Fsync.OFF])
def test_a_publisher_beyond_the_backlog_goes_on_after_the_write(
    fsync: Fsync,
) -> None:
    net = kept(fsync)
    subscriber = Subscriber(net, "a")
    one, other, gone = (Publisher(net, "a") for _ in range(3))
    send(one, *range(1, 11), payload=bytes(MIB))
    send(other, 1)
    send(gone, 1)
    assert not any(each.connection.wants_more for each in (one, other, gone))
    assert MAX_BACKLOG_BYTES <= keeper(net).journal.backlog_bytes < MAX_BACKLOG_BYTES + 2 * MIB
    assert len(net.nodes["a"].stream.log.items) <= MAX_BACKLOG_BYTES / MIB
    gone.cut()
    assert list(keeper(net)._waiting) == [one.connection, other.connection]
    net.write("a")
    assert len(answers(one)) == 10
    assert len(answers(other)) == 1
    assert one.connection.wants_more
    assert subscriber.of_node("a") == list(range(11))
    assert keeper(net).journal.backlog_bytes == 0


def test_a_snapshot_holds_no_publisher() -> None:
    net = kept(Fsync.SNAPSHOT)
    publisher = Publisher(net, "a")
    send(publisher, *range(1, 11), payload=bytes(MIB))
    assert len(answers(publisher)) == 10
    assert keeper(net).take(net.now, last=True) is None


@pytest.mark.parametrize("pace_ns", [0, SECOND_NS])
def test_waiting_entries_do_not_overrun_a_caught_up_reader(
    pace_ns: int,
) -> None:
    net = kept(ring_messages=10, pace_ns=pace_ns)
    here, there = Subscriber(net, "a"), Subscriber(net, "b")
    publisher = Publisher(net, "a")
    send(publisher, *range(1, 26))
    net.write("a")
    assert len(answers(publisher)) == 25
    assert here.of_node("a") == list(range(25))
    assert there.of_node("a") == list(range(25))


def test_waiting_entries_fit_into_the_ring_by_bytes_too() -> None:
    net = kept(ring_bytes=100_000)
    here, publisher = Subscriber(net, "a"), Publisher(net, "a")
    send(publisher, *range(1, 31), payload=bytes(10_000))
    send(publisher, 31, payload=bytes(99_000))
    net.write("a")
    assert answers(publisher) == [(sequence, sequence - 1) for sequence in range(1, 32)]
    assert here.of_node("a") == list(range(31))


# A journal that cannot be written.


def test_after_a_failure_only_readers_are_served() -> None:
    net = kept()
    publish(net, 3)
    here, there = Subscriber(net, "a"), Subscriber(net, "b")
    busy, idle = Publisher(net, "a"), Publisher(net, "a")
    send(busy, 1)
    fail(net)
    assert (busy.refusal, idle.refusal) == ("journal_failed", "journal_failed")
    assert busy.lost
    assert answers(busy) == []
    late = Publisher(net, "a")
    send(late, 1)
    assert late.refusal == "journal_failed"
    assert answers(late) == []
    net.restart("b")
    net.advance(2)
    assert held(net, "a") == held(net, "b") == [0, 1, 2]
    assert here.of_node("a") == there.of_node("a") == []
    assert not here.lost
    assert net.said("a", "journal.failed") == [{"reason": "no space left on device"}]
    assert "no space left on device" in not_ready(net.nodes["a"])[0]


def test_a_publisher_that_is_held_as_the_disk_fails_is_sent_away_too() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, *range(1, 11), payload=bytes(MIB))
    assert not publisher.connection.wants_more
    fail(net)
    assert publisher.refusal == "journal_failed"
    assert publisher.lost
    net.advance(5)
    assert net.nodes["a"].stream.next == 0


def test_a_node_whose_disk_failed_can_stop() -> None:
    net = kept()
    send(Publisher(net, "a"), 1)
    fail(net)
    net.nodes["a"].drain()
    net.advance(1)
    assert net.nodes["a"].drained


# The next life.


def test_readers_go_on_in_the_next_life_as_if_nothing_had_happened() -> None:
    net = kept()
    publish(net, 3)
    here, there = Subscriber(net, "a"), Subscriber(net, "b")
    restart(net)
    publish(net, 2)
    assert here.again().of_node("a") == [3, 4]
    assert there.of_node("a") == [3, 4]
    assert held(net, "a") == held(net, "b") == [0, 1, 2, 3, 4]
    assert not net.said("b", "cursor.expired")


def test_a_peer_gets_from_the_next_life_what_it_missed() -> None:
    net = kept()
    there = Subscriber(net, "b")
    publish(net, 1)
    net.part("a", "b")
    publish(net, 2)
    net.restart("a")
    publish(net, 2)
    net.heal("a", "b")
    net.advance(10)
    assert there.of_node("a") == [0, 1, 2, 3, 4]


def test_with_always_receipted_messages_survive_the_machine() -> None:
    disk = Disk(Fsync.ALWAYS)
    net = Net()
    net.start("a", disk=disk)
    for _ in range(3):
        publish(net, 2)
        disk.lose_power()
        net.restart("a")
    assert held(net, "a") == [0, 1, 2, 3, 4, 5]


def test_a_written_unanswered_batch_gets_its_receipt_in_the_next_life() -> None:
    net = kept()
    node = net.nodes["a"]
    publisher = Publisher(net, "a")
    send(publisher, 1)
    net.write("a")
    send(publisher, 2)
    work = keeper(net).take(net.now)
    assert work is not None
    net._disks["a"].perform(work)
    restart(net)
    again = Publisher(net, "a", life=publisher.life, spoke_to=node.epoch)
    assert again.of(Receipt) == []
    send(again, 1, 2, retry=True)
    assert again.of(Receipt) == [Receipt(1, node.epoch, 0), Receipt(2, node.epoch, 1)]
    assert net.nodes["a"].stream.next == 2
    send(again, 3)
    net.write("a")
    assert again.of(Receipt)[2:] == [Receipt(3, net.nodes["a"].epoch, 2)]
    assert held(net, "b") == [0, 1, 2]


def test_a_batch_that_was_not_written_is_placed_in_the_next_life() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    send(publisher, 1)
    net.write("a")
    send(publisher, 2)
    spoke_to = net.nodes["a"].epoch
    restart(net)
    again = Publisher(net, "a", life=publisher.life, spoke_to=spoke_to)
    send(again, 2, retry=True)
    net.write("a")
    assert again.of(Receipt) == [Receipt(2, net.nodes["a"].epoch, 1)]


def test_a_forgotten_batch_is_unknown_in_the_next_life_too() -> None:
    net = kept(ring_messages=1000)
    publisher = Publisher(net, "a")
    for sequence in range(1, PUBLISH_WINDOW + 2):
        send(publisher, sequence)
        net.write("a")
    restart(net)
    again = Publisher(net, "a", life=publisher.life)
    send(again, 1, 2, retry=True)
    assert answers(again) == [(1, "unknown"), (2, 1)]


def test_the_last_sequence_outlives_the_messages_in_the_ring() -> None:
    net = kept(ring_messages=5, ring_bytes=MIB)
    publisher = Publisher(net, "a")
    send(publisher, 1)
    net.write("a")
    for _ in range(8):
        publish(net, 50)
        restart(net)
    again = Publisher(net, "a", life=publisher.life)
    send(again, 1, retry=True)
    assert answers(again) == [(1, "unknown")]


def test_a_refused_retry_may_have_been_accepted_by_an_earlier_life() -> None:
    net = kept(Fsync.INTERVAL)
    publisher = Publisher(net, "a")
    send(publisher, 1)
    net.write("a")
    # Readers see it, and the disk never does.
    send(publisher, 2, to="b")
    assert answers(publisher) == [(1, 0), (2, 1)]
    spoke_to = net.nodes["a"].epoch
    net.stop("b")
    net.restart("a")
    again = Publisher(net, "a", life=publisher.life, spoke_to=spoke_to)
    send(again, 2, to="b", retry=True)
    assert answers(again) == [(2, "unknown")]


class Lives:
    """A publisher of `a` that repeats what was not answered, and readers at both nodes, over lives of `a`."""

    def __init__(self) -> None:
        self.net = kept(disk=ProvenDisk(), ring_messages=1000)
        self.disk = self.net._disks["a"]
        self.there = Subscriber(self.net, "b")
        self.here = Subscriber(self.net, "a")
        self.heard_here: list[object] = []
        self.publisher = Publisher(self.net, "a")
        self.sent = 0
        self.receipts: dict[int, Receipt] = {}

    def publish(self) -> None:
        self.sent += 1
        send(self.publisher, self.sent, payload=b"%d" % self.sent)

    def write(self) -> None:
        self.net.write("a")
        self._take_receipts()

    def part(self) -> None:
        self.net.part("a", "b")

    def meet(self) -> None:
        self.net.heal("a", "b")
        self.net.advance(10)

    def crash(self, share: float, *, power: bool) -> None:
        """While it writes, so far."""
        work = keeper(self.net).take(self.net.now)
        if work is not None:
            self.disk.die_in(work, share)
        if power:
            self.disk.lose_power()
        self._take_receipts()
        spoke_to = self.net.nodes["a"].epoch
        self.net.restart("a")
        life = self.publisher.life
        self.publisher = Publisher(self.net, "a", life=life, spoke_to=spoke_to)
        for sequence in range(1, self.sent + 1):
            if sequence not in self.receipts:
                send(self.publisher, sequence, payload=b"%d" % sequence, retry=True)
        self.heard_here += self.here.of_node("a")
        self.here = self.here.again()

    def _take_receipts(self) -> None:
        for receipt in self.publisher.of(Receipt):
            assert self.receipts.setdefault(receipt.sequence, receipt) == receipt


steps = st.one_of(
    st.sampled_from(["publish", "publish", "write", "part", "meet"]),
    st.tuples(st.floats(0, 1), st.booleans()),
)


@given(st.lists(steps, max_size=25))
def test_with_always_every_message_comes_once_and_in_order(
    course: list[str | tuple[float, bool]],
) -> None:
    lives = Lives()
    for step in course:
        if isinstance(step, tuple):
            share, power = step
            lives.crash(share, power=power)
        else:
            getattr(lives, step)()
    lives.meet()
    lives.write()
    every = range(lives.sent)
    assert [lives.receipts[sequence + 1].first for sequence in every] == list(every)
    assert lives.there.of_node("a") == list(every)
    assert lives.there.payloads == [b"%d" % (offset + 1) for offset in every]
    assert lives.heard_here + lives.here.of_node("a") == list(every)
    assert not lives.net.said("b", "cursor.expired")


# Readers that saw lost messages.


def test_a_reader_beyond_the_end_is_told_ahead_one_before_it_the_loss() -> None:
    net = kept(Fsync.INTERVAL)
    here, there = Subscriber(net, "a"), Subscriber(net, "b")
    net.start("c", peers=["a"])
    net.run()
    behind = Subscriber(net, "c")
    publisher = Publisher(net, "a")
    publisher.fill(2)
    net.part("a", "c")
    publisher.fill(1)
    net.write("a")
    publisher.fill(2)
    assert there.of_node("a") == [0, 1, 2, 3, 4]
    restart(net)
    net.heal("a", "c")
    net.advance(10)
    publish(net, 2)
    assert there.of_node("a") == [0, 1, 2, 3, 4, "ahead", 3, 4]
    assert behind.of_node("a") == [0, 1, 2, "state_lost", 3, 4]
    back = here.again()
    assert back.of_node("a") == ["ahead"]
    publish(net, 1)
    assert back.of_node("a") == ["ahead", 5]
    noticed = [(said["hop"], said["reason"]) for said in net.said("c", "cursor.expired")]
    assert noticed == [("registration", "state_lost"), ("session", "state_lost")]


def test_a_reader_exactly_at_the_end_is_told_that_more_may_be_lost() -> None:
    net = kept(Fsync.INTERVAL)
    there = Subscriber(net, "b")
    publish(net, 3)
    restart(net)
    publish(net, 1)
    assert there.of_node("a") == [0, 1, 2, "state_lost", 3]
    (notice,) = there.of(CursorExpired)
    assert (notice.missed, notice.view.next) == (None, 3)


def test_after_a_clean_end_a_caught_up_reader_gets_no_notice() -> None:
    net = kept(Fsync.INTERVAL)
    there = Subscriber(net, "b")
    publish(net, 3)
    end(net)
    restart(net)
    publish(net, 1)
    assert there.of_node("a") == [0, 1, 2, 3]


def test_without_its_journal_a_node_begins_anew_and_says_so() -> None:
    net = kept()
    there = Subscriber(net, "b")
    publish(net, 3)
    net._disks["a"].segments.clear()
    restart(net)
    assert there.of_node("a") == [0, 1, 2, "state_lost"]


def test_messages_outlive_the_lineages_memory_of_their_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(positions, "MAX_LINEAGE", 4)
    net = Net()
    net.start("a", disk=Disk())
    for _ in range(7):
        publish(net, 1)
        net.restart("a")
    assert len(net.nodes["a"].stream.view.lineage) == 4
    net.start("b")
    there = Subscriber(net, "b")
    net.stop("b")
    net.start("b", peers=["a"])
    back = Subscriber(net, "b", positions={}, born=there.born)
    net.advance(2)
    assert back.of_node("a") == ["told 0", *range(7)]
    publish(net, 1)
    assert back.of_node("a") == ["told 0", *range(8)]
    assert held(net, "a") == held(net, "b") == [*range(8)]
    assert not net.said("b", "protocol.violated")


@pytest.mark.parametrize("fsync", [Fsync.ALWAYS, Fsync.SNAPSHOT])
def test_lives_without_a_message_leave_no_trace_for_readers(
    fsync: Fsync,
) -> None:
    net = kept(fsync)
    there = Subscriber(net, "b")
    publish(net, 2)
    lineage, front = None, net.nodes["a"].stream.log.end_position
    for _ in range(40):
        if fsync is Fsync.SNAPSHOT:
            end(net)
            net.start("a", disk=net._disks["a"])
        else:
            net.restart("a")
        net.advance(1)
        stream = net.nodes["a"].stream
        assert stream.log.end_position == front
        lineage = lineage or stream.view.lineage
        assert stream.view.lineage == lineage
    publish(net, 1)
    assert there.of_node("a") == [0, 1, 2]


# Snapshots.


def end(net: Net) -> None:
    """`a` stops in good order."""
    work = keeper(net).end(net.now)
    assert work is not None
    net._disks["a"].perform(work)
    net.stop("a")


def test_after_a_clean_stop_all_go_on_from_the_snapshot() -> None:
    net = kept(Fsync.SNAPSHOT, ring_messages=4)
    there, publisher = Subscriber(net, "b"), Publisher(net, "a")
    send(publisher, *range(1, 7))
    lives = [net.nodes["a"].epoch]
    end(net)
    restart(net)
    lives.append(net.nodes["a"].epoch)
    publish(net, 1)
    end(net)
    restart(net)
    publish(net, 1)
    assert there.of_node("a") == list(range(8))
    assert held(net, "a") == [4, 5, 6, 7]
    view = net.nodes["a"].stream.view
    assert view.lineage == ((lives[1], 7), (lives[0], 6))
    again = Publisher(net, "a", life=publisher.life)
    send(again, 1, 6, retry=True)
    assert answers(again) == [(1, "unknown"), (6, 5)]


def test_after_a_crash_the_snapshot_of_an_earlier_stop_is_not_believed() -> None:
    net = kept(Fsync.SNAPSHOT)
    there = Subscriber(net, "b")
    publish(net, 2)
    end(net)
    restart(net)
    publish(net, 1)
    restart(net)
    publish(net, 1)
    assert there.of_node("a") == [0, 1, 2, "state_lost", 0]


# Cursors and named sessions.


def test_a_peer_that_forgets_goes_on_at_the_cursor_that_was_kept_of_it() -> None:
    net = kept()
    publish(net, 3)
    net.advance(1)
    net.write("a")
    net.stop("b")
    publish(net, 2)
    net.restart("a")
    found = net.nodes["a"].registry.get("b")
    assert found is not None
    assert (found.cursor.offset, found.connected) == (3, False)
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    there = Subscriber(net, "b")
    net.unreachable.clear()
    net.advance(5)
    assert there.of_node("a") == ["told 3", 3, 4]


def test_a_cursor_that_was_dropped_stays_dropped() -> None:
    net = kept()
    publish(net, 3)
    net.advance(1)
    net.write("a")
    net.stop("b")
    net.run()
    query(net, "a", "drop_cursor", "b")
    net.advance(1)
    net.write("a")
    net.restart("a")
    assert "b" not in net.nodes["a"].registry


def test_cursors_and_sessions_survive_by_segment_and_by_record() -> None:
    net = kept()
    publish(net, 1)
    subscriber = Subscriber(net, "a", session="s")
    publish(net, 2)
    subscriber.acknowledge("a")
    net.advance(1)
    net.write("a")
    for _ in range(3):  # each begins with what the last one left
        net.stop("a")
        net.restart("a")
    session = net.nodes["a"].sessions.named("s")
    assert session is not None
    assert session.kept["a"].offset == 3
    found = net.nodes["a"].registry.get("b")
    assert found is not None
    assert found.cursor.offset == 3


def test_a_named_session_goes_on_in_every_stream_at_its_last_ack() -> None:
    net = Net()
    net.start("a", disk=Disk())
    net.start("b", peers=["a"], disk=Disk())
    net.run()
    subscriber = Subscriber(net, "b", session="projector")
    publish(net, 5)
    own = Publisher(net, "b")
    send(own, 1, 2, 3)
    net.advance(1)
    net.write("b")
    subscriber.acknowledge("a", Position(net.nodes["a"].epoch, 2))
    subscriber.acknowledge("b", Position(net.nodes["b"].epoch, 1))
    net.advance(1)
    net.write("b")
    # Only its own broker remembers it.
    query(net, "a", "drop_cursor", "b")
    net.stop("b")
    net.run()
    query(net, "a", "drop_cursor", "b")
    assert "b" not in net.nodes["a"].registry
    net.restart("b")
    back = Subscriber(net, "b", session="projector")
    assert back.resumed
    net.advance(2)
    assert back.of_node("b") == [1, 2]
    assert back.of_node("a") == [2, 3, 4]


def test_a_peers_named_sessions_are_remembered_over_lives_of_both() -> None:
    net = kept()
    subscriber = Subscriber(net, "b", session="projector")
    publish(net, 5)
    subscriber.acknowledge("a", Position(net.nodes["a"].epoch, 2))
    net.advance(1)
    net.write("a")
    net.stop("b")
    net.restart("a")
    net.restart("a")
    net.start("b", peers=["a"])
    net.advance(1)
    back = Subscriber(net, "b", session="projector")
    assert back.resumed
    assert back.of_node("a") == [2, 3, 4]


def test_lives_in_which_nothing_happens_leave_no_segments_behind() -> None:
    net = kept()
    publish(net, 1)
    for _ in range(30):
        net.restart("a")
        assert len(net._disks["a"].segments) == 2
    assert held(net, "a") == [0]
    for _ in range(30):
        publish(net, 1)
        net.restart("a")
    assert len(net._disks["a"].segments) == 32


def test_an_unacknowledged_named_session_begins_where_it_began() -> None:
    net = kept()
    publish(net, 2)
    subscriber = Subscriber(net, "a", session="projector")
    publish(net, 2)
    assert subscriber.of_node("a") == [2, 3]
    net.advance(1)
    net.write("a")
    net.restart("a")
    back = Subscriber(net, "a", session="projector")
    assert back.resumed
    assert back.of_node("a") == [2, 3]


def test_a_forgotten_named_session_stays_forgotten() -> None:
    net = kept(ring_messages=4, cursor_ttl_ns=5 * SECOND_NS)
    subscriber = Subscriber(net, "a", session="projector")
    net.advance(1)
    net.write("a")
    subscriber.cut()
    publish(net, 9)
    net.advance(20)
    assert net.said("a", "session.forgotten") == [{"session": "projector"}]
    net.write("a")
    net.restart("a")
    assert not Subscriber(net, "a", session="projector").resumed


def test_a_named_session_beyond_the_end_is_told_in_its_next_life() -> None:
    net = kept(Fsync.INTERVAL)
    subscriber = Subscriber(net, "a", session="projector")
    publish(net, 2)
    net.advance(1)
    net.write("a")
    publisher = Publisher(net, "a")
    publisher.fill(2)
    subscriber.acknowledge("a")
    positions = dict(subscriber.positions)
    net.restart("a")
    back = Subscriber(net, "a", session="projector", positions=positions, born=subscriber.born)
    assert back.resumed
    assert back.of_node("a") == ["ahead"]


def test_a_named_session_with_the_most_streams_spoils_no_journal() -> None:
    net = kept()
    positions = {f"node-{n}": Position(net.new_epoch(), n) for n in range(MAX_STREAMS)}
    client = RawClient(net, "a", "session")
    client.send(Subscribe((">",), "latest", positions, None, "wide", True))
    net.advance(1)
    publish(net, 3)
    net.restart("a")
    publish(net, 1)
    net.restart("a")
    session = net.nodes["a"].sessions.named("wide")
    assert session is not None
    # One makes room for the node's own stream.
    assert session.kept.items() >= dict(list(positions.items())[1:]).items()
    assert len(session.kept) == MAX_STREAMS
    assert held(net, "a") == [0, 1, 2, 3]


@pytest.mark.parametrize("fsync", [Fsync.ALWAYS, Fsync.INTERVAL, Fsync.OFF])
def test_a_names_place_is_on_disk_before_the_ring_evicts_it(
    fsync: Fsync,
) -> None:
    """A burst of a few milliseconds moves the ring on by more than it holds; then everything dies at once."""
    net = kept(fsync, ring_messages=10)
    named, lagging = Subscriber(net, "a", "rare.>", session="n"), Subscriber(net, "a", session="m")
    net.advance(1)
    net.write("a")
    lagging.stop_reading()
    publish(net, 25)
    net.restart("a")
    assert net.nodes["a"].stream.next == 25
    again = Subscriber(net, "a", "rare.>", session="n", positions={}, born=named.born)
    proven = fsync is Fsync.ALWAYS
    assert (again.resumed, again.of_node("a")) == (True, [] if proven else ["state_lost"])
    passed = Subscriber(net, "a", session="m").of_node("a")
    assert passed == ["overwritten" if proven else "state_lost"]


def levels(net: Net, event: str) -> list[Level]:
    return [notice.level for notice in net.notices["a"] if notice.event == event]


def test_a_smaller_ring_reports_the_history_that_it_holds() -> None:
    net = kept()
    publisher = Publisher(net, "a")
    publisher.send(
        batch_of([("t", b"x")] * 60, sequence=1), batch_of([("t", b"y")] * 3, sequence=2)
    )
    net.write("a")
    net.restart("a")
    assert net.said("a", "ring.trimmed") == []
    net.restart("a", ring_messages=50)
    figures = {"found": 63, "ring_messages": 50, "ring_bytes": net.nodes["a"].config.ring_bytes}
    assert net.said("a", "ring.trimmed") == [figures | {"held": 3, "oldest": 60, "next": 63}]
    assert levels(net, "ring.trimmed") == [Level.INFO]
    net.restart("a", ring_messages=2)
    assert net.said("a", "ring.trimmed")[1:] == [
        figures | {"ring_messages": 2, "held": 0, "oldest": 63, "next": 63}
    ]
    assert levels(net, "ring.trimmed") == [Level.INFO, Level.WARNING]

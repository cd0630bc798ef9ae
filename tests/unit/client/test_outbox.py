"""The outbox: batching, window, retries, receipts, deadlines. Without sockets, without a clock."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from tests.feeding import feed

from pubsubd.batching import BATCH_BYTES, BatchFailed, OutgoingBatch, Placed
from pubsubd.errors import BrokerUnavailable, InvalidTopic, MessageTooLarge, PublishUnknown
from pubsubd.outbox import LONGEST_OPEN_S, Outbox
from pubsubd_protocol import codec
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Receipt, Welcome
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch

EPOCH = Epoch(b"e" * 16)
LIFE = Epoch(b"l" * 16)


def connected(
    window: int = 4, max_frame: int = 2**24, max_batch: int = 65_535, **limits: Any
) -> Outbox:
    outbox = Outbox("/socket")
    connect(outbox, window, max_frame, max_batch, **limits)
    return outbox


def connect(
    outbox: Outbox, window: int, max_frame: int = 2**24, max_batch: int = 65_535, **limits: Any
) -> list[OutgoingBatch]:
    """A broker welcomes the client anew. Returns what has failed by that."""
    return outbox.connected(Welcome(1, "a", LIFE, 2**20, max_frame, window, max_batch, **limits))


def written(outbox: Outbox) -> list[Batch]:
    """Batches that go over the wire now, as their reader sees them."""
    reader = FrameReader(2**24)
    batches = []
    for view in feed(reader, b"".join(outbox.writable())):
        batch = codec.decode(view)
        assert isinstance(batch, Batch)
        batch.payloads = bytes(batch.payloads)
        batch.check(2**24)
        batches.append(batch)
    return batches


def put(outbox: Outbox, payload: bytes, now: float = 0.0, timeout_s: float = 10.0) -> OutgoingBatch:
    """Publishes one message in a loop turn of its own."""
    outgoing = outbox.put("t", payload, None, timeout_s)
    outbox.end_turn(now)
    return outgoing


def test_messages_of_one_turn_share_a_batch_with_each_topic_named_once() -> None:
    outbox = connected()
    for i in range(6):
        outbox.put(f"t{i % 2}", b"%d" % i, None, 10.0)
    assert written(outbox) == []
    outbox.end_turn(0.0)
    (batch,) = written(outbox)
    assert (batch.count, batch.topics, bytes(batch.payloads)) == (6, "t0\nt1", b"012345")
    assert list(batch.index) == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]


def topics_written(outbox: Outbox, *topics: str) -> list[str]:
    """Topics that go out, batch by batch, when a message of each of these is published in one turn."""
    for topic in topics:
        outbox.put(topic, b"x", None, 10.0)
    outbox.end_turn(0.0)
    return [batch.topics.replace("\n", " ") for batch in written(outbox)]


def test_a_topic_that_will_be_refused_shares_its_batch_with_no_other() -> None:
    outbox = connected(window=16, publish=("a.*", "b"))
    assert topics_written(outbox, "a.1", "b", "a.2") == ["a.1 b a.2"]
    assert topics_written(outbox, "b", "c", "c", "b", "a", "c") == ["b", "c", "b", "a", "c"]
    outbox = connected(window=16, max_topic=4)
    assert topics_written(outbox, "a", "long.", "b", "äöü", "ä", "c") == [
        "a",
        "long.",
        "b",
        "äöü",
        "ä c",
    ]


def test_many_messages_of_a_topic_that_will_be_refused_are_one_batch() -> None:
    outbox = connected(window=16, publish=("a",))
    outbox.put("a", b"1", None, 10.0)
    assert len(outbox.put_many("b", [b"2"] * 200, None, 10.0)) == 1
    outbox.put("a", b"3", None, 10.0)
    outbox.end_turn(0.0)
    assert [(b.topics, b.count) for b in written(outbox)] == [("a", 1), ("b", 200), ("a", 1)]


def test_a_batch_has_no_more_topics_than_the_broker_takes() -> None:
    outbox = connected(window=16, max_topics=2)
    assert topics_written(outbox, "a", "b", "a", "c", "b", "a") == ["a b", "c b", "a"]
    outbox.put("a", b"1", None, 10.0)
    outbox.put("b", b"2", None, 10.0)
    outbox.put_many("c", [b"3"] * 3, None, 10.0)
    outbox.put_many("c", [b"4"] * 70, None, 10.0)
    outbox.end_turn(0.0)
    assert [(b.topics, b.count) for b in written(outbox)] == [("a\nb", 2), ("c", 73)]


def test_an_invalid_topic_harms_no_other_topic_of_the_call() -> None:
    outbox = connected(publish=("a",))
    outbox.put("b", b"1", None, 10.0)
    with pytest.raises(InvalidTopic):
        outbox.put("b c", b"2", None, 10.0)
    with pytest.raises(InvalidTopic):
        outbox.put_many("b c", [b"2"] * 5, None, 10.0)
    outbox.put("b", b"3", None, 10.0)
    outbox.end_turn(0.0)
    assert [(b.topics, bytes(b.payloads)) for b in written(outbox)] == [("b", b"13")]


def test_another_destination_or_timeout_begins_another_batch_in_order() -> None:
    outbox = connected()
    outbox.put("t", b"0", None, 10.0)
    outbox.put("t", b"1", "b", 10.0)
    outbox.put("t", b"2", None, 1.0)
    outbox.end_turn(0.0)
    assert [(b.to, bytes(b.payloads)) for b in written(outbox)] == [
        (None, b"0"),
        ("b", b"1"),
        (None, b"2"),
    ]


def test_a_batch_is_bounded_in_bytes_and_messages() -> None:
    outbox = connected(window=100)
    for _ in range(10):
        outbox.put("t", b"x" * 60_000, None, 10.0)
    for _ in range(10_000):
        outbox.put("t", b"", None, 10.0)
    outbox.end_turn(0.0)
    batches = written(outbox)
    assert all(len(b.payloads) <= BATCH_BYTES and b.count <= 2176 for b in batches)
    assert sum(b.count for b in batches) == 10_010


def test_a_message_larger_than_a_batch_travels_alone() -> None:
    outbox = connected()
    outbox.put("t", b"small", None, 10.0)
    outbox.put("t", b"x" * (BATCH_BYTES + 1), None, 10.0)
    outbox.put("t", b"small", None, 10.0)
    outbox.end_turn(0.0)
    assert [b.count for b in written(outbox)] == [1, 1, 1]


@pytest.mark.parametrize("max_batch", [1, 2, 7, 10, 100, 3000])
def test_a_batch_has_no_more_messages_than_the_broker_takes(max_batch: int) -> None:
    outbox = connected(window=10_000, max_batch=max_batch)
    for _ in range(5000):
        outbox.put("t", b"x", None, 10.0)
    outbox.end_turn(0.0)
    counts = [b.count for b in written(outbox)]
    assert sum(counts) == 5000
    assert max(counts) <= max_batch
    assert max_batch <= 2 or len(counts) < 5000


@pytest.mark.parametrize("max_frame", [1, 500, 1200, 5000, 64 * 1024, 200_000])
@pytest.mark.parametrize("topic", ["t{}", "long" * 60 + "{}", "\U0001f389" * 60 + "{}"])
@pytest.mark.parametrize("size", [0, 1, 100, 1000, 20_000])
def test_no_frame_is_longer_than_the_broker_takes(max_frame: int, topic: str, size: int) -> None:
    outbox = connected(window=10_000, max_frame=max_frame)
    put, refused = 0, 0
    for i in range(300):
        try:
            outbox.put(topic.format(i), b"x" * size, "n" * 64, 10.0)
            put += 1
        except MessageTooLarge:
            refused += 1
    outbox.end_turn(0.0)
    wire = b"".join(outbox.writable())
    frames = [len(view) for view in feed(FrameReader(2**24), wire)]
    assert all(frame <= max_frame for frame in frames)
    assert (put, refused) == ((300, 0) if size + 390 <= max_frame else (0, 300))
    if max_frame > 50_000 and size <= 1000:
        assert len(frames) < 30


def test_the_largest_message_fits_and_one_byte_more_is_refused() -> None:
    outbox = connected(max_frame=2000)
    with pytest.raises(MessageTooLarge) as refused:
        outbox.put("t", b"x" * 2000, None, 10.0)
    largest = refused.value.limit
    outbox.put("t" * 255, b"x" * largest, "n" * 64, 10.0)
    with pytest.raises(MessageTooLarge):
        outbox.put("t", b"x" * (largest + 1), None, 10.0)
    outbox.end_turn(0.0)
    frame = b"".join(outbox.writable())
    assert largest + 255 < len(frame) <= 2000


def test_only_batches_too_large_for_a_restarted_broker_fail() -> None:
    outbox = connected(window=2)
    sent = put(outbox, b"x" * 50_000)
    written(outbox)
    small = put(outbox, b"small")
    written(outbox)
    waiting = put(outbox, b"y" * 50_000)
    outbox.disconnected("cut")
    assert connect(outbox, 4, 20_000, 100) == [sent, waiting]
    assert isinstance(sent.outcome, BatchFailed)
    assert isinstance(sent.outcome.error(), PublishUnknown)
    assert "20000" in str(sent.outcome.error())
    assert isinstance(waiting.outcome, BatchFailed)
    error = waiting.outcome.error()
    assert isinstance(error, MessageTooLarge)
    assert (error.limit, error.unit) == (20_000, "bytes")
    assert 50_000 < error.size < 50_200
    assert [(b.sequence, bytes(b.payloads)) for b in written(outbox)] == [(1, b"small")]
    assert small.outcome is None
    outbox.receipt(Receipt(1, EPOCH, 0))
    assert list(outbox.unfinished()) == []


def test_an_open_batch_obeys_the_limits_of_the_new_broker() -> None:
    outbox = connected()
    outbox.put("t", b"x" * 1000, None, 10.0)
    outbox.disconnected("cut")
    assert connect(outbox, 4, 3000, 100) == []
    for _ in range(5):
        outbox.put("t", b"x" * 1000, None, 10.0)
    outbox.end_turn(0.0)
    assert sum(b.count for b in written(outbox)) == 4  # The window.
    for sequence in range(4):
        outbox.receipt(Receipt(sequence, EPOCH, sequence))
    assert sum(b.count for b in written(outbox)) == 2


def test_a_batch_refused_by_two_brokers_is_not_unknown() -> None:
    outbox = connected()
    outgoing = put(outbox, b"x" * 50_000)
    written(outbox)
    outbox.disconnected("a is stopping", turned_away=True)
    connect(outbox, 4, 20_000, 100)
    assert isinstance(outgoing.outcome, BatchFailed)
    assert isinstance(outgoing.outcome.error(), MessageTooLarge)


def test_a_loss_that_was_made_good_is_no_reason_any_more() -> None:
    outbox = connected()
    outbox.disconnected("cut")
    connect(outbox, 4, 2**24, 100)
    outgoing = put(outbox, b"0", timeout_s=1.0)
    written(outbox)
    outbox.expire(1.0)
    assert isinstance(outgoing.outcome, BatchFailed)
    assert "cut" not in str(outgoing.outcome.error())


def test_a_refused_message_changes_nothing() -> None:
    outbox = connected()
    outbox.put("t", b"0", None, 10.0)
    with pytest.raises(InvalidTopic):
        outbox.put("no topic", b"1", None, 10.0)
    with pytest.raises(InvalidTopic):
        outbox.put("no topic", b"1", "b", 10.0)
    with pytest.raises(MessageTooLarge):
        outbox.put("t", b"x" * (2**20 + 1), None, 10.0)
    outbox.end_turn(0.0)
    assert [bytes(b.payloads) for b in written(outbox)] == [b"0"]


def test_the_window_bounds_unanswered_batches_and_others_coalesce() -> None:
    outbox = connected(window=1)
    first = put(outbox, b"0")
    assert [b.sequence for b in written(outbox)] == [0]
    put(outbox, b"1", now=0.001)
    put(outbox, b"2", now=0.002)
    assert written(outbox) == []
    assert outbox.receipt(Receipt(0, EPOCH, 5)) is first
    assert [(b.sequence, bytes(b.payloads)) for b in written(outbox)] == [(1, b"12")]


def test_a_waiting_batch_stays_open_for_a_bounded_time() -> None:
    outbox = connected(window=1)
    put(outbox, b"0")
    written(outbox)
    early = put(outbox, b"1", now=1.0)
    put(outbox, b"2", now=1.0 + LONGEST_OPEN_S)
    late = put(outbox, b"3", now=1.1 + LONGEST_OPEN_S)
    assert early is not late


def test_full_holds_until_half_of_the_window_is_free() -> None:
    outbox = connected(window=4)
    for i in range(4):
        put(outbox, b"%d" % i)
        written(outbox)
    assert outbox.full
    outbox.receipt(Receipt(0, EPOCH, 0))
    assert outbox.full
    outbox.receipt(Receipt(1, EPOCH, 1))
    assert not outbox.full


def test_full_by_bytes_before_the_window_is() -> None:
    outbox = connected(window=1000)
    for _ in range(9):
        put(outbox, b"x" * 1024 * 1024)
    assert outbox.full


def test_retry_keeps_sequence_and_content_and_goes_before_what_waits() -> None:
    outbox = connected(window=2)
    for i in range(3):
        put(outbox, b"%d" % i)
        outbox.writable()
    outbox.disconnected("cut")
    put(outbox, b"new", now=LONGEST_OPEN_S)
    assert written(outbox) == []
    connect(outbox, 16)
    assert [(b.sequence, b.retry, bytes(b.payloads)) for b in written(outbox)] == [
        (0, True, b"0"),
        (1, True, b"1"),
        (2, False, b"2new"),
    ]


def test_what_was_answered_before_the_loss_is_not_sent_again() -> None:
    outbox = connected()
    put(outbox, b"0")
    written(outbox)
    put(outbox, b"1")
    written(outbox)
    outbox.receipt(Receipt(0, EPOCH, 0))
    outbox.disconnected("cut")
    connect(outbox, 4)
    assert [b.sequence for b in written(outbox)] == [1]


def test_a_receipt_places_the_whole_batch() -> None:
    outbox = connected()
    outgoing = put(outbox, b"0")
    written(outbox)
    assert outbox.receipt(Receipt(0, EPOCH, 41)) is outgoing
    assert isinstance(outgoing.outcome, Placed)
    assert (outgoing.outcome.node, outgoing.outcome.epoch, outgoing.outcome.first) == (
        "a",
        EPOCH.hex(),
        41,
    )


@pytest.mark.parametrize("sequence", [1, 7])
def test_an_answer_out_of_turn_is_a_violation(sequence: int) -> None:
    outbox = connected()
    put(outbox, b"0")
    written(outbox)
    put(outbox, b"1")
    written(outbox)
    with pytest.raises(ProtocolError):
        outbox.receipt(Receipt(sequence, EPOCH, 0))


def test_a_deadline_before_writing_is_unavailable_without_sequence() -> None:
    outbox = connected()
    outbox.disconnected("cut")
    early = put(outbox, b"0", now=0.0, timeout_s=1.0)
    late = put(outbox, b"1", now=0.0, timeout_s=9.0)
    assert outbox.next_deadline() == 1.0
    assert outbox.expire(0.999) == []
    assert outbox.expire(1.0) == [early]
    assert isinstance(early.outcome, BatchFailed)
    assert isinstance(early.outcome.error(), BrokerUnavailable)
    connect(outbox, 4)
    assert [(b.sequence, bytes(b.payloads)) for b in written(outbox)] == [(0, b"1")]
    assert late.outcome is None


def test_a_deadline_after_writing_is_unknown_despite_a_late_answer() -> None:
    outbox = connected()
    first = put(outbox, b"0", timeout_s=1.0)
    written(outbox)
    second = put(outbox, b"1")
    written(outbox)
    assert outbox.expire(1.0) == [first]
    assert isinstance(first.outcome, BatchFailed)
    assert isinstance(first.outcome.error(), PublishUnknown)
    assert outbox.receipt(Receipt(0, EPOCH, 0)) is None
    assert outbox.receipt(Receipt(1, EPOCH, 1)) is second


def test_what_was_given_up_is_not_sent_again() -> None:
    outbox = connected()
    put(outbox, b"0", timeout_s=1.0)
    written(outbox)
    put(outbox, b"1")
    written(outbox)
    outbox.expire(1.0)
    outbox.disconnected("cut")
    connect(outbox, 4)
    assert [b.sequence for b in written(outbox)] == [1]


def test_deadline_of_a_written_batch_on_a_lost_connection_is_unknown() -> None:
    outbox = connected()
    outgoing = put(outbox, b"0", timeout_s=1.0)
    written(outbox)
    outbox.disconnected("cut")
    assert outbox.expire(2.0) == [outgoing]
    assert isinstance(outgoing.outcome, BatchFailed)
    assert isinstance(outgoing.outcome.error(), PublishUnknown)
    assert list(outbox.unfinished()) == []


def test_giving_up_all_leaves_nothing() -> None:
    outbox = connected(window=1)
    for i in range(3):
        put(outbox, b"%d" % i)
        outbox.writable()
    assert len(outbox.give_up_all("closed")) == 2
    assert list(outbox.unfinished()) == []


def test_an_error_is_another_object_for_each_who_gets_it() -> None:
    failed = BatchFailed(BrokerUnavailable("/socket", "gone"))
    one, other = failed.error(), failed.error()
    assert one is not other
    assert str(one) == str(other)
    assert isinstance(other, BrokerUnavailable)
    assert other.socket == "/socket"


def test_a_batch_refused_by_a_stopping_broker_goes_out_as_new() -> None:
    outbox = connected()
    expires, goes_on = put(outbox, b"0", timeout_s=1.0), put(outbox, b"1", timeout_s=5.0)
    assert len(written(outbox)) == 2
    outbox.disconnected("a is stopping", turned_away=True)
    assert outbox.expire(1.0) == [expires]
    assert isinstance(expires.outcome, BatchFailed)
    assert isinstance(expires.outcome.error(), BrokerUnavailable)
    connect(outbox, 4)
    (batch,) = written(outbox)
    assert (bytes(batch.payloads), batch.retry) == (b"1", False)
    outbox.disconnected("lost")
    assert outbox.expire(5.0) == [goes_on]
    assert isinstance(goes_on.outcome, BatchFailed)
    assert isinstance(goes_on.outcome.error(), PublishUnknown)


def test_with_a_new_id_sent_batches_are_unknown_and_others_go_out() -> None:
    outbox = connected(window=2)
    retried = put(outbox, b"0")
    assert len(written(outbox)) == 1
    sent = put(outbox, b"1")
    assert len(written(outbox)) == 1
    waits = put(outbox, b"2")
    outbox.disconnected("lost")
    connect(outbox, 2)
    assert [batch.retry for batch in written(outbox)] == [True, True]
    assert outbox.disowned("another has this id") == [retried, sent]
    for outgoing in (retried, sent):
        assert isinstance(outgoing.outcome, BatchFailed)
        assert isinstance(outgoing.outcome.error(), PublishUnknown)
    assert waits.outcome is None
    connect(outbox, 2)
    (batch,) = written(outbox)
    assert (bytes(batch.payloads), batch.retry) == (b"2", False)


def test_a_retry_refused_by_a_stopping_broker_may_stand_from_before() -> None:
    outbox = connected()
    outgoing = put(outbox, b"0", timeout_s=1.0)
    written(outbox)
    outbox.disconnected("lost")
    connect(outbox, 4)
    written(outbox)
    outbox.disconnected("a is stopping", turned_away=True)
    connect(outbox, 4)
    (batch,) = written(outbox)
    assert batch.retry
    outbox.expire(1.0)
    assert isinstance(outgoing.outcome, BatchFailed)
    assert isinstance(outgoing.outcome.error(), PublishUnknown)


@pytest.mark.parametrize("seed", range(50))
def test_sequences_only_rise_on_every_connection(
    seed: int,
) -> None:
    chance = random.Random(seed)
    outbox = connected(window=chance.choice([1, 3, 8]))
    now, unanswered, sent = 0.0, deque[int](), [-1]
    for _ in range(200):
        now += chance.random()
        match chance.choice(["put", "put", "write", "write", "answer", "lose", "expire"]):
            case "put":
                put(outbox, b"x", now, timeout_s=chance.choice([3.0, 30.0]))
            case "write":
                for batch in written(outbox):
                    assert batch.sequence > sent[-1]
                    sent.append(batch.sequence)
                    unanswered.append(batch.sequence)
            case "answer" if unanswered:
                outbox.receipt(Receipt(unanswered.popleft(), EPOCH, 0))
            case "lose":
                outbox.disconnected("lost", turned_away=chance.random() < 0.3)
                connect(outbox, chance.choice([1, 3, 8]))
                unanswered.clear()
                sent = [-1]
            case "expire":
                outbox.expire(now)

"""A node's own stream: what gets a place, and what is refused without a trace."""

from __future__ import annotations

import pytest
from tests.unit.core.builders import E1, E2, MANY, PUBLISHER, Impatient, at, view
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import ITEM_OVERHEAD, Now
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.streams.publishers import PublisherRecord
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import At, Expired, Reason, Resume
from pubsubd_protocol.entries import Batch, Entry, open_entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Receipt, Rejected
from pubsubd_protocol.positions import MAX_OFFSET


def a_stream(
    *, ring_messages: int = 10, ring_bytes: int = MANY, max_message: int = 100, offset: int = 0
) -> Stream:
    stream = Stream(
        "a",
        E1,
        ring_messages=ring_messages,
        ring_bytes=ring_bytes,
        max_message=max_message,
        pace=Pace(0),
    )
    stream.begin((), offset, (), ())
    return stream


def publish(
    stream: Stream,
    *payloads: bytes,
    sequence: int = 1,
    retry: bool = False,
    by: PublisherRecord | None = None,
    batch: Batch | None = None,
) -> Receipt | Rejected:
    batch = batch or batch_of(
        [("t", payload) for payload in payloads], sequence=sequence, retry=retry
    )
    publisher = by or PublisherRecord(8, forgotten=False)
    outcome = stream.publish(batch, publisher, PUBLISHER, Now(0, 5), Impatient())
    assert isinstance(outcome, (Receipt, Rejected))
    return outcome


def test_messages_take_the_next_places_in_order() -> None:
    stream, publisher = a_stream(), PublisherRecord(8, forgotten=False)
    assert publish(stream, b"x", b"y", sequence=1, by=publisher) == Receipt(1, E1, 0)
    assert publish(stream, b"z", sequence=2, by=publisher) == Receipt(2, E1, 2)
    assert stream.log.end_position == at(3)
    held = stream.log[1]
    assert isinstance(held, Entry)
    assert open_entry(held).frame.endswith(b"z")
    assert open_entry(held).publisher == PUBLISHER


def test_a_retry_takes_no_second_place() -> None:
    stream, publisher = a_stream(), PublisherRecord(8, forgotten=False)
    first = publish(stream, b"x", by=publisher)
    assert publish(stream, b"x", retry=True, by=publisher) == first
    assert stream.next == 1


def test_the_retry_of_another_message_is_a_violation_and_gets_no_receipt() -> None:
    stream, publisher = a_stream(), PublisherRecord(8, forgotten=False)
    publish(stream, b"x", sequence=1, by=publisher)
    publish(stream, b"y", sequence=2, by=publisher)
    others = (
        batch_of([("t", b"y")], sequence=1, retry=True),
        batch_of([("u", b"x")], sequence=1, retry=True),
        batch_of([("t", b"x")], sequence=1, retry=True, to="b"),
        batch_of([("t", b"x"), ("t", b"")], sequence=1, retry=True),
    )
    for other in others:
        with pytest.raises(ProtocolError, match="two publishers have one id"):
            publish(stream, batch=other, by=publisher)
    assert publish(stream, b"x", sequence=1, retry=True, by=publisher) == Receipt(1, E1, 0)
    assert stream.next == 2


def test_the_retry_of_an_evicted_batch_gets_its_first_answer() -> None:
    stream, publisher = a_stream(ring_messages=1), PublisherRecord(8, forgotten=False)
    first = publish(stream, b"x", sequence=1, by=publisher)
    publish(stream, b"y", sequence=2, by=publisher)
    assert publish(stream, b"x", sequence=1, retry=True, by=publisher) == first


def test_a_new_batch_under_an_answered_sequence_is_a_violation() -> None:
    stream, publisher = a_stream(), PublisherRecord(8, forgotten=False)
    publish(stream, b"x", by=publisher)
    for payload in (b"x", b"y"):
        with pytest.raises(ProtocolError, match="not marked as a retry"):
            publish(stream, payload, by=publisher)
    assert stream.next == 1


@pytest.mark.parametrize("free", [0, 1, 2])
def test_at_the_last_offset_a_batch_is_refused_and_nothing_wraps(free: int) -> None:
    stream = a_stream(offset=MAX_OFFSET - free)
    outcome = publish(stream, b"x", b"y")
    if free == 2:
        assert outcome == Receipt(1, E1, MAX_OFFSET - 2)
        assert stream.next == MAX_OFFSET
    else:
        assert isinstance(outcome, Rejected)
        assert outcome.code == "stream_full"
        assert str(MAX_OFFSET) in outcome.detail
        assert stream.view == view(MAX_OFFSET - free, MAX_OFFSET - free)


def test_a_batch_larger_than_the_ring_is_refused_with_figures() -> None:
    stream = a_stream(ring_messages=3)
    publish(stream, b"kept")
    outcome = publish(stream, *[b""] * 4)
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.size, outcome.limit) == ("too_many_messages", 4, 3)
    assert "messages" in outcome.detail
    assert stream.view == view(0, 1)


def test_a_batch_of_more_bytes_than_the_ring_is_refused_with_figures() -> None:
    stream = a_stream(ring_bytes=ITEM_OVERHEAD + 200)
    publish(stream, b"kept")
    outcome = publish(stream, *[b"x" * 99] * 3)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "too_large"
    assert outcome.size is not None
    assert outcome.size > 3 * 99
    assert outcome.limit == ITEM_OVERHEAD + 200
    assert stream.view == view(0, 1)


def test_a_message_over_the_limit_is_refused_with_figures() -> None:
    stream = a_stream(max_message=4)
    outcome = publish(stream, b"abcd", b"abcde")
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.size, outcome.limit) == ("too_large", 5, 4)
    assert stream.next == 0


def test_a_bad_topic_is_refused_and_remembered() -> None:
    stream, publisher = a_stream(), PublisherRecord(8, forgotten=False)
    bad = batch_of([("has space", b"")])
    outcome = publish(stream, batch=bad, by=publisher)
    assert isinstance(outcome, Rejected)
    assert outcome.code == "invalid_topic"
    assert publish(stream, b"good now", retry=True, by=publisher) is outcome
    assert stream.next == 0


def test_a_batch_that_contradicts_itself_is_a_violation() -> None:
    broken = Batch(1, False, None, "t", b"", b"\x01\x00\x00\x00", b"two bytes")
    with pytest.raises(ProtocolError):
        publish(a_stream(), batch=broken)


def test_it_answers_by_the_attach_rule() -> None:
    stream = a_stream(ring_messages=2)
    for sequence in range(5):
        publish(stream, b"", sequence=sequence)
    assert stream.answer(At(at(3))) == (view(3, 5), Resume(3))
    assert stream.answer(At(at(2)))[1] == Expired(Reason.OVERWRITTEN, 5, 3)
    assert stream.answer(At(at(6)))[1] == Expired(Reason.AHEAD, 5, None)
    assert stream.answer(At(at(3, E2)))[1] == Expired(Reason.STATE_LOST, 5, None)
    assert (stream.origin, stream.log.end_position) == (at(0), at(5))

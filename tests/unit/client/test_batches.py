"""A batch: a sequence of messages over an entry's columns."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.client.fake_broker import entry, raw_entry

import pubsubd
from pubsubd import JSON, MSGPACK, RAW, Batch, Codec, DecodeError, Message
from pubsubd.batch import batch_of
from pubsubd.inbox import Inbox
from pubsubd.resume import Arrived
from pubsubd_protocol.entries import part_of

MIXED = ("t", "u", "v")


def a_batch(*payloads: object, start: int = 0) -> Batch:
    return batch_of(entry(0, *payloads), start, MSGPACK)


def raw_batch(*raws: bytes, codec: Codec = MSGPACK) -> Batch:
    return batch_of(raw_entry(0, *raws), 0, codec)


def test_columns_and_messages_agree() -> None:
    batch = batch_of(entry(5, 10, 20, 30, topics=MIXED), 0, MSGPACK)
    assert (batch.topics, [*batch.offsets], batch.raws) == (
        [*MIXED],
        [5, 6, 7],
        [b"\x0a", b"\x14", b"\x1e"],
    )
    assert batch.payloads() == [10, 20, 30]
    shown = [(m.topic, m.offset, m.raw, m.payload, m.node, m.epoch, m.time) for m in batch]
    of_all = batch.node, batch.epoch, batch.time
    assert shown == [
        (topic, offset, raw, payload, *of_all)
        for topic, offset, raw, payload in zip(
            batch.topics, batch.offsets, batch.raws, batch.payloads(), strict=True
        )
    ]


def test_a_batch_is_used_like_a_list() -> None:
    batch = a_batch(1, 2, 3)
    whole = [*batch]
    assert isinstance(batch, Sequence)
    assert len(batch) == 3
    assert batch == whole
    assert whole == batch
    assert batch != whole[:2]
    assert batch != tuple(whole)
    assert (batch[0], batch[-1], batch[1:], batch[::-1]) == (
        whole[0],
        whole[2],
        whole[1:],
        whole[::-1],
    )
    assert (batch + whole, whole + batch) == (whole * 2, whole * 2)
    assert [*reversed(batch)] == whole[::-1]
    assert whole[1] in batch
    assert batch.index(whole[2]) == 2
    match batch:
        case [first, *_]:
            assert first is whole[0]
    with pytest.raises(IndexError):
        batch[3]
    with pytest.raises(TypeError):
        hash(batch)


def test_a_message_is_made_once() -> None:
    batch = a_batch([1], [2], [3])
    last = batch[-1]
    last.payload.append("changed")
    assert batch[2] is last
    assert [*batch][2] is last
    assert batch[2].payload == [3, "changed"]


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_messages_before_the_start_are_left_out(start: int) -> None:
    batch = batch_of(entry(0, 10, 20, 30, topics=MIXED), start, MSGPACK)
    rest = slice(start, None)
    assert [*batch.offsets] == [0, 1, 2][rest]
    assert (batch.topics, batch.payloads()) == ([*MIXED][rest], [10, 20, 30][rest])
    assert [m.payload for m in batch] == [10, 20, 30][rest]


def test_a_part_has_the_offsets_of_its_own_messages() -> None:
    part = part_of(entry(0, 10, 20, 30, topics=MIXED), lambda topic: topic != "u")
    assert part is not None
    batch = batch_of(part, 1, MSGPACK)
    assert ([*batch.offsets], batch.topics, batch[0].payload) == ([2], ["v"], 30)


def test_a_batch_can_be_pickled_and_copied() -> None:
    batch = a_batch(1, 2)
    for again in (pickle.loads(pickle.dumps(batch)), copy.copy(batch), copy.deepcopy(batch)):
        assert again.payloads() == [m.payload for m in again] == [1, 2]


def test_a_batch_takes_the_rest_of_an_entry_read_one_by_one() -> None:
    inbox = Inbox(MSGPACK)
    inbox.put(Arrived(entry(0, 10, 20, 30), 0))
    assert inbox.advance()
    inbox.spread()
    assert inbox.messages.pop().payload == 10
    assert inbox.unread == 1
    batch = inbox.take_batch()
    assert ([*batch.offsets], batch.payloads()) == ([1, 2], [20, 30])
    assert not inbox.in_hand


one_object = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda of: st.lists(of, max_size=4) | st.dictionaries(st.text(max_size=4), of, max_size=4),
    max_leaves=8,
).map(msgpack.packb)
broken = st.sampled_from(
    [
        *(b"", b"\xc1", b"\x01\x02", b"\x92", b"\x92\x01", b"\xa5ab", b"\xa1\xff"),
        *(b"\xdd\xff\xff\xff\xff", b"\xdf\x00\x00\x00\x09\x01", b"\x81\x90\x01"),
        *(b"\xc7\x01", b"\xd6\xff\x00\x00\x00\x01"),
    ]
)


def outcome(decode: Callable[[], list[Any]]) -> object:
    """The values, or the error with its place."""
    try:
        # As text: a NaN is not equal to itself.
        return repr(decode())
    except DecodeError as error:
        return error.offset, str(error)


@given(st.lists(one_object | broken | st.binary(max_size=6), min_size=1, max_size=12))
def test_decoding_together_is_decoding_one_by_one(raws: list[bytes]) -> None:
    together, alone = raw_batch(*raws), raw_batch(*raws)
    assert outcome(together.payloads) == outcome(lambda: [m.payload for m in alone])


def test_two_objects_in_a_payload_do_not_shift_the_next_ones() -> None:
    # As one stream these are four objects in four payloads.
    with pytest.raises(DecodeError) as caught:
        raw_batch(b"\x01", b"\x02\x03", b"", b"\x04").payloads()
    assert caught.value.offset == 1


@pytest.mark.parametrize("codec", [RAW, JSON, Codec("mine", bytes, bytes.decode)])
def test_each_codec_decodes_a_batch(codec: Codec) -> None:
    batch = raw_batch(b"1", b"22", codec=codec)
    assert batch.payloads() == [m.payload for m in batch]


def test_payloads_make_no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object) -> Message:
        raise AssertionError("a message was made")

    batch = a_batch(1, 2)
    monkeypatch.setattr("pubsubd.batch.Message", made)
    assert batch.payloads() == [1, 2]
    assert (batch.topics, [*batch.offsets], len(batch.raws)) == (["t", "t"], [0, 1], 2)
    assert isinstance(batch, pubsubd.Batch)

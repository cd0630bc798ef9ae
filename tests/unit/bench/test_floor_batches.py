from __future__ import annotations

import pytest
from bench.floor.batches import BATCH_BYTES, MESSAGE_COST_BYTES, Packer, Unpacker

MESSAGES = [(f"topic.{i % 3}", bytes([i % 256]) * (i % 50)) for i in range(5000)]


def packed(messages: list[tuple[str, bytes]]) -> list[bytes]:
    """The bytes of each batch."""
    packer = Packer()
    batches = [full for topic, payload in messages if (full := packer.add(topic, payload))]
    return [b"".join(batch) for batch in [*batches, packer.take()]]


def unpacked(stream: bytes, step: int) -> list[tuple[str, bytes]]:
    """Messages that come out when `step` bytes arrive at a time."""
    unpacker = Unpacker()
    found: list[tuple[str, bytes]] = []
    for at in range(0, len(stream), step):
        part = stream[at : at + step]
        unpacker.space()[: len(part)] = part
        unpacker.received(len(part))
        for topics, payloads in unpacker.batches():
            found += zip(topics, payloads, strict=True)
    return found


@pytest.mark.parametrize("step", [1, 7, 1000, 65_536, 300_000])
def test_what_is_packed_comes_out_in_order_wherever_it_is_cut(step: int) -> None:
    messages = MESSAGES[:300] if step == 1 else MESSAGES
    assert unpacked(b"".join(packed(messages)), step) == messages


def test_a_batch_holds_as_many_messages_as_the_sdks() -> None:
    per_batch = BATCH_BYTES // (100 + MESSAGE_COST_BYTES)
    sizes = [len(unpacked(batch, len(batch))) for batch in packed([("t", bytes(100))] * 3000)]
    assert sizes[:-1] == [per_batch] * (len(sizes) - 1)


def test_one_large_message_is_alone_in_its_batch() -> None:
    large = ("t", bytes(2 * BATCH_BYTES))
    batches = packed([("t", b"a"), large, ("t", b"b")])
    assert [len(unpacked(batch, len(batch))) for batch in batches] == [1, 1, 1]


def test_nothing_collected_is_nothing_to_write() -> None:
    assert Packer().take() == []

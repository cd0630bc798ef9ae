"""Frames out of a byte stream, however it is cut."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feeding import feed
from tests.unit.examples import examples

from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.framing import BUFFER_BYTES, SMALL_BUFFER_BYTES, FrameReader

LIMIT = 16 * 1024 * 1024


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def receive(reader: FrameReader, data: bytes, step: int) -> list[bytes]:
    """The frames of a receiver that writes at most `step` bytes at a time into the reader's buffer."""
    frames: list[bytes] = []
    rest = memoryview(data)
    while rest:
        space = reader.space()
        assert len(space) >= 1
        count = min(step, len(space), len(rest))
        space[:count] = rest[:count]
        reader.received(count)
        rest = rest[count:]
        frames += map(bytes, reader.frames())
    return frames


def held_bytes(reader: FrameReader) -> int:
    """The size of the reader's buffer."""
    return len(reader.space()) + reader._end


def test_a_frame_comes_out_whole_at_every_split_point() -> None:
    stream = framed(b"first") + framed(b"x") + framed(b"the third")
    for cut in range(len(stream) + 1):
        reader = FrameReader(LIMIT)
        got = [bytes(f) for f in feed(reader, stream[:cut])]
        got += [bytes(f) for f in feed(reader, stream[cut:])]
        assert got == [framed(b"first"), framed(b"x"), framed(b"the third")]
        assert reader.unfinished == 0


def test_an_unfinished_frame_is_counted_and_kept() -> None:
    reader = FrameReader(LIMIT)
    assert list(feed(reader, framed(b"hello")[:-1])) == []
    assert reader.unfinished == 8
    assert [bytes(f) for f in feed(reader, b"o")] == [framed(b"hello")]


@pytest.mark.parametrize(
    ("begin", "protocol"),
    [
        (bytes.fromhex("16030100c8"), "TLS"),
        (bytes.fromhex("15030300020228"), "TLS"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
    ],
)
def test_another_protocol_is_told_from_a_violation_of_ours(begin: bytes, protocol: str) -> None:
    with pytest.raises(ProtocolError, match=f"begins like {protocol}: this port") as caught:
        list(feed(FrameReader(LIMIT), begin))
    assert caught.value.kind == "frame_length"


@given(
    st.lists(st.binary(min_size=1, max_size=9000), max_size=12),
    st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_feeding_pieces_of_any_size_yields_the_same_frames(
    bodies: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(map(framed, bodies))
    whole = [bytes(f) for f in feed(FrameReader(LIMIT), stream)]
    reader = FrameReader(LIMIT)
    pieces: list[bytes] = []
    turn = 0
    rest = stream
    while rest:
        size = sizes[turn % len(sizes)]
        turn += 1
        pieces += [bytes(f) for f in feed(reader, rest[:size])]
        rest = rest[size:]
    assert whole == pieces == [framed(body) for body in bodies]


@given(st.lists(st.binary(min_size=1, max_size=9000), max_size=8), st.integers(1, 20_000))
def test_feed_does_what_space_and_received_do(bodies: list[bytes], step: int) -> None:
    stream = b"".join(map(framed, bodies))
    assert receive(FrameReader(LIMIT), stream, step) == [
        bytes(f) for f in feed(FrameReader(LIMIT), stream)
    ]


def test_many_small_frames_come_out_of_one_read() -> None:
    bodies = [str(i).encode() for i in range(20_000)]
    reader = FrameReader(LIMIT)
    assert [bytes(f)[4:] for f in feed(reader, b"".join(map(framed, bodies)))] == bodies


@pytest.mark.parametrize(
    "size",
    [
        SMALL_BUFFER_BYTES - 5,
        SMALL_BUFFER_BYTES - 4,
        SMALL_BUFFER_BYTES - 3,
        BUFFER_BYTES - 4,
        BUFFER_BYTES - 3,
        3 * BUFFER_BYTES,
    ],
)
def test_a_frame_as_large_as_the_buffer_or_larger_comes_out_whole(size: int) -> None:
    body = bytes(i % 251 for i in range(size))
    stream = framed(b"before") + framed(body) + framed(b"after")
    for step in (1000, 65_536):
        assert receive(FrameReader(LIMIT), stream, step) == [
            framed(b"before"),
            framed(body),
            framed(b"after"),
        ]


def test_the_buffer_never_grows_beyond_twice_what_arrived() -> None:
    reader = FrameReader(LIMIT)
    arrived = 0
    body = bytes(1_000_000)
    for start in range(0, len(body), 3000):
        piece = (struct.pack(">I", len(body)) if start == 0 else b"") + body[start : start + 3000]
        arrived += len(piece)
        for frame in feed(reader, piece):
            assert len(frame) == len(body) + 4
        assert held_bytes(reader) <= max(SMALL_BUFFER_BYTES, 2 * arrived)


def test_the_buffer_of_a_large_frame_is_given_back() -> None:
    reader = FrameReader(LIMIT)
    assert len(list(feed(reader, framed(bytes(5_000_000))))) == 1
    assert held_bytes(reader) == BUFFER_BYTES


def test_an_idle_connection_costs_the_small_buffer_only() -> None:
    reader = FrameReader(LIMIT)
    for _ in range(1000):
        assert len(list(feed(reader, framed(b"beat")))) == 1
    assert held_bytes(reader) == SMALL_BUFFER_BYTES


@pytest.mark.parametrize("length", [0, LIMIT + 1, 2**31, 2**32 - 1])
def test_a_length_beyond_the_limit_is_refused_before_taking_memory(length: int) -> None:
    reader = FrameReader(LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=f"a frame of {length} bytes") as caught:
            list(feed(reader, struct.pack(">I", length) + b"rest"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.kind == "frame_length"
    assert peak < 64 * 1024


def test_an_announced_length_takes_no_memory_until_bytes_arrive() -> None:
    reader = FrameReader(LIMIT)
    tracemalloc.start()
    try:
        assert list(feed(reader, struct.pack(">I", LIMIT) + b"a few")) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024


def test_the_longest_allowed_frame_passes_and_one_byte_more_does_not() -> None:
    assert len(list(feed(FrameReader(100), framed(bytes(100))))) == 1
    with pytest.raises(ProtocolError):
        list(feed(FrameReader(100), framed(bytes(101))))


def test_frames_before_a_broken_length_still_come_out() -> None:
    reader = FrameReader(LIMIT)
    frames = feed(reader, framed(b"good") + bytes(4))
    assert bytes(next(frames)) == framed(b"good")
    with pytest.raises(ProtocolError):
        next(frames)


@settings(max_examples=examples(200))
@given(st.binary(max_size=200), st.integers(1, 50))
def test_noise_yields_frames_within_the_limit_or_a_protocol_error(noise: bytes, step: int) -> None:
    with contextlib.suppress(ProtocolError):
        for frame in receive(FrameReader(64), noise, step):
            assert 5 <= len(frame) <= 68

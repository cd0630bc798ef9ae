"""Records: what is read back is what was written, up to the first byte that is not as it was written."""

from __future__ import annotations

import re
import struct

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubd_broker.core.journal.records import (
    FIRST_BYTES,
    FORMAT,
    HEADER_BYTES,
    Kind,
    first_line,
    format_of,
    record,
    scan,
)

Row = tuple[int, bytes]
"""Kind and body."""

ROWS: list[Row] = [
    (Kind.CHECKPOINT, b"all that is kept"),
    (Kind.ENTRY, b""),
    (Kind.ENTRY, b"\0" * 9),
    (Kind.CURSOR, b"b"),
    (Kind.SESSION, bytes(range(20))),
]

rows = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=6)


def segment_of(rows: list[Row]) -> bytes:
    buffers = [FIRST_BYTES]
    for kind, body in rows:
        buffers += record(Kind(kind), body)
    return b"".join(buffers)


def read(segment: bytes) -> list[Row]:
    return [(kind, body) for kind, body, _ in scan(segment)]


def ends_of(rows: list[Row]) -> list[int]:
    """At which byte of the segment each record ends."""
    return [len(segment_of(rows[: number + 1])) for number in range(len(rows))]


def test_the_bytes_on_disk_are_these() -> None:
    assert re.fullmatch(rb"pubsubd journal 3 [0-9a-f]{8}\n", FIRST_BYTES)
    assert format_of(FIRST_BYTES + b"anything") == FORMAT
    assert format_of(first_line(12)) == 12
    for at in range(len(FIRST_BYTES)):
        for bit in range(8):
            wrong = bytearray(FIRST_BYTES)
            wrong[at] ^= 1 << bit
            assert format_of(bytes(wrong)) is None
    assert [int(kind) for kind in Kind] == [1, 2, 3, 4, 5]
    # CRC-32C, whose check value is a published one.
    assert google_crc32c.value(b"123456789") == 0xE3069283
    counted = b"\x03\0\0\0\x02abc"
    assert b"".join(record(Kind.ENTRY, b"abc")) == (
        struct.pack("<I", google_crc32c.value(counted)) + counted
    )


@given(rows)
def test_written_records_are_read_back_with_their_ends(rows: list[Row]) -> None:
    segment = segment_of(rows)
    assert read(segment) == rows
    assert [end for _, _, end in scan(segment)] == ends_of(rows)


@given(st.lists(st.binary(max_size=10), max_size=4))
def test_a_record_of_several_buffers_is_that_of_all_of_them_joined(parts: list[bytes]) -> None:
    written = record(Kind.ENTRY, *parts)
    assert b"".join(written) == b"".join(record(Kind.ENTRY, b"".join(parts)))
    assert [id(part) for part in written[1:]] == [id(part) for part in parts]


def test_reading_can_begin_behind_a_record() -> None:
    ends = ends_of(ROWS)
    for number, end in enumerate(ends):
        found = [(kind, body) for kind, body, _ in scan(segment_of(ROWS), end)]
        assert found == ROWS[number + 1 :]


def test_cut_at_any_byte_exactly_the_whole_records_before_it_are_left() -> None:
    segment, ends = segment_of(ROWS), ends_of(ROWS)
    for cut in range(len(segment) + 1):
        whole = sum(end <= cut for end in ends)
        assert read(segment[:cut]) == ROWS[:whole], f"cut at {cut}"


def test_a_flipped_bit_ends_the_reading_right_before_its_record() -> None:
    segment, ends = segment_of(ROWS), ends_of(ROWS)
    for at in range(len(FIRST_BYTES), len(segment)):
        whole = sum(end <= at for end in ends)
        for bit in range(8):
            damaged = bytearray(segment)
            damaged[at] ^= 1 << bit
            assert read(bytes(damaged)) == ROWS[:whole], f"bit {bit} of byte {at}"


@pytest.mark.parametrize("zeros", [1, HEADER_BYTES, HEADER_BYTES + 1, 4096])
def test_a_tail_of_zeros_holds_no_record(zeros: int) -> None:
    segment = segment_of(ROWS)
    found = list(scan(segment + bytes(zeros)))
    assert [(kind, body) for kind, body, _ in found] == ROWS
    assert found[-1][2] == len(segment)
    assert read(FIRST_BYTES + bytes(zeros)) == []


def test_a_length_beyond_the_end_of_the_segment_ends_the_reading() -> None:
    counted = b"\xff\xff\xff\xff\x02abc"
    header = struct.pack("<I", google_crc32c.value(counted))
    assert read(segment_of(ROWS) + header + counted) == ROWS


@given(st.binary(max_size=200))
def test_arbitrary_bytes_yield_only_whole_records(data: bytes) -> None:
    begin = 0
    for kind, body, end in scan(data, 0):
        assert len(data[begin:end]) == HEADER_BYTES + len(body)
        counted = struct.pack("<IB", len(body), kind) + body
        assert data[begin:end] == struct.pack("<I", google_crc32c.value(counted)) + counted
        begin = end


@given(rows, st.binary(max_size=60))
def test_whole_records_are_read_before_any_tail(rows: list[Row], tail: bytes) -> None:
    assert read(segment_of(rows) + tail)[: len(rows)] == rows

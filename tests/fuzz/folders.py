"""The input of the target `recovery`: a journal's folder, as bytes.

    flags      uint8   1: set checksums right before reading, so that wrong records get past them
    segments   each: uint8 number, uint32 (big-endian) length, then that many bytes

Any bytes are a folder: a length beyond the end stops at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import google_crc32c

from pubsubd_broker.core.journal.records import FIRST_BYTES, HEADER_BYTES

SEALED: Final = 1

_HEAD: Final = struct.Struct(">BI")
_RECORD: Final = struct.Struct("<IIB")


def parse(folder: bytes) -> tuple[int, dict[int, bytes]]:
    flags = folder[0] if folder else 0
    segments: dict[int, bytes] = {}
    at = 1
    while len(folder) - at >= _HEAD.size:
        number, length = _HEAD.unpack_from(folder, at)
        at += _HEAD.size
        segments[number] = folder[at : at + length]
        at += length
    return flags, segments


def build(flags: int, segments: Mapping[int, bytes]) -> bytes:
    parts = [bytes((flags,))]
    for number, data in segments.items():
        parts += [_HEAD.pack(number % 256, len(data)), data]
    return b"".join(parts)


def records(segment: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of each record, with right and wrong checksums."""
    found, at = [], len(FIRST_BYTES)
    while len(segment) - at >= HEADER_BYTES:
        _, length, kind = _RECORD.unpack_from(segment, at)
        at += HEADER_BYTES
        if at + length > len(segment):
            break
        found.append((kind, segment[at : at + length]))
        at += length
    return found


def segment_of(found: list[tuple[int, bytes]], first: bytes = FIRST_BYTES) -> bytes:
    parts = [first]
    for kind, body in found:
        head = struct.pack("<IB", len(body), kind)
        parts += [struct.pack("<I", google_crc32c.value(head + body)), head, body]
    return b"".join(parts)


def sealed(segment: bytes) -> bytes:
    """The segment with right checksums, up to the first record whose length is wrong."""
    whole = segment_of(records(segment), segment[: len(FIRST_BYTES)])
    return whole + segment[len(whole) :]

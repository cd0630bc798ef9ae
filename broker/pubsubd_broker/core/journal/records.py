"""Records of a journal. A segment is a row of records behind a first line that names the format.

    crc      uint32  CRC-32C of all that follows
    length   uint32  of the body, in bytes
    kind     uint8
    body

All numbers are little-endian. A record that is not whole does not count.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import google_crc32c

FORMAT: Final = 3
"""The format that this version writes. Format 2 has no losses of earlier lives, and keeps a cursor as an offset. Format 1
also has no `END`, and its checkpoint does not say whether its life was durable.
"""

OLDEST_FORMAT: Final = 1
"""The oldest format that this version reads."""

_FIRST_LINE: Final = re.compile(rb"pubsubd journal (\d{1,9}) ([0-9a-f]{8})\n")


def first_line(version: int) -> bytes:
    """The first line of a segment. Its own checksum keeps a flipped bit from passing for another format."""
    text = b"pubsubd journal %d" % version
    return text + b" %08x\n" % google_crc32c.value(text)


FIRST_BYTES: Final = first_line(FORMAT)


def format_of(segment: bytes) -> int | None:
    """The format of a segment; None if its beginning is not readable."""
    line = _FIRST_LINE.match(segment)
    if line is None or line[0] != first_line(int(line[1])):
        return None
    return int(line[1])


_CRC: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IB")
HEADER_BYTES: Final = _CRC.size + _HEAD.size


class Kind(IntEnum):
    CHECKPOINT = 1
    """All state beside the entries, as of the segment's beginning."""
    ENTRY = 2
    """An entry of the stream."""
    CURSOR = 3
    """The new cursor of a consumer, or its removal."""
    SESSION = 4
    """The new positions of a named session, or its removal."""
    END = 5
    """The clean end of a life: no entry was placed behind this record."""


def record(kind: Kind, *parts: bytes) -> list[bytes]:
    """The buffers of one record. `parts`: the body, which is not copied."""
    head = _HEAD.pack(sum(map(len, parts)), kind)
    crc = google_crc32c.value(head)
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return [_CRC.pack(crc) + head, *parts]


def scan(segment: bytes, begin: int = len(FIRST_BYTES)) -> Iterator[tuple[int, bytes, int]]:
    """Yields `(kind, body, end)` of each record from byte `begin` on, up to the first that is not whole."""
    size = len(segment)
    while size - begin >= HEADER_BYTES:
        (crc,) = _CRC.unpack_from(segment, begin)
        length, kind = _HEAD.unpack_from(segment, begin + _CRC.size)
        end = begin + HEADER_BYTES + length
        if end > size or google_crc32c.value(segment[begin + _CRC.size : end]) != crc:
            return
        yield kind, segment[begin + HEADER_BYTES : end], end
        begin = end

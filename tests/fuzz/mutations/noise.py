"""Changes of bytes without knowledge of their meaning."""

from __future__ import annotations

from random import Random
from typing import Final

INTERESTING: Final = (
    *(b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xc0", b"\xc1", b"\x90", b"\x80", b"\xa0"),
    *(b"\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdc\x00\x20"),
    *(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"),
)
"""Ends of ranges, and bytes that announce long values in msgpack."""


def noisy(data: bytes, chance: Random) -> bytes:
    """`data` with one spot changed: a bit, a byte, or a piece that is missing, doubled, moved or new."""
    wire = bytearray(data)
    at = chance.randrange(len(wire) + 1)
    size = chance.choice((1, 1, 2, 4, 8, 32))
    match chance.randrange(7):
        case 0 if at < len(wire):
            wire[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(wire):
            wire[at] = (wire[at] + chance.choice((1, -1, 16, 128))) % 256
        case 2:
            del wire[at : at + size]
        case 3:
            wire[at:at] = wire[at : at + size]
        case 4:
            wire[at : at + size] = chance.choice(INTERESTING)
        case 5:
            piece = wire[at : at + size]
            del wire[at : at + size]
            there = chance.randrange(len(wire) + 1)
            wire[there:there] = piece
        case _:
            wire[at:at] = chance.randbytes(size)
    return bytes(wire)

"""What the target `handshake` is fed: a script of what strangers do to a node, as bytes.

    flags    uint8   how the node is set up
    steps    each: uint8 what to do and where, uint16 (big-endian) length, then that many bytes

Any bytes are a script: a length that goes too far ends with the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

MAX_STEPS: Final = 100
"""What comes after so many steps is not done: the work for one input is bounded."""

_HEAD: Final = struct.Struct(">BH")


class Flag(IntFlag):
    TINY_RING = 1
    PACED = 2
    JOURNAL = 4
    TINY_REPLICA = 8
    RECALLS = 16
    SECRET = 32


class Op(IntEnum):
    CLIENT = 0
    """A stranger connects where clients do."""
    PEER = 1
    """… where peers do."""
    SEND = 2
    """Bytes, at once."""
    DRIBBLE = 3
    """Bytes, a few at a time; the first one says how many."""
    DEAF = 4
    """It takes nothing more."""
    HEARS = 5
    """It takes what comes again."""
    WAIT = 6
    """Time passes; the first byte says how much."""
    LEAVE = 7
    """The connection is gone."""


@dataclass(frozen=True, slots=True)
class Step:
    """`wire`: 0 for the connection that was opened last, else counted from 1. The first ones are those that the node dialled."""

    op: Op
    data: bytes = b""
    wire: int = 0


def parse(script: bytes) -> tuple[Flag, list[Step]]:
    flags = Flag(script[0] & 63) if script else Flag(0)
    steps: list[Step] = []
    at = 1
    while len(script) - at >= _HEAD.size and len(steps) < MAX_STEPS:
        code, length = _HEAD.unpack_from(script, at)
        at += _HEAD.size
        steps.append(Step(Op(code & 7), script[at : at + length], code >> 3))
        at += length
    return flags, steps


def build(flags: Flag, steps: Iterable[Step]) -> bytes:
    """A step's data beyond 64 KiB is left out."""
    parts = [bytes((flags,))]
    for step in steps:
        data = step.data[:65_535]
        parts += [_HEAD.pack(step.op | (step.wire & 31) << 3, len(data)), data]
    return b"".join(parts)

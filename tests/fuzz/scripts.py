"""The input of the target `handshake`: a script of what strangers do to a node, as bytes.

    flags    uint8   settings of the node
    steps    each: uint8 operation and wire, uint16 (big-endian) length, then that many bytes

Any bytes are a script: a length beyond the end stops at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

MAX_STEPS: Final = 100
"""Further steps are not performed: this bounds the work for one input."""

_HEAD: Final = struct.Struct(">BH")


class Flag(IntFlag):
    TINY_RING = 1
    PACED = 2
    JOURNAL = 4
    TINY_REPLICA = 8
    RECOVERS = 16
    SECRET = 32


class Op(IntEnum):
    CLIENT = 0
    """A stranger connects where clients do."""
    PEER = 1
    """A stranger connects where peers do."""
    SEND = 2
    """Send the bytes at once."""
    DRIBBLE = 3
    """Send the bytes a few at a time. The first byte says how many."""
    DEAF = 4
    """Stop reading."""
    HEARS = 5
    """Read again."""
    WAIT = 6
    """Let time pass. The first byte says how much."""
    LEAVE = 7
    """Close the connection."""


@dataclass(frozen=True, slots=True)
class Step:
    """`wire`: 0 for the newest connection, else counted from 1. The first wires are those that the node dialled."""

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
    """Data of a step beyond 64 KiB is left out."""
    parts = [bytes((flags,))]
    for step in steps:
        data = step.data[:65_535]
        parts += [_HEAD.pack(step.op | (step.wire & 31) << 3, len(data)), data]
    return b"".join(parts)

"""The inputs that the broker reads from outside. Each target is a function of bytes that raises only for a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.fuzz import seeds
from tests.fuzz.mutations.folders import changed_folder
from tests.fuzz.mutations.frames import changed_frame, changed_stream
from tests.fuzz.mutations.requests import changed_requests
from tests.fuzz.mutations.scripts import changed_script
from tests.fuzz.targets import admin, codec, framing, handshake, recovery

KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A target. `mutate` changes an input at one spot; `donors` are parts that can replace one of its own."""

    name: str
    check: Callable[[bytes], None]
    mutate: Callable[[bytes, Random, Sequence[bytes]], bytes]
    seeds: Callable[[], list[bytes]]
    donors: Callable[[], list[bytes]]
    longest: int
    """Bytes of the longest input that is made for it."""
    least_memory: int
    memory_per_byte: int
    """Bytes of memory that it may take for each byte of its input, beside the least amount."""

    def memory_for(self, size: int) -> int:
        return self.least_memory + self.memory_per_byte * size


def _changed_frame(frame: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    return changed_frame(frame if chance.random() < 0.95 else chance.choice(donors), chance)


def _changed_framing(data: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    head, stream = data[: framing.HEAD_BYTES], data[framing.HEAD_BYTES :]
    if chance.random() < 0.2:
        head = chance.randbytes(framing.HEAD_BYTES)
    return head + changed_stream(stream, chance, donors)


TARGETS: Final = {
    target.name: target
    for target in (
        Target(
            "codec",
            codec.check,
            _changed_frame,
            seeds.frames,
            seeds.frames,
            8 * KIB,
            2048 * KIB,
            200,
        ),
        Target(
            "framing",
            framing.check,
            _changed_framing,
            seeds.streams,
            seeds.frames,
            32 * KIB,
            2048 * KIB,
            20,
        ),
        Target(
            "handshake",
            handshake.check,
            changed_script,
            seeds.scripts,
            seeds.frames_of_strangers,
            8 * KIB,
            8192 * KIB,
            400,
        ),
        Target(
            "recovery",
            recovery.check,
            changed_folder,
            seeds.folders,
            seeds.segments,
            16 * KIB,
            8192 * KIB,
            200,
        ),
        Target(
            "admin",
            admin.check,
            changed_requests,
            seeds.requests,
            seeds.requests,
            20 * KIB,
            1024 * KIB,
            100,
        ),
    )
}

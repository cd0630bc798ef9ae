"""A stream of bytes, split in different ways: equal frames, equal refusals, memory below the size of the input.

limit    uint8    the limit
steps    3 bytes  the lengths of the pieces, in turn
stream   the rest
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.feeding import feed

from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.framing import (
    BUFFER_BYTES,
    PREFIX_BYTES,
    SMALL_BUFFER_BYTES,
    FrameReader,
)

LIMITS: Final = (16 * 1024 * 1024, 64, 5000, 64 * 1024, 300_000)
HEAD_BYTES: Final = 4


def check(data: bytes) -> None:
    """Raises only for a fault."""
    head, stream = data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"), data[HEAD_BYTES:]
    limit = LIMITS[head[0] % len(LIMITS)]
    expected, refused = _cut(stream, limit)
    for steps in (head[1:], b"\xff\xff\xff", b"\x00" if len(stream) < 300 else b"\x07\x20"):
        frames, refusal, unfinished = _read(stream, limit, steps)
        assert frames == expected, "other frames when the bytes come in other pieces"
        assert refusal == refused, "another verdict when the bytes come in other pieces"
        taken = sum(map(len, expected))
        assert refused or unfinished == len(stream) - taken, "bytes are lost, or counted twice"
    reader = FrameReader(limit)
    fed: list[bytes] = []
    try:
        for frame in feed(reader, stream):
            fed.append(bytes(frame))  # noqa: PERF401
    except ProtocolError:
        assert refused
    assert fed == expected, "feeding gives other frames"
    reader.release()
    assert reader.unfinished == 0


def _cut(stream: bytes, limit: int) -> tuple[list[bytes], bool]:
    """The frames in `stream`, and whether a forbidden length ends it. Follows the definition alone."""
    frames: list[bytes] = []
    at = 0
    while len(stream) - at >= PREFIX_BYTES:
        length = int.from_bytes(stream[at : at + PREFIX_BYTES], "big")
        if not 0 < length <= limit:
            return frames, True
        end = at + PREFIX_BYTES + length
        if end > len(stream):
            break
        frames.append(stream[at:end])
        at = end
    return frames, False


def _read(stream: bytes, limit: int, steps: Sequence[int]) -> tuple[list[bytes], bool, int]:
    reader = FrameReader(limit)
    frames: list[bytes] = []
    for piece in _pieces(stream, steps):
        rest = piece
        while rest:
            space = reader.space()
            held = reader.unfinished
            # A partial frame takes at most twice its received bytes.
            most = max(BUFFER_BYTES, 4 * (held + SMALL_BUFFER_BYTES))
            assert 0 < len(space) <= most, f"room for {len(space)} bytes with {held} at hand"
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            reader.received(count)
            rest = rest[count:]
            try:
                for frame in reader.frames():
                    frames.append(bytes(frame))  # noqa: PERF401 - what came before a refusal counts
            except ProtocolError:
                return frames, True, reader.unfinished
    return frames, False, reader.unfinished


def _pieces(stream: bytes, steps: Sequence[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(stream):
        step = steps[turn % len(steps)]
        # Take small lengths as they are; let large ones reach beyond every buffer.
        size = 1 + step if step < 200 else (step - 199) ** 3
        yield stream[at : at + size]
        at += size
        turn += 1

"""Changes of frames and streams: fields, columns of a batch, false lengths, frames out of place."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from tests.fuzz.mutations.noise import noisy
from tests.fuzz.mutations.rearranged import rearrange
from tests.fuzz.mutations.trees import VALUES, changed, pack, unpack
from tests.unit.protocol.strategies import batch_of

from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import ENTRY_KIND, PUBLISH_KIND
from pubsubd_protocol.framing import PREFIX, PREFIX_BYTES

_COLUMNS: Final = {PUBLISH_KIND: ((4, "H"), (5, "I")), ENTRY_KIND: ((9, "H"), (10, "I"), (11, "I"))}
"""The place and the format of packed numbers, in the head of a batch and of an entry."""

_TOPICS: Final = {PUBLISH_KIND: 3, ENTRY_KIND: 8}

_NUMBERS: Final = (0, 1, 2, 3, 255, 256, 65_534, 65_535, 65_536, 2**31, 2**32 - 1)


def framed(body: bytes) -> bytes:
    return PREFIX.pack(len(body)) + body


def changed_frame(frame: bytes, chance: Random) -> bytes:
    """A frame, prefix included, changed at one spot. The prefix stays right most of the time."""
    body = frame[PREFIX_BYTES:]
    roll = chance.random()
    if roll < 0.05:
        return (
            PREFIX.pack(chance.choice((0, 1, len(body) + 1, len(body) - 1, 2**32 - 1)) % 2**32)
            + body
        )
    if roll < 0.2:
        return framed(noisy(body, chance))
    try:
        fields = unpack(body)
        if not isinstance(fields, list):
            raise ValueError("no array")
        if len(fields) >= 3 and fields[0] in (PUBLISH_KIND, ENTRY_KIND) and roll < 0.95:
            return framed(pack(_changed_batch(fields, chance)))
        return framed(pack(changed(fields, chance, 0 if roll > 0.97 else 1)))
    except (ValueError, TypeError):
        return framed(noisy(body, chance))


def changed_stream(stream: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    """Frames one after another. One frame is changed, missing, doubled, moved, or one of `donors`."""
    frames, rest = cut(stream)
    if not frames:
        return noisy(stream, chance)
    at = chance.randrange(len(frames))
    match chance.randrange(10):
        case 0 | 1 | 2 as how:
            rearrange(frames, at, how, chance)
        case 3 if donors:
            frames.insert(at, chance.choice(donors))
        case 4 if donors:
            frames.append(chance.choice(donors))
        case 5:
            return noisy(stream, chance)
        case _:
            frames[at] = changed_frame(frames[at], chance)
    return b"".join(frames) + rest


def cut(stream: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames of a stream, and the bytes behind them."""
    frames, begin = [], 0
    while len(stream) - begin >= PREFIX_BYTES:
        end = begin + PREFIX_BYTES + int(PREFIX.unpack_from(stream, begin)[0])
        if end > len(stream):
            break
        frames.append(stream[begin:end])
        begin = end
    return frames, stream[begin:]


def _changed_batch(fields: list[Any], chance: Random) -> list[Any]:
    kind, packed, payloads, *more = fields
    head = unpack(packed)
    columns, topics = _COLUMNS[kind], _TOPICS[kind]
    if not (
        isinstance(head, list)
        and isinstance(payloads, bytes)
        and len(head) > columns[-1][0]
        and isinstance(head[topics], str)
        and all(isinstance(head[at], bytes) for at, _ in columns)
    ):
        raise ValueError("not a batch any more")
    match chance.randrange(7):
        case 0:
            head = changed(head, chance)
        case 1:
            head[topics] = _changed_topics(head[topics], chance)
        case 2:
            payloads = noisy(payloads, chance)
        case 3:
            more = changed([*more, chance.choice(VALUES)], chance)
        case 4:
            return _another_batch(fields, head, chance)
        case _:
            at, typecode = chance.choice(columns)
            head[at] = _changed_numbers(typecode, head[at], chance)
    if chance.random() < 0.5:
        # Correct the sum, too, so that the change itself is looked at.
        at = columns[-1][0]
        if len(head) > at and isinstance(head[at], bytes):
            head[at] = _adding_up(head[at], len(payloads))
    return [kind, pack(head), payloads, *more]


def _changed_topics(joined: str, chance: Random) -> str:
    topics = joined.split("\n")
    at = chance.randrange(len(topics))
    match chance.randrange(5):
        case 0:
            del topics[at]
        case 1:
            topics.insert(at, topics[at])
        case 2:
            topics[at] = chance.choice(("", " ", "x" * 255, "x" * 256, "ü" * 128, "a.b", "\x7f"))
        case 3:
            topics += ["t"] * chance.choice((1, 2, 300))
        case _:
            topics.insert(at, f"topic.{chance.randrange(4)}")
    return "\n".join(topics)


def _changed_numbers(typecode: str, packed: bytes, chance: Random) -> bytes:
    size = array(typecode).itemsize
    numbers = array(typecode, packed[: len(packed) // size * size])
    at = chance.randrange(len(numbers) + 1)
    most = 256**size - 1
    match chance.randrange(6):
        case 0 if at < len(numbers):
            del numbers[at]
        case 1:
            numbers.insert(at, min(most, chance.choice(_NUMBERS)))
        case 2 if at < len(numbers):
            numbers[at] = (numbers[at] + chance.choice((1, -1))) % (most + 1)
        case 3 if at < len(numbers):
            numbers[at] = min(most, chance.choice(_NUMBERS))
        case 4:
            numbers.extend(numbers or [0])
        case _:
            return noisy(packed, chance)
    return numbers.tobytes()


def _adding_up(packed: bytes, total: int) -> bytes:
    lengths = array("I", packed[: len(packed) // 4 * 4])
    if lengths:
        lengths[-1] = min(2**32 - 1, max(0, total - sum(lengths[:-1])))
    return lengths.tobytes()


def _another_batch(fields: list[Any], head: list[Any], chance: Random) -> list[Any]:
    """An honest batch of another size, under the same head."""
    count = chance.choice((1, 2, 3, 17, 70))
    topics = [f"t.{n}" for n in range(chance.choice((1, 2, 5)))]
    messages = [
        (chance.choice(topics), chance.randbytes(chance.choice((0, 1, 9)))) for _ in range(count)
    ]
    kind, packed, payloads = unpack(encode(batch_of(messages))[PREFIX_BYTES:])
    made = unpack(packed)
    if fields[0] == PUBLISH_KIND:
        return [kind, pack([*head[:3], *made[3:]]), payloads]
    span = count + chance.choice((0, 0, 1))
    places = b"" if span == count else array("I", range(count)).tobytes()
    columns = [*head[:3], span, *head[4:8], made[3], made[4], places, made[5]]
    return [ENTRY_KIND, pack(columns), payloads]

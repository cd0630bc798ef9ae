"""Columns of a batch: its numbers, packed apart from its payloads.

    topics    the distinct topics, joined by line feeds
    index     uint16 per message: number of its topic in `topics`; empty if all have one topic
    lengths   uint32 per message: bytes of its payload
    payloads  all payloads, one after the other, opaque

A part of an entry has one more column:

    places    uint32 per message: its offset behind the entry's first; empty if all messages are there

Packed numbers are little-endian, the byte order of nearly every machine.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from struct import Struct

from pubsubd_protocol.errors import MessageTooLarge, ProtocolError
from pubsubd_protocol.topics import split_topics

MAX_BATCH_MESSAGES = 65_535
MAX_BATCH_TOPICS = 4096
"""Distinct topics in one batch. Each costs one match for each session that reads by patterns."""

REMEMBERED_LENGTHS = 4096
"""Lengths of messages whose codes `cut` remembers."""

_SWAP = sys.byteorder == "big"


class _Codes(dict[int, str]):
    """By length in bytes: the code of `struct` for such bytes. A known length costs no Python call."""

    __slots__ = ()

    def __missing__(self, length: int) -> str:
        if len(self) >= REMEMBERED_LENGTHS:
            self.clear()
        code = self[length] = f"{length}s"
        return code


_codes = _Codes()


def pack_numbers(typecode: str, numbers: Sequence[int]) -> bytes:
    """`numbers` as packed little-endian integers; `typecode` "H" for uint16, "I" for uint32."""
    packed = array(typecode, numbers)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def unpack_numbers(typecode: str, packed: bytes) -> array[int]:
    """The inverse of `pack_numbers`. Raises `ProtocolError` if the length is not a multiple of the number's size."""
    numbers: array[int] = array(typecode)
    if len(packed) % numbers.itemsize:
        raise ProtocolError(
            "malformed",
            f"packed numbers have {len(packed)} bytes: it must be a multiple of {numbers.itemsize}",
        )
    numbers.frombytes(packed)
    if _SWAP:
        numbers.byteswap()
    return numbers


def cut(buffer: bytes | memoryview, begin: int, lengths: Iterable[int]) -> list[bytes]:
    """The payloads of these lengths, one after the other in `buffer` from byte `begin` on.

    Each has bytes of its own. Cost: C loops only, about a third of a slice for each payload.
    """
    codes = "".join(map(_codes.__getitem__, lengths))
    return list(Struct(codes).unpack_from(buffer, begin))


def check_columns(joined: str, index: bytes, lengths: bytes, total: int, max_message: int) -> None:
    """Check that topics, index and lengths agree with each other, and with payloads of `total` bytes. Cost: C loops only.

    Raises `ProtocolError`, `InvalidTopic`, or `MessageTooLarge` for a message of more than `max_message` bytes.
    """
    # Count before splitting: a list of topics takes many times the memory of its text.
    distinct = joined.count("\n") + 1
    if distinct > MAX_BATCH_TOPICS:
        raise ProtocolError(
            "malformed", f"a batch has {distinct} topics, the limit is {MAX_BATCH_TOPICS}"
        )
    topics = split_topics(joined)
    sizes = unpack_numbers("I", lengths)
    if not 0 < len(sizes) <= MAX_BATCH_MESSAGES:
        raise ProtocolError(
            "malformed", f"a batch has {len(sizes)} messages, allowed are 1..{MAX_BATCH_MESSAGES}"
        )
    if sum(sizes) != total:
        raise ProtocolError(
            "malformed", f"lengths add up to {sum(sizes)} bytes, the payloads have {total}"
        )
    # No message is longer than all together; that saves a pass over the lengths of most batches.
    if total > max_message and max(sizes) > max_message:
        raise MessageTooLarge("a message", max(sizes), max_message)
    if index:
        which = unpack_numbers("H", index)
        if len(which) != len(sizes) or max(which) >= len(topics):
            raise ProtocolError(
                "malformed",
                f"the index does not fit {len(topics)} topics and {len(sizes)} messages",
            )
    elif len(topics) != 1:
        raise ProtocolError("malformed", f"a batch of {len(topics)} topics has an empty index")


def check_places(places: bytes, count: int, span: int) -> None:
    """Check that the places of `count` messages, 1 or more, increase within `span`. Raises `ProtocolError`."""
    where = unpack_numbers("I", places)
    if len(where) != count or where[-1] >= span or any(a >= b for a, b in pairwise(where)):
        raise ProtocolError(
            "malformed", f"the places of {count} messages do not fit {span} offsets"
        )

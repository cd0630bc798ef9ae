"""Layout of a batch's frame: head and payloads apart; and msgpack within limits.

A broker reads the numbers in the head without touching a payload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgpack

from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.framing import PREFIX

Container = TypeVar("Container", list[object], dict[object, object])

_BIN32: Final = 0xC6
_LENGTH_BYTES: Final = {0xC4: 1, 0xC5: 2, _BIN32: 4}
"""Bytes of a bin's length, by its marker."""

FRONT_BYTES: Final = 16
"""Bytes of a batch's frame besides its packed head and its payloads."""


_JOIN_BELOW: Final = 4096
"""Payloads up to this size are copied behind their head: cheaper than a second buffer. Larger ones are not copied."""


def wire_of(kind: int, head: Sequence[object], payloads: bytes) -> tuple[bytes, ...]:
    """The frame `[kind, bin head, bin payloads]`, prefix included, in one buffer or two."""
    packed: bytes = msgpack.packb(head)
    body = b"".join(
        (
            bytes((0x93, kind, _BIN32)),
            PREFIX.pack(len(packed)),
            packed,
            bytes((_BIN32,)),
            PREFIX.pack(len(payloads)),
        )
    )
    begin = PREFIX.pack(len(body) + len(payloads)) + body
    return (begin, payloads) if len(payloads) > _JOIN_BELOW else (begin + payloads,)


def split(frame: bytes | memoryview) -> tuple[list[object], memoryview, int]:
    """Head and payloads of `[kind, bin head, bin payloads]`, and the byte of the frame at which the payloads begin.

    The head is unpacked, the payloads are a view.
    """
    view = memoryview(frame)
    parts: list[memoryview] = []
    start, stop = 0, 6
    for _ in ("head", "payloads"):
        at = stop
        try:
            start = at + 1 + _LENGTH_BYTES[view[at]]
        except (KeyError, IndexError):
            raise ProtocolError(
                "malformed", f"expected msgpack bin at byte {at} of a batch"
            ) from None
        stop = start + int.from_bytes(view[at + 1 : start], "big")
        if stop > len(view):
            raise ProtocolError(
                "malformed",
                f"a part of a batch announces {stop - start} bytes, has {len(view) - start}",
            )
        parts.append(view[start:stop])
    head, payloads = parts
    if view[4] < 0x93:
        raise ProtocolError("malformed", "the frame of a batch must have a head and payloads")
    if view[4] == 0x93 and stop != len(view):
        raise ProtocolError("malformed", f"{len(view) - stop} bytes follow the payloads of a batch")
    fields = unpack_limited(head)
    if not isinstance(fields, list):
        raise ProtocolError("malformed", "the head of a batch must be an array")
    return fields, payloads, start


MAX_ITEMS = 16_384
_SURELY_SMALL = 16 * 1024


def unpack_limited(
    packed: bytes | memoryview, longest_map: int = 32, longest_array: int = 32
) -> object:
    """Unpack one msgpack object within limits. Raises `ProtocolError`.

    Arrays and maps are short, and all of them together hold at most `MAX_ITEMS`. Without that limit nested
    containers could fill the memory: an empty array is 1 byte on the wire and 64 bytes as an object.
    """
    # Counting costs a call per container. A short frame cannot hold many, so it is not counted.
    count = None if len(packed) <= _SURELY_SMALL else _item_counter()
    try:
        return msgpack.unpackb(
            packed,
            max_array_len=longest_array,
            max_map_len=longest_map,
            max_ext_len=0,
            list_hook=count,
            object_hook=count,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError(
            "malformed", f"msgpack: {type(error).__name__}: {str(error)[:200]}"
        ) from None


def _item_counter() -> Callable[[Container], Container]:
    left = MAX_ITEMS

    def count(container: Container) -> Container:
        nonlocal left
        left -= 1 + len(container)
        if left < 0:
            raise ProtocolError("malformed", f"more than {MAX_ITEMS} items in one frame")
        return container

    return count

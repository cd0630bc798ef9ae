"""Payloads to bytes and back. Brokers never decode a payload; the applications agree on a codec.

Each of these codecs can decode all that it encodes: `encode` refuses any other value.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgpack

from pubsubd.errors import InvalidArgument
from pubsubd_protocol.columns import cut


@dataclass(frozen=True, slots=True)
class Codec:
    """`decode(encode(value))` gives the value back. Both may raise any exception for a value that they cannot handle.

    The client turns such an exception into `EncodeError` or `DecodeError`. Brokers never decode a payload: the
    applications agree on a codec. Example:

    ```python
    PICKLE = pubsubd.Codec("pickle", pickle.dumps, pickle.loads)
    ```

    Raises `InvalidArgument` if `name` is not a string, or one of the two is not a function.
    """

    name: str
    """Shown in errors."""
    encode: Callable[[Any], bytes]
    """Payload to bytes."""
    decode: Callable[[bytes], Any]
    """Bytes to payload."""
    decode_all: Callable[[memoryview, Sequence[int]], list[Any]] | None = None
    """Optional, for `Batch.payloads`: decodes many payloads in one pass.

    It takes the payloads, one after the other, and their lengths. It returns what `decode` gives for each, or raises
    any exception. Then the client decodes them one by one.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not callable(self.encode) or not callable(self.decode):
            raise InvalidArgument(
                f"a codec is a name and two functions, encode and decode, not {self!r}"
            )


class _Packing(threading.local):
    """A msgpack packer for each thread: a packer keeps its buffer between calls."""

    def __init__(self) -> None:
        self.tuples = False
        """Whether the value being packed holds a tuple."""
        # Strict: the packer calls `plain` for values of other types, at no cost for values of msgpack's own types.
        self.pack: Callable[[Any], bytes] = msgpack.Packer(
            strict_types=True, default=self.plain
        ).pack

    def plain(self, value: Any) -> Any:
        """The value as one of msgpack's own types."""
        match value:
            case tuple():
                self.tuples = True
                return list(value)
            case dict():
                return dict(value)
            case list():
                return list(value)
            case str():
                return str.__str__(value)
            case int():
                return int.__int__(value)
            case float():
                return float.__float__(value)
            case bytes() | bytearray():
                return bytes(memoryview(value))
        raise TypeError(f"msgpack has no {type(value).__name__}")


_packing = _Packing()


def _pack(value: Any) -> bytes:
    packing = _packing
    raw = packing.pack(value)
    if packing.tuples:
        packing.tuples = False
        # A tuple comes back as a list, and a list cannot be the key of a dict.
        try:
            _unpack(raw)
        except TypeError:
            raise TypeError("a tuple cannot be the key of a dict in msgpack") from None
    return raw


_unpack: Callable[[bytes], Any] = functools.partial(msgpack.unpackb, strict_map_key=False)


def _unpack_all(column: memoryview, lengths: Sequence[int]) -> list[Any]:
    """The objects in `column`. Raises if a payload of these lengths is not exactly one object.

    The limits are those of `_unpack`, as for the longest payload: a small payload cannot announce a larger container.
    """
    longest = max(lengths)
    unpacker = msgpack.Unpacker(
        strict_map_key=False,
        max_buffer_size=len(column),
        max_str_len=longest,
        max_bin_len=longest,
        max_array_len=longest,
        max_map_len=longest // 2,
        max_ext_len=longest,
    )
    unpacker.feed(column)
    place = unpacker.tell
    values = []
    for value, end in zip(unpacker, accumulate(lengths), strict=True):
        if place() != end:
            raise ValueError("a payload is not exactly one object")
        values.append(value)
    return values


def _as_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"the raw codec publishes bytes, not {type(value).__name__}")


def _dump_json(value: Any) -> bytes:
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if isinstance(value, (dict, list, tuple)):
        _check_keys(value)
    return written.encode()


def _check_keys(value: Any) -> None:
    """Raises `TypeError` for a key that JSON would turn into a string. `value` must not contain itself."""
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict):
            for key in held:
                if not isinstance(key, str):
                    raise TypeError(
                        f"the key {key!r} of a dict is {type(key).__name__}: in JSON keys are strings"
                    )
            held = held.values()
        waiting += [one for one in held if isinstance(one, (dict, list, tuple))]


def _same(raw: bytes) -> bytes:
    return raw


def _same_all(column: memoryview, lengths: Sequence[int]) -> list[Any]:
    return cut(column, 0, lengths)


MSGPACK = Codec("msgpack", _pack, _unpack, _unpack_all)
"""The default: None, bool, int, float, str, bytes, list and dict, also nested. A tuple comes back as a list."""
RAW = Codec("raw", _as_bytes, _same, _same_all)
"""Bytes as they are. Takes bytes, bytearray and memoryview."""
JSON = Codec("json", _dump_json, json.loads)
"""JSON in UTF-8. A key of a dict must be a string; NaN and infinity are refused. A tuple comes back as a list."""

"""Payloads to bytes and back. A broker never looks into a payload; both applications agree on a codec."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack


@dataclass(frozen=True, slots=True)
class Codec:
    """`decode(encode(value))` gives the value back; `decode` may raise anything for foreign bytes."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class _PerThread(threading.local):
    """A packer keeps its buffer between calls, so each thread has its own."""

    def __init__(self) -> None:
        self.pack: Callable[[Any], bytes] = msgpack.Packer().pack


_packers = _PerThread()


def _pack(value: Any) -> bytes:
    return _packers.pack(value)


_unpack: Callable[[bytes], Any] = functools.partial(msgpack.unpackb, strict_map_key=False)


def _as_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"the raw codec publishes bytes, not {type(value).__name__}")


def _dump_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _same(raw: bytes) -> bytes:
    return raw


MSGPACK = Codec("msgpack", _pack, _unpack)
RAW = Codec("raw", _as_bytes, _same)
JSON = Codec("json", _dump_json, json.loads)

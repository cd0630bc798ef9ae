"""Changes of msgpack as a tree: a field takes another value, another type, or another field's place."""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgpack

from pubsubd_protocol.positions import MAX_OFFSET

VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 255, 65_535, 65_536, MAX_OFFSET, MAX_OFFSET + 1),
    *(2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.5, float("nan"), float("inf")),
    *("", "a", "node-a", "node-b", "a b", "x" * 64, "x" * 65, "\n", "a\nb", "ü" * 70, "\0", ">"),
    *("at", "start", "earliest", "latest", "remembered", "waiting", "overwritten", "ahead"),
    *("session", "publisher", "peer", "control", "pubsubd", "status", "drop_cursor", "*.>"),
    *(b"", b"\0", bytes(16), bytes(range(16)), bytes(15), b"\xff" * 16),
    *([], [[]], {}, {"a": None}, {1: 2}, [bytes(16), 0], [bytes(range(16)), 2**63 - 1]),
)


def unpack(packed: bytes) -> Any:
    """Any value of msgpack; text that is not UTF-8 survives. Raises `ValueError` and `TypeError`."""
    try:
        return msgpack.unpackb(
            packed, strict_map_key=False, unicode_errors="surrogateescape", timestamp=0
        )
    except (msgpack.UnpackException, RecursionError) as error:
        raise ValueError(str(error)) from None


def pack(value: Any) -> bytes:
    """Raises `ValueError` for a value that is too deep or too large."""
    try:
        packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    except (OverflowError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None
    return packed


def changed(value: Any, chance: Random, spared: int = 0) -> Any:
    """`value` with one spot changed. The first `spared` elements of the outermost array stay."""
    if isinstance(value, list) and len(value) > spared and chance.random() < 0.85:
        at = chance.randrange(spared, len(value))
        copy = list(value)
        match chance.randrange(12):
            case 0:
                del copy[at]
            case 1:
                copy.insert(at, copy[chance.randrange(spared, len(copy))])
            case 2:
                copy.insert(at, chance.choice(VALUES))
            case 3:
                other = chance.randrange(spared, len(copy))
                copy[at], copy[other] = copy[other], copy[at]
            case 4:
                del copy[at:]
            case _:
                copy[at] = changed(copy[at], chance)
        return copy
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        copied = dict(value)
        if chance.random() < 0.7:
            copied[key] = changed(copied[key], chance)
        else:
            taken = copied.pop(key)
            renamed = changed(key, chance)
            if not isinstance(renamed, (list, dict)):
                copied[renamed] = taken
        return copied
    return _leaf(value, chance)


def _leaf(value: Any, chance: Random) -> Any:
    if chance.random() < 0.4:
        return chance.choice(VALUES)
    match value:
        case bool():
            return not value
        case int():
            step = chance.choice((1, -1, 2, 255, 1 << chance.randrange(64)))
            return max(-(2**63), min(2**64 - 1, value + step))
        case str():
            at = chance.randrange(len(value) + 1)
            return (
                value[:at]
                + chance.choice(("", "x", ".", "*", ">", "\n", " ", value))
                + value[at + 1 :]
            )
        case bytes():
            at = chance.randrange(len(value) + 1)
            return value[:at] + chance.choice((b"", b"\0", b"\xff", value[:4])) + value[at + 1 :]
    return chance.choice(VALUES)

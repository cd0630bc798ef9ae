"""Events of a subscription as lines: JSON objects for programs, `topic payload` for people. Pure."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pubsubd import CursorExpired, Message


def message_line(message: Message) -> bytes:
    """`{"event":"message",…}` and a line feed."""
    return _encode(
        f'{{"event":"message","node":{dump(message.node)},"offset":{message.offset},'
        f'"topic":{dump(message.topic)},"payload":{_payload(message)},'
        f'"epoch":"{message.epoch}","time":{dump(message.time)}}}'
    )


def expired_line(gap: CursorExpired) -> bytes:
    """`{"event":"cursor_expired",…}` and a line feed."""
    return _encode(
        dump(
            {
                "event": "cursor_expired",
                "node": gap.node,
                "reason": gap.reason.value,
                "missed": gap.missed,
                "next": gap.next,
                "epoch": gap.epoch,
            }
        )
    )


def text_line(message: Message) -> bytes:
    """`topic payload` and a line feed. Text stands as it is, if it fits in a line; all else is JSON."""
    shown = _payload(message)
    if shown.startswith('"'):
        # A payload must neither end the line nor command the terminal.
        text = json.loads(shown)
        shown = text if text.isprintable() else shown
    return _encode(f"{message.topic} {shown}")


def dump(value: Any) -> str:
    """`value` as one line of valid JSON, whatever msgpack can hold: see `plain`. Cost: C, if it can."""
    try:
        return _dump(value)
    except (ValueError, TypeError):
        return _dump(plain(value))


def plain(value: Any) -> Any:
    """What JSON can say of `value`: bytes as text or base64, NaN and infinities as null, keys as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {_key(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return _foreign(value)


def _payload(message: Message) -> str:
    """The payload in JSON; base64 of its bytes if it can't be decoded, or is too deep for JSON's writer."""
    from pubsubd import DecodeError

    try:
        return dump(message.payload)
    except (DecodeError, RecursionError):
        return dump(_base64(message.raw))


def _dump(value: Any) -> str:
    return json.dumps(
        value, default=_foreign, allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )


def _encode(line: str) -> bytes:
    # Half a surrogate pair can't be encoded; its backslash form is JSON's own.
    return line.encode(errors="backslashreplace") + b"\n"


def _foreign(value: Any) -> Any:
    """What msgpack has and JSON has not: bytes, and points in time."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return str(value)
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return _base64(bytes(value))


def _base64(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode("ascii")}


def _key(key: Any) -> str:
    shown = plain(key)
    return shown if isinstance(shown, str) else dump(shown)

"""Events of a subscription as lines: JSON objects for programs, `topic payload` for people. Pure."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

from pubsubd_protocol.printable import printable, printable_json

if TYPE_CHECKING:
    from pubsubd import CursorExpired, Message


def message_line(message: Message, encoding: str = "utf-8") -> bytes:
    """`{"event":"message",…}` and a line feed, valid JSON in any encoding of the output: see `printable_json`."""
    return _encode_json(
        f'{{"event":"message","node":{dump(message.node)},"offset":{message.offset},'
        f'"topic":{dump(message.topic)},"payload":{_payload(message)},'
        f'"epoch":"{message.epoch}","time":{dump(message.time)}}}',
        encoding,
    )


def expired_line(gap: CursorExpired, encoding: str = "utf-8") -> bytes:
    """`{"event":"cursor_expired",…}` and a line feed."""
    return _encode_json(
        dump(
            {
                "event": "cursor_expired",
                "node": gap.node,
                "reason": gap.reason.value,
                "missed": gap.missed,
                "next": gap.next,
                "epoch": gap.epoch,
            }
        ),
        encoding,
    )


def text_line(message: Message, encoding: str = "utf-8") -> bytes:
    """`topic payload` and a line feed. A payload of printable text is shown as it is; any other as JSON.

    The line holds no further line feed and no control character: see `printable`.
    """
    shown = _payload(message)
    if shown.startswith('"'):
        text = json.loads(shown)
        shown = text if printable(text, encoding) == text else printable_json(shown, encoding)
    line = f"{printable(message.topic, encoding)} {printable(shown, encoding)}\n"
    return line.encode(encoding, "backslashreplace")


def dump(value: Any) -> str:
    """`value`, any value of msgpack, as one line of valid JSON: see `plain`. Cost: C code, if JSON has the value."""
    try:
        return _dump(value)
    except (ValueError, TypeError):
        return _dump(plain(value))


def plain(value: Any) -> Any:
    """`value` in JSON's types: bytes as text or base64, NaN and infinities as null, keys as text."""
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
    """The payload as JSON; base64 of its bytes if it cannot be decoded, or is nested too deeply for JSON's writer."""
    from pubsubd import DecodeError

    try:
        return dump(message.payload)
    except (DecodeError, RecursionError):
        return dump(_base64(message.raw))


def _dump(value: Any) -> str:
    return json.dumps(
        value, default=_foreign, allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )


def _encode_json(line: str, encoding: str) -> bytes:
    return printable_json(line, encoding).encode() + b"\n"


def _foreign(value: Any) -> Any:
    """The JSON form of a value that only msgpack has: bytes, or a timestamp."""
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

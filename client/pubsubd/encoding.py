"""Payloads of messages to bytes, by a codec that may raise anything. Compiled, unlike the codecs. Pure."""

from __future__ import annotations

import contextlib
from typing import Any

from pubsubd.codecs import Codec
from pubsubd.errors import EncodeError
from pubsubd_protocol.topics import check_topic


def encoded(codec: Codec, topic: Any, payload: Any) -> bytes:
    """The payload's bytes. Raises `EncodeError`."""
    # `Any`, because compiled code would refuse a result of another type before it can be looked at.
    encode: Any = codec.encode
    try:
        raw: Any = encode(payload)
    except Exception as error:
        raise not_encoded(codec, topic, payload, error) from error
    if type(raw) is bytes:
        return raw
    return as_bytes(codec, topic, payload, raw)


def all_encoded(codec: Codec, topic: Any, payloads: list[Any]) -> list[bytes]:
    """The bytes of all payloads. Raises `EncodeError` for the first that cannot be encoded."""
    with contextlib.suppress(Exception):
        raws = list(map(codec.encode, payloads))
        if {*map(type, raws)} <= {bytes}:
            return raws
    return [encoded(codec, topic, payload) for payload in payloads]


def as_bytes(codec: Codec, topic: Any, payload: Any, raw: object) -> bytes:
    """A codec's output as bytes, if it is bytes-like. Raises `EncodeError`."""
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return bytes(raw)
    wrong = TypeError(f"the codec's encode must return bytes, not {type(raw).__name__}")
    raise not_encoded(codec, topic, payload, wrong)


def not_encoded(codec: Codec, topic: Any, payload: Any, error: Exception) -> EncodeError:
    """The `EncodeError` for `error`. Raises `InvalidTopic` instead if the topic is invalid, too."""
    kind = type(payload).__name__
    return EncodeError(check_topic(topic), kind, codec.name, f"{type(error).__name__}: {error}")

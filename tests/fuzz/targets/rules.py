"""The rules of any accepted frame, written apart from the code that accepts it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from pubsubd_protocol.attach import Reason
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.frames import ROLES, Frame, Hello, Skip, Subscribe
from pubsubd_protocol.positions import StreamView

_NODES: Final = ("node", "stream", "cluster")
_THIRTY_TWO_BYTES: Final = ("nonce", "proof")


def keeps_the_rules(frame: Frame) -> None:
    """Raises `AssertionError` with the rule that is broken."""
    match frame:
        case Batch():
            assert type(frame.sequence) is int
            assert 0 <= frame.sequence < 2**63
            assert type(frame.retry) is bool
            assert frame.to is None or type(frame.to) is str
        case Entry():
            _is_node(frame.node)
            assert frame.to is None or _is_node(frame.to)
            assert len(frame.epoch) == len(frame.publisher) == 16
            assert 0 <= frame.first < frame.next < 2**63
            assert 0 < frame.count <= frame.next - frame.first <= 65_535
            for topic in frame.topics.split("\n"):
                assert 0 < len(topic.encode()) <= 255, "a topic is too long, or none"
                assert not any(c.isspace() or c < " " for c in topic), "white space in a topic"
        case _:
            _fields(frame)
    match frame:
        case Skip(_, _, first, following):
            assert first < following, "a skip goes back"
        case Hello():
            assert frame.role in ROLES
        case Subscribe():
            assert frame.start in ("latest", "earliest")


def _fields(value: object) -> None:
    assert dataclasses.is_dataclass(value)
    for each in dataclasses.fields(value):
        _value(each.name, getattr(value, each.name))
    if isinstance(value, StreamView):
        assert value.oldest <= value.next, "what is held ends before it begins"
        assert len(value.lineage) <= 31


def _value(name: str, value: object) -> None:
    match value:
        case None | bool() | Reason():
            pass
        case int():
            assert 0 <= value < 2**63, f"{name} is {value}"
        case str():
            assert name not in _NODES or _is_node(value), f"{name} is {value!r}"
        case bytes():
            size = 32 if name in _THIRTY_TWO_BYTES else 16
            assert len(value) == size, f"{name} is of {len(value)} bytes"
        case tuple():
            for item in value:
                _value("", item)
        case Mapping():
            assert len(value) <= 1024, f"{len(value)} items in {name}"
            for key, item in value.items():
                assert isinstance(key, str)
                assert name != "positions" or _is_node(key)
                _value("", item)
        case _:
            _fields(value)


def _is_node(name: str) -> bool:
    inside = name.replace(".", "a").replace("_", "a").replace("-", "a")
    assert 0 < len(name) <= 64, f"a node's name of {len(name)} characters"
    assert inside.isascii(), f"a node named {name!r}"
    assert inside.isalnum(), f"a node named {name!r}"
    assert (name[0] + name[-1]).isalnum(), f"a node named {name!r}"
    return True

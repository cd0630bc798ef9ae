"""The code says and understands exactly what `tests/vectors/frames.json` holds.

The vectors are the wire as others may have implemented it: a change here that makes a vector wrong is a
new version of the protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.vectors.readable import from_readable, to_readable

from pubsubd_protocol import frames
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.errors import ProtocolError

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "frames.json").read_text()
)


def vectors(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "vector", [pytest.param(v, id=v["name"]) for v in VECTORS[section]]
    )


def test_every_frame_has_a_vector() -> None:
    shown = {vector["frame"]["type"] for vector in VECTORS["exact"]}
    assert shown == {cls.__name__ for cls in get_args(frames.Frame)}


@vectors("exact")
def test_a_frame_is_encoded_to_exactly_these_bytes(vector: dict[str, Any]) -> None:
    assert encode(from_readable(vector["frame"])).hex() == vector["hex"]


@vectors("exact")
def test_these_bytes_are_exactly_that_frame(vector: dict[str, Any]) -> None:
    frame = decode(memoryview(bytes.fromhex(vector["hex"])))
    assert to_readable(frame) == vector["frame"]
    assert encode(frame).hex() == vector["hex"]


@vectors("also_accepted")
def test_these_bytes_are_understood_as_that_frame(vector: dict[str, Any]) -> None:
    frame = decode(memoryview(bytes.fromhex(vector["hex"])))
    assert to_readable(frame) == vector["frame"]


@vectors("refused")
def test_these_bytes_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(memoryview(bytes.fromhex(vector["hex"])))
    assert caught.value.kind == vector["kind"]

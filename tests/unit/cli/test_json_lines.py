from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pubsubd
from pubsubd.messages import Message, MessageSource
from pubsubd_cli.json_lines import dump, expired_line, message_line, text_line


def message(raw: bytes, topic: str = "t") -> Message:
    return Message(topic, raw, 7, MessageSource("a", "0f" * 16, 1732350000.123, pubsubd.MSGPACK))


def packed(payload: Any) -> Message:
    return message(msgpack.packb(payload))


def strict(line: bytes) -> Any:
    """A line of JSON as the standard has it, without Python's NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line, parse_constant=refuse)


def test_a_message_is_exactly_the_object_of_the_interface() -> None:
    line = message_line(packed({"id": 1}))
    assert list(strict(line).items()) == [
        ("event", "message"),
        ("node", "a"),
        ("offset", 7),
        ("topic", "t"),
        ("payload", {"id": 1}),
        ("epoch", "0f" * 16),
        ("time", 1732350000.123),
    ]


@pytest.mark.parametrize("missed", [37, None])
def test_a_gap_is_exactly_the_object_of_the_interface(missed: int | None) -> None:
    gap = pubsubd.CursorExpired("a", pubsubd.Reason("overwritten"), missed, 1049, "0f" * 16)
    assert list(strict(expired_line(gap)).items()) == [
        ("event", "cursor_expired"),
        ("node", "a"),
        ("reason", "overwritten"),
        ("missed", missed),
        ("next", 1049),
        ("epoch", "0f" * 16),
    ]


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (None, None),
        ("é\n", "é\n"),
        (b"text", "text"),
        (b"\xff", {"base64": "/w=="}),
        ([b"\xff", {"k": b"\x00\xfe"}], [{"base64": "/w=="}, {"k": {"base64": "AP4="}}]),
        (float("nan"), None),
        ([float("inf"), 1.5, True], [None, 1.5, True]),
        ({2: "a", None: "b", True: "c", 1.5: 0}, {"2": "a", "null": "b", "true": "c", "1.5": 0}),
        ({b"\xff": 1}, {'{"base64":"/w=="}': 1}),
        ({b"k": float("nan")}, {"k": None}),
        (2**64 - 1, 2**64 - 1),
        (msgpack.Timestamp(1, 0), "Timestamp(seconds=1, nanoseconds=0)"),
        (msgpack.ExtType(5, b"\xff"), [5, {"base64": "/w=="}]),
    ],
)
def test_whatever_a_payload_is_the_line_is_json(payload: Any, shown: Any) -> None:
    assert strict(message_line(packed(payload)))["payload"] == shown


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x92\x01", b"\x91" * 2000 + b"\x01"])
def test_a_payload_that_can_not_be_shown_comes_as_its_bytes(raw: bytes) -> None:
    assert set(strict(message_line(message(raw)))["payload"]) == {"base64"}
    assert text_line(message(raw)).startswith(b't {"base64":')


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ("hello there", "t hello there\n"),
        ("", "t \n"),
        ("two\nlines", 't "two\\nlines"\n'),
        ("\x1b[2J", 't "\\u001b[2J"\n'),
        ('say "hi"', 't say "hi"\n'),
        ({"id": 1}, 't {"id":1}\n'),
        (b"bytes", "t bytes\n"),
        (5, "t 5\n"),
    ],
)
def test_text_is_one_line_that_does_not_command_the_terminal(payload: Any, line: str) -> None:
    assert text_line(packed(payload)).decode() == line


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
values = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(scalars | st.binary(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_everything_that_msgpack_holds_becomes_one_line_of_json(value: Any) -> None:
    strict(dump(value).encode(errors="backslashreplace") + b"\n")


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_become_one_line_of_json(raw: bytes) -> None:
    strict(message_line(message(raw)))

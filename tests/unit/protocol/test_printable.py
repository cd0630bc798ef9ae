from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubd_protocol.printable import printable, printable_json, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 日本語 🎉", "plain ü 日本語 🎉"),
        ("wide\u3000space\u00a0", "wide\u3000space\u00a0"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\x7f\x9b\x9d", r"\u007f\u009b\u009d"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\u2028\u2029\u200b\ufeff", r"\u2028\u2029\u200b\ufeff"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_terminal_commands_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_characters_outside_the_encoding_are_shown_as_escapes() -> None:
    assert printable("ü€🎉", "latin-1") == r"ü\u20ac\U0001f389"
    assert printable_json('"ü🎉"', "latin-1") == r'"\u00fc\ud83c\udf89"'
    assert printable("ü", "no-such-encoding") == r"\u00fc"


def test_line_feeds_of_the_text_itself_stay() -> None:
    assert printable_lines("a\x9b\nb\r\n") == "a\\u009b\nb\\u000d\n"


@given(st.text(), st.sampled_from(["utf-8", "latin-1", "ascii", "cp1251"]))
def test_the_result_is_printable_encodable_and_json_stays_json(text: str, encoding: str) -> None:
    shown = printable(text, encoding)
    shown.encode(encoding)
    assert all(each.isprintable() or each.isspace() for each in shown)
    assert not set(shown) & set("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    line = printable_json(json.dumps(text, ensure_ascii=False), encoding)
    assert json.loads(line) == text
    line.encode(encoding)

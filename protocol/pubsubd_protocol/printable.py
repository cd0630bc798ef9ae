"""Untrusted text, made safe for a terminal. Pure.

A terminal obeys control characters, and a bidirectional override reorders the text around it. These functions
show both as backslash escapes, and also each character that the terminal's encoding lacks. Unicode's
categories Cc, Cf, Cs, Co, Cn, Zl and Zp are not printable; spaces of all widths are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""A line of text with escapes such as `\u202e` or `\U000e0001` for characters that are not printable.

    Cost: two passes in C if no character needs an escape.
    """
    return _escaped(text, encoding, _for_people)


def printable_json(text: str, encoding: str = "utf-8") -> str:
    """A line of JSON with JSON's own escapes for characters that are not printable; the line stays valid JSON.

    A character beyond U+FFFF takes two escapes. For any encoding but UTF-8 the line is pure ASCII.
    """
    return _escaped(text, encoding if _is_utf8(encoding) else "ascii", _for_json)


def printable_lines(text: str, encoding: str = "utf-8") -> str:
    """`printable` for each line of `text`. Line feeds stay."""
    return "\n".join(printable(line, encoding) for line in text.split("\n"))


def _escaped(text: str, encoding: str, escape: Callable[[str], str]) -> str:
    if text.isprintable() and _encodable(text, encoding):
        return text
    return "".join(each if _shown(each, encoding) else escape(each) for each in text)


def _shown(character: str, encoding: str) -> bool:
    # Python's isprintable() is false for spaces other than U+0020, but a terminal shows them safely.
    shown = character.isprintable() or unicodedata.category(character) == "Zs"
    return shown and _encodable(character, encoding)


def _encodable(text: str, encoding: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def _for_people(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _for_json(character: str) -> str:
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"

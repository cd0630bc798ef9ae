"""The file of settings: one flat table of TOML. Says where and why it cannot be read."""

from __future__ import annotations

import codecs
import re
import tomllib
from typing import Any, Final

LONGEST_SHOWN: Final = 80
"""Characters of a line that an error quotes."""

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_table(path: str) -> dict[str, Any]:
    """The keys and values of the file. A byte order mark, as some editors write it, is passed over.

    Raises `ValueError` with one sentence, which names the file and, where there is one, the line.
    """
    try:
        with open(path, "rb") as file:
            written = file.read()
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror}; allowed: a TOML file that can be read"
        ) from error
    text = _text(path, written)
    try:
        # With the last line ended, mistakes in it have a line and column; else they are "at end of document".
        return tomllib.loads(text + "\n")
    except tomllib.TOMLDecodeError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is not TOML: {said}{_quoted(text, said)}") from error


def _text(path: str, written: bytes) -> str:
    if written.startswith(_UTF16):
        raise ValueError(f"{path} is UTF-16; allowed: a TOML file in UTF-8")
    try:
        return written.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        byte = written[error.start]
        raise ValueError(
            f"{path} is not TOML: byte 0x{byte:02x} in line {line} is not UTF-8; "
            "allowed: a TOML file in UTF-8"
        ) from error


def _quoted(text: str, said: str) -> str:
    """The line itself: the column is that at which the parser gave up, often behind the mistake."""
    found = re.search(r"\(at line (\d+), column", said)
    if found is None:
        return ""
    line = text.split("\n")[int(found[1]) - 1].strip()
    return f": {line[:LONGEST_SHOWN]!r}" if line else ""

"""`docs/protocol.md` says what the code does, where a test can compare the two."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from tests.unit.protocol.samples import KINDS, SAMPLES, part, placed

from pubsubd_protocol import codec, columns, entries, frames, topics
from pubsubd_protocol import fields as limits
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.codec import encode
from pubsubd_protocol.errors import ConnectionRefused

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


def test_every_frame_stands_in_the_table_with_its_kind() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+)", DOCUMENT, re.MULTILINE)
    written = {name: int(kind) for kind, name in rows if name in KINDS}
    assert written == KINDS


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - {"Batch", "Entry"}))
def test_the_fields_of_a_frame_stand_in_the_table_in_their_order(name: str) -> None:
    (cell,) = re.findall(rf"^\| \d+ \| {name} \| ((?:[^|\\]|\\\|)*)", DOCUMENT, re.MULTILINE)
    written = [field.split()[0].rstrip("?") for field in cell.split(", ")]
    assert written == [field.name for field in fields(getattr(frames, name))]


def test_the_worked_example_is_what_the_code_makes() -> None:
    (block,) = re.findall(r"```hex\n(.*?)```", DOCUMENT, re.DOTALL)
    columns = (re.split(r" {2,}", line.strip(), maxsplit=1)[0] for line in block.splitlines())
    digits = "".join(c.replace(" ", "") for c in columns if re.fullmatch(r"[0-9a-f ]+", c))
    assert digits == encode(placed()).hex()


def test_the_part_of_the_example_is_what_the_code_makes() -> None:
    wire = encode(part()).hex(" ")
    for column in ("00 00 00 00 02 00 00 00", "03 00 00 00 05 00 00 00"):
        assert column in wire
        assert f"`{column[:11].replace(' ', '')} {column[12:].replace(' ', '')}`" in DOCUMENT


def test_every_reason_is_explained() -> None:
    for reason in Reason:
        assert f"| `{reason.value}` |" in DOCUMENT


def test_a_refusal_is_tried_again_where_the_table_says_so() -> None:
    (table,) = re.findall(r"^\| code \| why \| trying again \|\n(.*?)\n\n", DOCUMENT, re.M | re.S)
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]
    again = {
        code: row[2].startswith("yes") for row in rows for code in re.findall(r"`(\w+)`", row[0])
    }
    # Only brokers get these, and they dial an address again after any refusal.
    del again["replaced"]
    assert again["recovering"]
    assert not again["secret"]
    for code, tried in again.items():
        assert ConnectionRefused(code, "so it is").retriable == tried, code


def test_the_limits_are_those_of_the_code() -> None:
    assert codec.MAX_CONTROL_BYTES == 512 * 1024
    assert limits.MAX_STREAMS == topics.MAX_PATTERNS == 1024
    assert limits.MAX_NAMED_SESSIONS == 256
    assert (columns.MAX_BATCH_MESSAGES, columns.MAX_BATCH_TOPICS) == (65_535, 4096)
    assert entries.MAX_ENTRY_OVERHEAD == 512 * 1024

from __future__ import annotations

import asyncio
import os
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.examples import examples

import pubsubd_cli.input_lines
from pubsubd_cli.exit_codes import CommandError
from pubsubd_cli.input_lines import READ_BYTES, read_lines


async def all_lines(descriptor: int, read_bytes: int) -> list[bytes]:
    return [line async for lines in read_lines(descriptor, read_bytes) for line in lines]


def lines_of(data: bytes, read_bytes: int = READ_BYTES) -> list[bytes]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return asyncio.run(all_lines(file.fileno(), read_bytes))


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\nb\r\n", [b"a", b"", b"b\r"]),
    ],
)
def test_lines_end_with_line_feeds_and_the_last_may_lack_it(
    data: bytes, lines: list[bytes]
) -> None:
    assert lines_of(data) == lines


@settings(deadline=None, max_examples=examples(30))
@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), max_size=20))
def test_lines_are_the_same_at_every_size_of_chunk(lines: list[bytes]) -> None:
    for read_bytes in (1, 3, READ_BYTES):
        assert lines_of(b"".join(line + b"\n" for line in lines), read_bytes) == lines


def test_a_line_comes_as_soon_as_it_is_there() -> None:
    async def run() -> None:
        read, write = os.pipe()
        lines = read_lines(read)
        os.write(write, b"one\ntw")
        assert await anext(lines) == [b"one"]
        os.write(write, b"o\n")
        assert await anext(lines) == [b"two"]
        os.close(write)
        with pytest.raises(StopAsyncIteration):
            await anext(lines)
        os.close(read)

    asyncio.run(run())


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pubsubd_cli.input_lines, "MAX_LINE_BYTES", 1000)
    with pytest.raises(CommandError, match="longer than 1000 bytes"):
        lines_of(b"x" * 2000)

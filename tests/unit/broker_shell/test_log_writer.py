"""A log never makes its writer wait: what finds no room is dropped, counted, and said in its place."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from pubsubd_broker.logs.writer import LogWriter

LIMIT_S = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def over(descriptor: int, most_bytes: int = 1 << 20) -> LogWriter:
    return LogWriter(descriptor, "{} dropped\n".format, most_bytes)


def lines_until(reading: int, last: str) -> list[str]:
    """Whole lines, up to and with `last`."""
    came = b""
    while not came.endswith(f"{last}\n".encode()):
        came += os.read(reading, 1 << 16)
    return came.decode().splitlines()


def test_lines_come_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = over(writing)
    writer.write("one\ntwo")
    writer.write(" and a half\nthree\n")
    assert writer.wait_written(LIMIT_S)
    assert lines_until(reading, "three") == ["one", "two and a half", "three"]
    assert writer.dropped == 0


@pytest.mark.parametrize("shared_without_waiting", [False, True])
def test_an_unread_pipe_stops_nothing_and_missing_lines_are_counted(
    pipe: tuple[int, int], shared_without_waiting: bool
) -> None:
    reading, writing = pipe
    # As a process does it that shares the pipe: it is a flag of the pipe, not of the descriptor.
    os.set_blocking(writing, not shared_without_waiting)
    writer, wrote = over(writing, 10_000), 0
    # Some may be dropped while the pipe still has room: its thread is slower than this one.
    while writer.dropped < 50 or writer.wait_written(0.05):
        writer.write(f"{wrote:09}\n")
        wrote += 1
    before = writer.dropped
    came: list[str] = []
    reader = threading.Thread(target=lambda: came.extend(lines_until(reading, "last")))
    reader.start()
    assert writer.wait_written(LIMIT_S)
    writer.write("last\n")
    reader.join(LIMIT_S)
    assert os.get_blocking(writing) is not shared_without_waiting
    assert writer.dropped == before
    expected, told = 0, 0
    for line in came[:-1]:
        count, _, word = line.partition(" ")
        if word == "dropped":
            told += int(count)
            expected += int(count)
        else:
            # The gap was told before the lines that follow it.
            assert int(line) == expected
            expected += 1
    assert (expected, told) == (wrote, before)


def test_lines_that_a_full_disk_does_not_take_are_counted() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    writer = over(full)
    writer.write("a\nb\n")
    assert writer.wait_written(LIMIT_S)
    assert writer.dropped == 2
    os.close(full)


def test_a_closed_descriptor_is_no_error_of_who_logs() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = over(writing)
    writer.write("a\n")
    assert writer.wait_written(LIMIT_S)
    os.close(writing)
    assert not writer.isatty()
    assert writer.dropped == 1

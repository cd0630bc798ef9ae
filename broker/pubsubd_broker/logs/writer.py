"""Lines on their way to a descriptor that may stop taking them: a full pipe, a stopped terminal, a full disk.

Lines wait in a bounded queue and one thread writes them. The event loop never does: a write to a pipe without
a reader lasts for ever, and `O_NONBLOCK` does not help, as it belongs to the open file and so to every process that
shares it. What finds no room, or cannot be written, is dropped and counted, and the count is said in the log once it
flows again.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_LOG_BACKLOG_BYTES: Final = 256 * 1024
"""Bytes of lines that wait to be written; further lines are dropped."""

LOG_FLUSH_S: Final = 1.0
"""Time that the end of the process gives the last lines to leave."""


class LogWriter:
    """A text stream over `descriptor`, which stays open. Calls may come from any thread, and return at once."""

    def __init__(
        self,
        descriptor: int,
        describe: Callable[[int], str],
        most_bytes: int = MAX_LOG_BACKLOG_BYTES,
    ) -> None:
        """`describe`: the line that stands where this number of lines is missing. Called in the writing thread, with no lock held."""
        self.dropped = 0
        """Lines that are never read, since the beginning."""
        self._descriptor = descriptor
        self._describe = describe
        self._most_bytes = most_bytes
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[bytes | int] = deque()
        """Lines, and between them how many are missing there."""
        self._waiting_bytes = 0
        self._begun = ""
        self._writing = False
        # The writing thread's own.
        self._missing = 0
        self._torn = False
        """Whether the last thing that was written is half a line."""
        threading.Thread(target=self._run, name="pubsubd-log", daemon=True).start()

    def write(self, text: str) -> int:
        with self._changed:
            *whole, self._begun = (self._begun + text).split("\n")
            if len(self._begun) > self._most_bytes:
                whole, self._begun = [*whole, self._begun], ""
            for line in whole:
                self._take(line.encode("utf-8", "backslashreplace") + b"\n")
        return len(text)

    def flush(self) -> None:
        """Does nothing: lines leave by themselves. See `wait_written`."""

    def isatty(self) -> bool:
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def wait_written(self, seconds: float = LOG_FLUSH_S) -> bool:
        """Waits until every line has left or is dropped, but no longer than `seconds`. Whether they have."""
        ends_s = time.monotonic() + seconds
        with self._changed:
            while self._waiting or self._writing:
                left_s = ends_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
        return True

    def _take(self, line: bytes) -> None:
        if self._waiting_bytes + len(line) <= self._most_bytes:
            self._waiting.append(line)
            self._waiting_bytes += len(line)
        else:
            self.dropped += 1
            before = self._waiting.pop() if self._waiting else 0
            if isinstance(before, int):
                self._waiting.append(before + 1)
            else:
                self._waiting += (before, 1)
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                item = self._waiting.popleft()
                self._writing = True
            dropped = self._put(item)
            with self._changed:
                self._writing = False
                self.dropped += dropped
                if isinstance(item, bytes):
                    self._waiting_bytes -= len(item)
                self._changed.notify_all()

    def _put(self, item: bytes | int) -> int:
        """Writes a line, or what stands in the place of missing ones. How many lines were dropped."""
        if isinstance(item, int):
            self._missing += item
        if self._missing and self._write(self._describe(self._missing).encode()):
            self._missing = 0
        if isinstance(item, int) or self._write(item):
            return 0
        self._missing += 1
        return 1

    def _write(self, line: bytes) -> bool:
        left = memoryview(b"\n" + line if self._torn else line)
        begun = False
        while left:
            try:
                count = os.write(self._descriptor, left)
            except BlockingIOError:
                # Another process that shares it does not want to wait; this thread does.
                _wait_for_room(self._descriptor)
            except OSError:
                self._torn = self._torn or begun
                return False
            else:
                begun, left = True, left[count:]
        self._torn = False
        return True


def _wait_for_room(descriptor: int) -> None:
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(descriptor, select.POLLOUT)
        poll.poll(1000)

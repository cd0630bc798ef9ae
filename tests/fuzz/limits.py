"""What one input may take at the most: processor time, and memory."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

CPU_S: Final = 5.0
"""A thousand times of what an input takes; on a busy machine it is the same, for it counts the processor's time."""

_LOOK_EVERY_S: Final = 0.25


class TooLong(BaseException):
    """An input is still being worked on. No `Exception`: whoever catches those must not catch this."""


class TooMuch(AssertionError):
    """An input took more memory than its size allows."""


class Watch:
    """Interrupts, with `TooLong`, what takes more than `CPU_S` after a `begin`. For the main thread.

    One timer for all inputs: to begin one costs nothing.
    """

    def __init__(self) -> None:
        self._looks = max(1, round(CPU_S / _LOOK_EVERY_S))
        self._seen = 0

    def begin(self) -> None:
        self._seen = 0

    def __enter__(self) -> Self:
        signal.signal(signal.SIGVTALRM, self._look)
        signal.setitimer(signal.ITIMER_VIRTUAL, _LOOK_EVERY_S, _LOOK_EVERY_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)

    def _look(self, number: int, frame: FrameType | None) -> None:
        self._seen += 1
        if self._seen > self._looks:
            self._seen = 0
            raise TooLong(f"more than {self._looks * _LOOK_EVERY_S:g} s of processor time")


def measured(check: Callable[[bytes], None], data: bytes, allowed: int) -> int:
    """Checks `data`, and returns the bytes that it took at its peak. Raises `TooMuch`. Slow."""
    tracemalloc.start()
    try:
        check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > allowed:
        raise TooMuch(f"{peak} bytes of memory for an input of {len(data)}, allowed are {allowed}")
    return peak

"""Limits of one input: processor time and memory."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

CPU_S: Final = 5.0
"""About 1,000 times the usual time of an input. A busy machine does not matter, as the processor's time counts."""

_LOOK_EVERY_S: Final = 0.25


class TooLong(BaseException):
    """An input took too long. Not an `Exception`, so that `except Exception` in the broker does not catch it."""


class TooMuch(AssertionError):
    """An input took more memory than its size allows."""


class Watch:
    """Interrupts an input with `TooLong` after `CPU_S` since its `begin`. For the main thread.

    All inputs share one timer, so `begin` costs nothing.
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

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)

    def _look(self, number: int, frame: FrameType | None) -> None:
        self._seen += 1
        if self._seen > self._looks:
            self._seen = 0
            raise TooLong(f"more than {self._looks * _LOOK_EVERY_S:g} s of processor time")


def measured(check: Callable[[bytes], None], data: bytes, allowed: int) -> int:
    """Check `data`, and return its peak of memory in bytes. Raises `TooMuch`. Slow."""
    tracemalloc.start()
    try:
        check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > allowed:
        raise TooMuch(f"{peak} bytes of memory for an input of {len(data)}, allowed are {allowed}")
    return peak

"""Waits for a condition, with a deadline: no test waits for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

WAIT_TIMEOUT_S: Final = 30.0
_POLL_S: Final = (0.005, 0.05)
"""Seconds between two looks, at first and at last. Most looks ask a broker, which takes both processes milliseconds."""


class NotReached(AssertionError):
    """A condition that a test waited for did not come true in time."""


def wait_until(
    condition: Callable[[], T], timeout_s: float = WAIT_TIMEOUT_S, what: str = "the condition"
) -> T:
    """The first true value of `condition()`. An `OSError` in it means: not yet. Raises `NotReached`."""
    for value, pause_s in _attempts(condition, timeout_s, what):
        if value:
            return value
        time.sleep(pause_s)
    raise AssertionError("the attempts end with an exception")


async def wait_until_async(
    condition: Callable[[], T], timeout_s: float = WAIT_TIMEOUT_S, what: str = "the condition"
) -> T:
    """`wait_until` that lets the running loop go on."""
    for value, pause_s in _attempts(condition, timeout_s, what):
        if value:
            return value
        await asyncio.sleep(pause_s)
    raise AssertionError("the attempts end with an exception")


def _attempts(
    condition: Callable[[], T], timeout_s: float, what: str
) -> Iterator[tuple[T | None, float]]:
    """The result of each attempt, and the seconds to wait for the next."""
    pause_s, longest_s = _POLL_S
    deadline = time.monotonic() + timeout_s
    last: object = None
    value: T | None
    while True:
        try:
            last = value = condition()
        except OSError as error:
            last, value = error, None
        yield value, pause_s
        pause_s = min(1.2 * pause_s, longest_s)
        if time.monotonic() > deadline:
            raise NotReached(f"{what} was not reached in {timeout_s} s; last: {last!r}"[:2000])

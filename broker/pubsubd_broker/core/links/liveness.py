"""Timings of a link, as pure formulas."""

from __future__ import annotations

from typing import Final

BACKOFF_FIRST_NS: Final = 100_000_000
BACKOFF_LONGEST_NS: Final = 5_000_000_000


def is_silent(heard_ns: int, now_ns: int, timeout_ns: int) -> bool:
    """Whether the other end has been silent for too long. Only what was heard counts, never what was sent."""
    return now_ns - heard_ns > timeout_ns

"""Timings of a link, as pure formulas."""

from __future__ import annotations

from typing import Final

BACKOFF_FIRST_NS: Final = 100_000_000
BACKOFF_LONGEST_NS: Final = 5_000_000_000


def backoff_ns(attempts: int, chance: float) -> int:
    """How long to wait before dialling again after `attempts` failures in a row.

    Doubles up to a limit; `chance` in 0..1 spreads it over the upper half, so that nodes that lost the same
    peer together do not come back together.
    """
    longest = min(BACKOFF_LONGEST_NS, BACKOFF_FIRST_NS << min(attempts, 16))
    return int(longest * (0.5 + 0.5 * chance))


def is_silent(heard_ns: int, now_ns: int, timeout_ns: int) -> bool:
    """Whether the other end has been silent for too long. Only what was heard counts, never what was sent."""
    return now_ns - heard_ns > timeout_ns

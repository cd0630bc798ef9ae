"""Waits between attempts to connect. Pure: chance is an argument."""

from __future__ import annotations


def backoff(first: float, longest: float, failures: int, chance: float) -> float:
    """The wait before the next attempt, in the unit of `first`.

    Doubles from `first` with each of the `failures` in a row, up to `longest`. `chance` in 0..1 spreads it over the
    upper half: many clients of one restarted broker, or many peers of one lost node, do not come back at once.
    """
    full = min(longest, first * 2.0 ** min(failures, 16))
    return full * (0.5 + 0.5 * chance)

"""Waits between attempts to connect. Pure: chance is an argument."""

from __future__ import annotations

FIRST_S = 0.05
LONGEST_S = 2.0


def backoff_s(attempt: int, chance: float) -> float:
    """The wait in seconds before the attempt after `attempt` failures in a row (0, 1, …); `chance` is in 0..1.

    Doubles from `FIRST_S` up to `LONGEST_S`, then takes between half and all of it, so that many
    clients of one restarted broker don't come at once.
    """
    full = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 16))
    return full * (0.5 + 0.5 * chance)

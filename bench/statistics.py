"""Makes one figure of several rounds: medians with their spread, percentiles, ratios of pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    def times(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def spread(figures: Sequence[float]) -> Spread:
    """Raises `ValueError` without a figure."""
    if not figures:
        raise ValueError("no figure: a spread needs one round at least")
    return Spread(statistics.median(figures), min(figures), max(figures))


def ratios(over: Sequence[float | None], under: Sequence[float | None]) -> list[float]:
    """`over[i] / under[i]` for the rounds in which both have a figure.

    Taken round by round: a slow moment of the machine slows both figures of a round.
    """
    return [a / b for a, b in zip(over, under, strict=False) if a is not None and b]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of figures in rising order: always a measured figure."""
    if not ordered:
        raise ValueError("no figure: a percentile needs one at least")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

"""Whether a series of samples grows: its slope over time, and its growth over the whole series. Pure.

The slope is that of Theil and Sen: the median of the slopes between any two samples. It hardly moves if a third of
the samples are wrong. A peak does not count as growth, and neither does a sawtooth after some teeth.

Two allowances keep a sound series from being called a leak:

- *its error*. A flat series of n independent samples with scatter s about its line shows a growth with a standard
  error of s * sqrt(12 / n). s is taken from the median deviation. Samples that follow each other are not independent:
  n is twice the number of times that the series crosses its line. For noise that is every sample, for a saw four for
  each tooth. Only the growth beyond three errors counts;
- *the allowed growth*: a share of the level, or a least figure where the level is low. A leak loses something for
  each message, connection or fault. In a long run there are thousands of these, so the allowance for each is next to
  nothing. `Trend.growth` divided by their count is the loss for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

Series = Sequence[tuple[float, float]]
"""Seconds and figure, in the order of time."""

ERRORS: Final = 3.0
LEAST_SAMPLES: Final = 20
MOST_SAMPLES: Final = 600
"""The cost is quadratic, as every pair is compared: a longer series is thinned out, evenly."""

_MAD_TO_SIGMA: Final = 1.4826
"""Factor from the median deviation to the standard deviation, for normal scatter."""


@dataclass(frozen=True, slots=True)
class Bound:
    """AllowedUsers growth of a figure over a series: `share` of its level, and at least `least`."""

    share: float
    least: float

    def allowed(self, level: float) -> float:
        return max(self.share * level, self.least)


@dataclass(frozen=True, slots=True)
class Trend:
    """`growth` over the whole series, give or take `error`, about a median `level`."""

    level: float
    growth: float
    error: float
    span_s: float

    def within(self, bound: Bound) -> bool:
        return self.growth - ERRORS * self.error <= bound.allowed(self.level)


def trend(series: Series) -> Trend:
    """Raises `ValueError` for a series that is too short. Cost: every pair of `MOST_SAMPLES`."""
    if len(series) < LEAST_SAMPLES:
        raise ValueError(f"{len(series)} samples, {LEAST_SAMPLES} are needed")
    step = -(-len(series) // MOST_SAMPLES)
    points = series[::step]
    slope = median(
        (later - earlier) / (later_s - earlier_s)
        for at, (earlier_s, earlier) in enumerate(points)
        for later_s, later in points[at + 1 :]
    )
    span_s = points[-1][0] - points[0][0]
    level = median(figure for _, figure in points)
    offset = median(figure - slope * at_s for at_s, figure in points)
    rest = [figure - slope * at_s - offset for at_s, figure in points]
    scatter = _MAD_TO_SIGMA * median(map(abs, rest))
    independent = max(2, min(len(points), 2 * _crossings(rest)))
    return Trend(level, slope * span_s, scatter * math.sqrt(12 / independent), span_s)


def _crossings(rest: Sequence[float]) -> int:
    signs = [each > 0 for each in rest if each]
    return sum(a != b for a, b in pairwise(signs))

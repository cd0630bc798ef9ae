"""Whether a series of samples grows: its slope over time, and what that comes to while it was watched. Pure.

The slope is that of Theil and Sen, the median of the slopes between any two samples: a third of the samples may be
anything, and it is hardly moved. So a peak is no growth, and neither is a sawtooth that is watched for some teeth.

Two things keep a sound series from being called a leak:

- *its error*. For a flat series with scatter s about its line, the growth over the span that n independent samples show
  has a standard error of s * sqrt(12 / n). s is taken from the median deviation. Samples that follow each other are not
  independent: n is twice the times that the series crosses its line, which is all of them for noise and four for
  each tooth of a saw. A growth counts for what it exceeds three errors by;
- *what is allowed*: a share of the level, or a least figure where the level is low. A leak is something that is not
  given back for each message, connection or fault: over a long run there are so many of them that what is allowed
  is next to nothing for one. `Trend.growth` divided by what happened meanwhile says how much.
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
"""Pairs are as the square: a longer series is thinned out, evenly."""

_MAD_TO_SIGMA: Final = 1.4826
"""From the median deviation to the standard deviation, for scatter that is normal."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a figure may grow while it is watched: `share` of its level, but `least` at any rate."""

    share: float
    least: float

    def allowed(self, level: float) -> float:
        return max(self.share * level, self.least)


@dataclass(frozen=True, slots=True)
class Trend:
    """`growth` over the whole span, give or take `error`, about a median `level`."""

    level: float
    growth: float
    error: float
    span_s: float

    def within(self, bound: Bound) -> bool:
        return self.growth - ERRORS * self.error <= bound.allowed(self.level)


def trend(series: Series) -> Trend:
    """Raises `ValueError` for a series of which nothing can be said. Cost: every pair of `MOST_SAMPLES`."""
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

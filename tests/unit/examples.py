"""Counts of Hypothesis examples that keep their proportion in every profile."""

from __future__ import annotations

from hypothesis import settings


def examples(usual: int) -> int:
    """Scale `usual`, the count of `make test`, to the loaded profile, whose default is 100 there."""
    return max(1, usual * settings().max_examples // 100)

"""Series that are known to leak, or not to leak, are judged rightly."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from tests.soak.trend import LEAST_SAMPLES, MOST_SAMPLES, Bound, trend

SAMPLES = 300
EVERY_S = 2.0
LEVEL = 100.0
BOUND = Bound(share=0.05, least=2.0)
"""Allows growth by 5 for a level of 100."""

Shape = Callable[[int, random.Random], float]


def series(shape: Shape, seed: int = 1, samples: int = SAMPLES) -> list[tuple[float, float]]:
    chance = random.Random(seed)
    return [(i * EVERY_S, shape(i, chance)) for i in range(samples)]


def leak(i: int) -> float:
    """Growth by 10 over the whole series."""
    return 10 * i / SAMPLES


def saw(i: int) -> float:
    """Teeth of 30 samples, 20 high."""
    return 20 * (i % 30) / 30


SOUND: dict[str, Shape] = {
    "flat": lambda i, _: LEVEL,
    "of small numbers": lambda i, chance: float(chance.choice([20, 20, 21, 23])),
    "noisy": lambda i, chance: chance.gauss(LEVEL, 10),
    "with peaks": lambda i, chance: LEVEL + (300 if chance.random() < 0.1 else chance.random()),
    "a sawtooth": lambda i, _: LEVEL + saw(i),
    "a noisy sawtooth": lambda i, chance: LEVEL + saw(i) + chance.gauss(0, 3),
    "a step that is given back": lambda i, _: LEVEL + (50 if 100 < i < 150 else 0),
    "falling": lambda i, _: LEVEL - leak(i),
    "a little more, within the bound": lambda i, chance: LEVEL + 0.4 * leak(i) + chance.random(),
}

LEAKING: dict[str, Shape] = {
    "evenly": lambda i, _: LEVEL + leak(i),
    "under noise": lambda i, chance: LEVEL + leak(i) + chance.gauss(0, 2),
    "under peaks": lambda i, chance: LEVEL + leak(i) + (300 if chance.random() < 0.1 else 0),
    "under a sawtooth": lambda i, _: LEVEL + 4 * leak(i) + saw(i),
    "one by one": lambda i, _: float(20 + int(leak(i) / 2)),
    "in steps": lambda i, _: LEVEL + 2 * float(i // 60) * 5,
    "slower and slower": lambda i, _: LEVEL + 20 * (i / SAMPLES) ** 0.5,
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", SOUND)
def test_a_series_that_only_moves_is_not_a_leak(name: str, seed: int) -> None:
    assert trend(series(SOUND[name], seed)).within(BOUND)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", LEAKING)
def test_steady_growth_is_a_leak_under_any_noise(name: str, seed: int) -> None:
    assert not trend(series(LEAKING[name], seed)).within(BOUND)


def test_growth_is_measured_over_the_whole_span() -> None:
    found = trend(series(LEAKING["evenly"]))
    assert found.growth == pytest.approx(leak(SAMPLES - 1))
    assert found.span_s == (SAMPLES - 1) * EVERY_S
    assert found.error == pytest.approx(0)


def test_the_least_figure_counts_where_the_level_is_low() -> None:
    assert Bound(0.05, 2.0).allowed(10) == 2.0
    assert Bound(0.05, 2.0).allowed(100) == 5.0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        trend(series(SOUND["flat"], samples=LEAST_SAMPLES - 1))


def test_a_long_series_is_thinned_out_and_judged_alike() -> None:
    long = series(lambda i, _: LEVEL + leak(i) / 10, samples=10 * MOST_SAMPLES + 7)
    assert trend(long).growth == pytest.approx(20, rel=0.1)

from __future__ import annotations

import pytest
from bench.statistics import Spread, percentile, ratios, spread


def test_a_spread_is_median_lowest_and_highest_whatever_the_order() -> None:
    assert spread([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)
    assert spread([4.0, 2.0]) == Spread(3.0, 2.0, 4.0)


def test_no_round_has_no_spread() -> None:
    with pytest.raises(ValueError, match="no figure"):
        spread([])


def test_ratios_are_taken_round_by_round_and_void_rounds_are_left_out() -> None:
    assert ratios([10.0, None, 30.0, 8.0], [5.0, 1.0, None, 2.0]) == [2.0, 4.0]


def test_a_figure_of_zero_is_never_divided_by() -> None:
    assert ratios([1.0, 2.0], [0.0, 1.0]) == [2.0]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1)]
)
def test_a_percentile_is_one_of_the_figures_by_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected

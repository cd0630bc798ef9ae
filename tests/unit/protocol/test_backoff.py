"""Back-off: doubles up to its limit, and chance takes at most half of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubd_protocol.backoff import backoff


@pytest.mark.parametrize(
    ("failures", "chance", "expected"),
    [
        (0, 0.0, 50),
        (0, 1.0, 100),
        (1, 0.0, 100),
        (1, 1.0, 200),
        (3, 0.5, 600),
        (5, 1.0, 3200),
        (6, 0.0, 2500),
        (6, 1.0, 5000),
        (10**6, 1.0, 5000),
    ],
)
def test_back_off_doubles_up_to_a_limit(failures: int, chance: float, expected: int) -> None:
    assert backoff(100, 5000, failures, chance) == expected


@given(st.integers(0, 100), st.floats(0, 1))
def test_chance_takes_at_most_half(failures: int, chance: float) -> None:
    full = backoff(0.05, 2.0, failures, 1.0)
    assert full / 2 <= backoff(0.05, 2.0, failures, chance) <= full <= 2.0

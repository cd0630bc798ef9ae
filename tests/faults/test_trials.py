"""The short run: two seeds of faults on real processes. The long one is `make faults MINUTES=30`."""

from __future__ import annotations

import pytest
from tests.faults.plan import Kind, draw
from tests.faults.run import figures, play

SECONDS = 3.0
SEEDS = (16, 7)
"""A seed with rings that hold everything, and one with small rings."""


@pytest.mark.parametrize("seed", SEEDS)
def test_the_guarantee_holds_on_real_processes(seed: int) -> None:
    counts = play(seed, SECONDS)
    # A run in which nothing was delivered would prove nothing.
    assert counts["accepted"] > 100, figures(counts)
    assert counts["delivered"] > 100, figures(counts)
    assert counts[Kind.KILL_BROKER] + counts[Kind.STOP_BROKER] > 0, figures(counts)


def test_a_seed_is_the_same_plan_every_time() -> None:
    assert draw(7, 10.0) == draw(7, 10.0)
    assert draw(7, 10.0) != draw(9, 10.0)


def test_plans_have_every_kind_of_fault_and_both_sizes_of_rings() -> None:
    plans = [draw(seed, 10.0) for seed in range(20)]
    assert {fault.kind for plan in plans for fault in plan.faults} == set(Kind)
    assert {plan.large for plan in plans} == {True, False}
    assert {reader.keeps for plan in plans for reader in plan.readers} == {
        "nothing",
        "position",
        "name",
    }

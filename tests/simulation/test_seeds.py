"""A seed's name says which kind of plan it draws, so that a failure of any kind can be replayed."""

from __future__ import annotations

import pytest
from tests.simulation.run import run_plan
from tests.simulation.seeds import KINDS, Seeds
from tests.simulation.violation import Violation
from tests.simulation.world import World


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_plan_prints_the_seed_that_draws_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(world: World) -> None:
        raise Violation("on purpose")

    monkeypatch.setattr(World, "run", fail)
    plan = KINDS[kind](17)
    with pytest.raises(Violation) as raised:
        run_plan(plan)
    replay = str(raised.value).splitlines()[-1]
    command, _, name = replay.rpartition("=")
    seeds = Seeds.named(name)
    assert command == "replay: make sim SEED"
    assert KINDS[seeds.kind](seeds.first) == plan


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("17", Seeds("", 17, 18, ranged=False)),
        ("0..500", Seeds("", 0, 500, ranged=True)),
        ("recoveries:17", Seeds("recoveries", 17, 18, ranged=False)),
        ("recoveries:0..500", Seeds("recoveries", 0, 500, ranged=True)),
    ],
)
def test_a_name_is_a_seed_or_a_range_of_one_kind(name: str, seeds: Seeds) -> None:
    assert Seeds.named(name) == seeds
    assert str(seeds) == name


@pytest.mark.parametrize("name", ["", "..5", "1..", "1-5", "recoveries:", "recoverys:17", "-1"])
def test_an_invalid_name_of_a_seed_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="seed"):
        Seeds.named(name)

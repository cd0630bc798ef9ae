"""A short run of about 20 s. The long one, which judges growth as well, is `make soak MINUTES=30`."""

from __future__ import annotations

from tests.faults.plan import LINK_KINDS, Kind
from tests.soak.plan import JOURNALED, draw
from tests.soak.run import soak

SECONDS = 10.0
SEED = 1


def test_a_soak_loses_nothing_and_gives_everything_back() -> None:
    outcome, table = soak(SEED, SECONDS)
    counts = outcome.counts
    assert not outcome.violations, "\n".join([*outcome.violations, *table])
    # A soak in which nothing was done would prove nothing.
    assert counts["accepted"] > 50_000, counts
    assert counts["read"] > 50_000, counts
    assert counts["broker killed and restarted"] == 1, counts
    assert counts["attacks"] > 20, counts
    assert counts["strangers that vanished"] > 20, counts
    assert counts["slow callers that were cut off"] > 0, counts
    assert any(counts[kind] for kind in LINK_KINDS), counts


def test_a_seed_is_the_same_plan_every_time() -> None:
    assert draw(7, 600.0) == draw(7, 600.0)
    assert draw(7, 600.0) != draw(8, 600.0)


def test_a_long_run_has_every_fault_and_both_kinds_of_restart() -> None:
    plan = draw(1, 1800.0)
    assert {fault.kind for fault in plan.faults} == set(Kind)
    restarted = [f for f in plan.faults if f.kind in (Kind.KILL_BROKER, Kind.STOP_BROKER)]
    assert {fault.target for fault in restarted} == {(JOURNALED,)}
    assert {fault.kind for fault in restarted} == {Kind.KILL_BROKER, Kind.STOP_BROKER}

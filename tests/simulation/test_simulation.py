"""A hundred simulated clusters: no silent gap, every row of the attach rule taken, and every lie told."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from tests.simulation.brokers import HEARTBEAT_MS
from tests.simulation.liars.telling import LIES
from tests.simulation.outages import OUTAGES
from tests.simulation.run import run_seed
from tests.simulation.tally import ROWS
from tests.simulation.world import LOOKS_EVERY_MS

RARE = (121, 128, 135)
"""Seeds that tell the lies which the first hundred seeds do not tell."""

CHUNKS = [*(range(first, first + 10) for first in range(0, 100, 10)), RARE]
"""The seeds that each test plays. `make test-compiled` plays 100 further ones, `make sim` more than 500."""

SEEDS = sum(map(len, CHUNKS))

FORGETFUL_SEEDS = 4
RECOVERY_SEEDS = 6
OUTAGE_SEEDS = 2

LEAST_EVENTS = 200

TOTALS = {
    "accepted": 7_000,
    "delivered": 5_000,
    "resumes": 70,
    "cut": 70,
    "crash": 70,
    "power_cut": 40,
    "restart": 50,
    "pause": 50,
    "filters": 50,
    "copy": 60,
}
"""Least counts of all seeds together."""


@pytest.fixture(scope="session")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the chunks' tallies: one for all workers of this run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "simulation"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    "chunk", [pytest.param(0, marks=pytest.mark.fast), *range(1, len(CHUNKS))], ids=str
)
def test_no_seed_breaks_the_guarantee(chunk: int, tallies: Path) -> None:
    assert tally_of(chunk, tallies)["seeds"] == len(CHUNKS[chunk])


@pytest.mark.timeout(600)
def test_all_seeds_together_take_every_row_and_tell_every_lie(tallies: Path) -> None:
    """A run in which nothing was delivered never passes. Plays the chunks that are not played yet in this run."""
    total: Counter[str] = Counter()
    for chunk in range(len(CHUNKS)):
        total += tally_of(chunk, tallies)
    assert total["seeds"] == SEEDS
    never = [row for row in ROWS if not total[row]]
    assert not never, f"{SEEDS} seeds never took {never}"
    believed = [name for name in LIES if not total[f"noticed: {name}"]]
    assert not believed, f"{SEEDS} seeds never told {believed}"
    less = {what: total[what] for what, least in TOTALS.items() if total[what] < least}
    assert not less, f"{SEEDS} seeds did too little: {less}, expected are {TOTALS}"


def tally_of(chunk: int, folder: Path) -> Counter[str]:
    """Plays a chunk once in a run of the tests, whichever test and worker asks first."""
    with open(folder / f"{chunk}.json", "a+") as kept:
        # Another worker that plays this chunk holds the lock. Where it failed the file is empty: it fails here too.
        fcntl.flock(kept, fcntl.LOCK_EX)
        kept.seek(0)
        if known := kept.read():
            return Counter(json.loads(known))
        total: Counter[str] = Counter()
        for seed in CHUNKS[chunk]:
            counts = run_seed(seed)
            assert counts["events"] >= LEAST_EVENTS, f"seed {seed} is too short"
            total += counts + Counter(seeds=1)
        kept.write(json.dumps(total))
        return total


def test_a_forgotten_name_is_told_what_a_third_node_knows() -> None:
    total: Counter[str] = Counter()
    for seed in range(FORGETFUL_SEEDS):
        total += run_seed(seed, "forgetful")
    assert total["forget_together"] >= FORGETFUL_SEEDS
    assert total["recovered_from_peers"]
    assert total["expired state_lost"]


def test_a_session_is_told_of_each_long_outage() -> None:
    total: Counter[str] = Counter()
    for seed in range(OUTAGE_SEEDS):
        total += run_seed(seed, "outages")
    assert total["outage"] == OUTAGE_SEEDS * OUTAGES
    assert total["lost producers told"]


def test_messages_lost_with_a_life_are_told_at_its_end() -> None:
    total: Counter[str] = Counter()
    for seed in range(RECOVERY_SEEDS):
        total += run_seed(seed, "recoveries")
    for what in ("put_back", "life_between", "lose_witness", "recovered", "power loss"):
        assert total[what], f"{what} never happened"
    assert total["told of a lost end"]
    assert total["told how many"]


def test_looks_at_a_cluster_are_not_in_step_with_heartbeats() -> None:
    """In step, a heartbeat would be on its way at every look, and the cluster would never seem to rest."""
    moments = {look * LOOKS_EVERY_MS % HEARTBEAT_MS for look in range(HEARTBEAT_MS)}
    assert moments == set(range(0, HEARTBEAT_MS, 10))

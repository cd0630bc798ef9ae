"""The order of a run: every contestant once, then all again. A slow moment of the machine slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from bench.contestants import Contestant
from bench.measure import Pace, Sample, measure
from bench.results import Samples
from bench.workloads import Workload

Said = Callable[[str, str, int, Sample], None]
"""Called for each sample: workload, contestant, round (from 0), figures."""


def plan(
    workloads: Sequence[Workload], contestants: Sequence[Contestant], rounds: int
) -> Iterator[tuple[Workload, Contestant, int]]:
    """All workloads in each round; each round begins with another contestant."""
    for turn in range(rounds):
        for workload in workloads:
            able = [contestant for contestant in contestants if contestant.does(workload)]
            shift = turn % len(able) if able else 0
            for contestant in able[shift:] + able[:shift]:
                yield workload, contestant, turn


def run(
    workloads: Sequence[Workload],
    contestants: Sequence[Contestant],
    rounds: int,
    pace: Pace,
    said: Said,
    budget_s: float = float("inf"),
) -> Samples:
    """Measure all of the plan. Measurements that would begin after `budget_s` are left out, and have no sample."""
    samples: Samples = {}
    began = time.monotonic()
    for workload, contestant, turn in plan(workloads, contestants, rounds):
        if time.monotonic() - began > budget_s:
            break
        sample = measure(contestant, workload, pace)
        samples.setdefault(workload.name, {}).setdefault(contestant.name, []).append(sample)
        said(workload.name, contestant.name, turn, sample)
    return samples

"""Runs seeds: `python -m tests.simulation.run 17`, `… 0..500` for a range, `… recoveries:17` for another kind of
plans.

A single failing seed is shrunk, and its plan printed as a literal for `test_regressions.py`. Several seeds and ranges
run one after the other. With `--digests` the trace of every seed is printed as one number.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.simulation.liars.telling import LIES
from tests.simulation.plan import Plan
from tests.simulation.seeds import KINDS, Seeds
from tests.simulation.shrink import shrink
from tests.simulation.tally import ROWS
from tests.simulation.violation import Violation
from tests.simulation.world import World

TRACE_LINES = 50

CHUNK = 50
"""Seeds that one process runs before it reports."""


def run_plan(plan: Plan) -> Counter[str]:
    """Run one plan. The error of a violation tells the plan, the trace's end, and the command that replays it."""
    world = World(plan)
    try:
        world.run()
    except Exception as error:
        trace = "\n".join(world.trace[-TRACE_LINES:])
        raise Violation(
            f"seed {plan.seed_name}: {type(error).__name__}: {error}\n{plan}\n{trace}\n"
            f"replay: make sim SEED={plan.seed_name}"
        ) from error
    return world.counts


def run_seed(seed: int, kind: str = "") -> Counter[str]:
    """Run a seed's plan, of the plain plans or of another kind in `seeds.py`."""
    return run_plan(KINDS[kind](seed))


def wrong(plan: Plan) -> str | None:
    """The violation of a plan, without its figures; None if the plan passes."""
    try:
        run_plan(plan)
    except Violation as violation:
        return _kind(violation)
    return None


def _kind(violation: Violation) -> str:
    cause = violation.__cause__
    words = re.sub(r"\([^()]*\)|'[^']*'|\S*\d\S*", "", str(cause))
    return " ".join([type(cause).__name__, *words.split()])


def main(arguments: list[str]) -> int:
    digests = "--digests" in arguments
    try:
        asked = [Seeds.named(argument) for argument in arguments if argument != "--digests"]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    results = []
    for seeds in asked:
        run = _digests if digests else _range if seeds.ranged else _one
        results.append(run(seeds))
    return max(results, default=0)


def _digests(seeds: Seeds) -> int:
    """A line for each seed: two processes that print the same saw the same."""
    for seed in range(seeds.first, seeds.stop):
        plan = KINDS[seeds.kind](seed)
        world = World(plan)
        world.run()
        print(plan.seed_name, world.digest)
    return 0


def _one(seeds: Seeds) -> int:
    plan = KINDS[seeds.kind](seeds.first)
    try:
        counts = run_plan(plan)
    except Violation as violation:
        print(violation)
        plan = shrink(plan, wrong)
        print(f"\nshrunk to {len(plan.steps)} steps, still {wrong(plan)}:\n{plan}")
        return 1
    print(f"seed {seeds} passed: {dict(sorted(counts.items()))}")
    return 0


def _chunk(kind: str, first: int, stop: int) -> tuple[Counter[str], list[str]]:
    total: Counter[str] = Counter()
    failed = []
    for seed in range(first, stop):
        try:
            counts = run_seed(seed, kind)
            total += counts
            total["fewest events"] = min(total["fewest events"] or 10**9, counts["events"])
        except Violation as violation:
            failed.append(str(violation).split("\n")[0][:300])
    return total, failed


def _range(seeds: Seeds) -> int:
    total: Counter[str] = Counter()
    failed: list[str] = []
    fewest = 10**9
    kind, first, stop, _ = seeds
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        starts = range(first, stop, CHUNK)
        ends = [min(start + CHUNK, stop) for start in starts]
        for counts, failures in pool.map(_chunk, repeat(kind), starts, ends):
            fewest = min(fewest, counts.pop("fewest events", fewest))
            total += counts
            failed += failures
            for failure in failures:
                print(failure, flush=True)
    print(f"{seeds}: {stop - first - len(failed)} seeds passed, {len(failed)} failed")
    print(f"fewest events of a seed: {fewest}")
    for what, count in sorted(total.items()):
        print(f"{what:45} {count}")
    # The other kinds are made for a few of the rows.
    expected = () if kind else (*ROWS, *(f"noticed: {name}" for name in LIES))
    never = [row for row in expected if not total[row]]
    if never:
        print(f"never taken: {never}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

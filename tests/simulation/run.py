"""Runs seeds: `python -m tests.simulation.run 17`, or `… 0 500` (also `0..500`) for a range.

One seed that fails is shrunk, and its plan printed as a literal for `test_regressions.py`. With
`--digests` every seed's trace is printed as one number.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.liars.telling import LIES
from tests.simulation.plan import Plan, draw, forgetful
from tests.simulation.shrink import shrink
from tests.simulation.tally import ROWS
from tests.simulation.violation import Violation
from tests.simulation.world import World

TRACE_LINES = 50

CHUNK = 50
"""Seeds that one process runs before it reports."""


def run_plan(plan: Plan) -> Counter[str]:
    """Runs one plan. On a violation the error tells the plan, the trace's end, how to replay."""
    world = World(plan)
    try:
        world.run()
    except Exception as error:
        trace = "\n".join(world.trace[-TRACE_LINES:])
        raise Violation(
            f"seed {plan.seed}: {type(error).__name__}: {error}\n{plan}\n{trace}\n"
            f"replay: make sim SEED={plan.seed}"
        ) from error
    return world.counts


def run_seed(seed: int) -> Counter[str]:
    """Runs one seed."""
    return run_plan(draw(seed))


def run_forgetful(seed: int) -> Counter[str]:
    """Runs a seed's calm plan, in which a name is forgotten by its broker and a producer together."""
    return run_plan(forgetful(seed))


def wrong(plan: Plan) -> str | None:
    """What goes wrong in a plan, in words without its figures; None if it runs through."""
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
    asked = [argument for argument in arguments if argument != "--digests"]
    first, _, last = asked[0].partition("..")
    if len(asked) > 1:
        last = asked[1]
    if digests:
        return _digests(int(first), int(last))
    if not last:
        return _one(int(first))
    return _range(int(first), int(last))


def _digests(first: int, stop: int) -> int:
    """A line for each seed: two processes that print the same saw the same."""
    for seed in range(first, stop):
        world = World(draw(seed))
        world.run()
        print(seed, world.digest)
    return 0


def _one(seed: int) -> int:
    try:
        counts = run_seed(seed)
    except Violation as violation:
        print(violation)
        plan = shrink(draw(seed), wrong)
        print(f"\nshrunk to {len(plan.steps)} steps, still {wrong(plan)}:\n{plan}")
        return 1
    print(f"seed {seed} passed: {dict(sorted(counts.items()))}")
    return 0


def _chunk(first: int, stop: int) -> tuple[Counter[str], list[str]]:
    total: Counter[str] = Counter()
    failed = []
    for seed in range(first, stop):
        try:
            counts = run_seed(seed)
            total += counts
            total["fewest events"] = min(total["fewest events"] or 10**9, counts["events"])
        except Violation as violation:
            failed.append(str(violation).split("\n")[0][:300])
    return total, failed


def _range(first: int, stop: int) -> int:
    total: Counter[str] = Counter()
    failed: list[str] = []
    fewest = 10**9
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        starts = range(first, stop, CHUNK)
        ends = [min(start + CHUNK, stop) for start in starts]
        for counts, failures in pool.map(_chunk, starts, ends):
            fewest = min(fewest, counts.pop("fewest events", fewest))
            total += counts
            failed += failures
            for failure in failures:
                print(failure, flush=True)
    print(f"{stop - first - len(failed)} seeds passed, {len(failed)} failed")
    print(f"fewest events of a seed: {fewest}")
    for what, count in sorted(total.items()):
        print(f"{what:45} {count}")
    noticed = [f"noticed: {name}" for name in LIES]
    never = [row for row in (*ROWS, *noticed) if not total[row]]
    if never:
        print(f"never taken: {never}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs seeds: `python -m tests.simulation.run 17`, or `… 0 500` for a range."""

from __future__ import annotations

import sys
from collections import Counter

from tests.simulation.checkers import Violation
from tests.simulation.world import TRACE_LINES, World


def run_seed(seed: int) -> Counter[str]:
    """Runs one seed. On a violation the error tells the seed, the plan, the trace's end, how to replay."""
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        trace = "\n".join(world.trace[-TRACE_LINES:])
        raise Violation(
            f"seed {seed}: {type(error).__name__}: {error}\n{world.plan}\n{trace}\nreplay: make sim SEED={seed}"
        ) from error
    return world.counts


def main() -> int:
    first = int(sys.argv[1])
    stop = int(sys.argv[2]) if len(sys.argv) > 2 else first + 1
    total: Counter[str] = Counter()
    failed = 0
    for seed in range(first, stop):
        try:
            total += run_seed(seed)
        except Violation as violation:
            failed += 1
            print(str(violation) if stop - first == 1 else str(violation).split("\n")[0][:300])
    print(f"{stop - first - failed} seeds passed, {failed} failed")
    print(dict(sorted(total.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

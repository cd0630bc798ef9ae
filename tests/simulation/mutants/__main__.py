"""`python -m tests.simulation.mutants`: hunts all mutants, or those named, and prints the seed that caught each."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.mutants import MUTANTS


def hunt(name: str) -> tuple[int, str] | None:
    caught = MUTANTS[name].hunt()
    if caught is not None:
        # Without the bug the same seed must pass: else another bug was caught.
        MUTANTS[name].run(caught[0])
    return caught


def main(names: list[str]) -> int:
    wanted = names or list(MUTANTS)
    survivors = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, caught in zip(wanted, pool.map(hunt, wanted), strict=True):
            limit = MUTANTS[name].within
            if caught is None:
                survivors.append(name)
                print(f"{name:40} SURVIVED {limit} seeds", flush=True)
            else:
                seed, how = caught
                print(f"{name:40} seed {seed:>3} of {limit:<3}  {how[:110]}", flush=True)
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

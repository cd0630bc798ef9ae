"""Plays seeds on real processes until the time is over or the guarantee is broken.

python -m tests.faults.run --minutes 30           # make faults MINUTES=30
python -m tests.faults.run --seed 17              # plays this seed again
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.faults.plan import draw
from tests.faults.trial import Trial

SECONDS: Final = 15.0
MOST: Final = ("most memory MiB", "most descriptors")
"""Figures whose largest value is kept; all others are added up."""


def play(seed: int, seconds: float) -> Counter[str]:
    """Play one seed.

    The logs of a failed seed are kept; the error names their folder and the command to play it again.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"pubsubd-faults-{seed}-"))
    plan = draw(seed, seconds)
    (folder / "plan").write_text("\n".join([*map(str, plan.faults), str(plan)]))
    try:
        counts = Trial(plan, folder).run()
    except Exception as error:
        again = f"python -m tests.faults.run --seed {seed} --seconds {seconds:g}"
        error.add_note(f"seed {seed}, its logs are in {folder}\nagain: {again}")
        raise
    shutil.rmtree(folder)
    return counts


def figures(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items()) if count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of faults for each seed")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    total: Counter[str] = Counter()
    played = 0
    seed = options.first if options.seed is None else options.seed
    while True:
        print(f"seed {seed}: ", end="", flush=True)
        began = time.monotonic()
        counts = play(seed, options.seconds)
        print(f"{figures(counts)} in {time.monotonic() - began:.0f} s", flush=True)
        largest = {what: max(total[what], counts[what]) for what in MOST}
        total.update(counts)
        total.update({what: largest[what] - total[what] for what in MOST})
        played += 1
        seed += 1
        if options.seed is not None or time.monotonic() >= deadline:
            break
    print(f"{played} seeds played, nothing violated: {figures(total)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

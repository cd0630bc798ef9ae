"""Soaks three brokers for `--minutes` and prints their figures. Exit code 1 if a figure grew or a message was lost.

python -m tests.soak.run --minutes 30             # make soak MINUTES=30
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.soak.plan import draw
from tests.soak.samples import BOUNDS
from tests.soak.soak import Outcome, Soak
from tests.soak.trend import ERRORS, trend

LEAST_SPAN_S: Final = 60.0
"""Least time over which growth is judged.

In a shorter time, applications and slow callers that come and go look like growth. Leaks that stay at the end are
found in a short run as well.
"""

COLUMNS: Final = "{:<3}{:<13}{:>8}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}{:>7}{:>7}  {}"


def soak(seed: int, seconds: float) -> tuple[Outcome, list[str]]:
    """The outcome of one soak, and its table. Growth is among the violations. The folder of a failed soak is kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"pubsubd-soak-{seed}-"))
    plan = draw(seed, seconds)
    try:
        outcome = Soak(plan, folder).run()
    except BaseException as error:
        error.add_note(f"its folder is {folder}")
        raise
    table = list(rows(outcome, plan.warm_up_s))
    if outcome.violations:
        outcome.violations.append(f"its folder is {folder}")
    else:
        shutil.rmtree(folder)
    return outcome, table


def rows(outcome: Outcome, warm_up_s: float) -> Iterator[str]:
    """A line for each figure of each broker, over its longest life. Adds figures that grew to the violations."""
    yield COLUMNS.format(
        *("", "", "seconds", "first", "median", "most", "growth", "± err", "allowed"),
        *("idle", "after", ""),
    )
    for node, idle in outcome.idle.items():
        life = outcome.samples.longest_life(node, warm_up_s)
        span_s = life[-1][0] - life[0][0] if life else 0.0
        for figure, before in idle.items():
            series = [(at_s, sample[figure]) for at_s, sample in life]
            after = outcome.after[node][figure]
            if span_s < LEAST_SPAN_S:
                most = outcome.samples.most(node, figure)
                yield COLUMNS.format(
                    *(node, figure, f"{span_s:.0f}", "-", "-", f"{most:.1f}", "-", "-", "-"),
                    *(f"{before:.1f}", f"{after:.1f}", "too short to judge growth"),
                )
                continue
            found = trend(series)
            allowed = BOUNDS[figure].allowed(found.level)
            grows = not found.within(BOUNDS[figure])
            figures = (
                *(series[0][1], found.level, max(value for _, value in series)),
                *(found.growth, found.error, allowed, before, after),
            )
            yield COLUMNS.format(
                *(node, figure, f"{span_s:.0f}", *(f"{each:.1f}" for each in figures)),
                "GROWS" if grows else "",
            )
            if grows:
                outcome.violations.append(
                    f"{figure} of broker {node} grows by {found.growth:.1f} in {span_s:.0f} s, "
                    f"its error is {found.error:.1f}, allowed are {allowed:.1f}"
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome, table = soak(options.seed, 60 * options.minutes)
    print("\n".join(table))
    print(f"A figure grows if its growth less {ERRORS:g} errors is more than the allowed growth.")
    print(", ".join(f"{what} {count}" for what, count in sorted(outcome.counts.items())))
    for violation in outcome.violations:
        print(f"VIOLATED: {violation}")
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())

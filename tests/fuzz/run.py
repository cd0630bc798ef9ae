"""Fuzzes each target in turn, or one target, until the time is over or a fault is found.

python -m tests.fuzz.run --minutes 10                     # make fuzz MINUTES=10
python -m tests.fuzz.run --target codec --inputs 1000000  # one target, by number of inputs
python -m tests.fuzz.run --target codec --replay FILE     # one input again
python -m tests.fuzz.run --target codec --add FILE...     # keep these inputs in the corpus
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.campaign import Crashed, available, hunt
from tests.fuzz.mutating import some, until
from tests.fuzz.play import Finding, play
from tests.fuzz.target import TARGETS, Target


def replay(target: Target, file: Path) -> None:
    """Raises `Finding`, caused by the error of the input."""
    figures = play(target, [file.read_bytes()], measure_every=1)
    print(f"{target.name}: nothing wrong, {figures.most_memory} bytes of memory")


def add(target: Target, files: list[Path]) -> None:
    """Raises `Finding` for an input that still shows a fault."""
    inputs = [file.read_bytes() for file in files]
    play(target, inputs, measure_every=1)
    new = corpus.add(target, inputs)
    print(f"{target.name}: {new} inputs added, {len(corpus.kept(target))} are kept")


def guide(target: Target, seconds: int, inputs: int | None) -> None:
    found = hunt(target, seconds=None if inputs else seconds, inputs=inputs)
    print(
        f"{target.name}: {found.inputs:,} inputs in {found.seconds:.0f} s"
        f" ({found.inputs / found.seconds:,.0f}/s), {found.edges} edges, nothing wrong;"
        f" {found.peak_mb} MiB at most; {found.kept} inputs kept, {found.new} of them new",
        flush=True,
    )


def mutate(target: Target, seconds: int, inputs: int | None, seed: int) -> None:
    began = time.monotonic()
    made = some(target, seed, inputs) if inputs else until(target, seed, began + seconds)
    figures = play(target, made)
    took = time.monotonic() - began
    print(
        f"{target.name}: {figures.inputs:,} inputs in {took:.0f} s ({figures.inputs / took:,.0f}/s),"
        f" nothing wrong; an input took {figures.most_memory} bytes at most, the process {_peak_mib()} MiB",
        flush=True,
    )


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, help="only this target")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all targets together")
    parser.add_argument(
        "--inputs", type=int, help="inputs for each target, without a limit of time"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the inputs that are not guided by coverage"
    )
    parser.add_argument("--unguided", action="store_true", help="without atheris")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="this input alone")
    parser.add_argument(
        "--add", type=Path, nargs="+", metavar="FILE", help="keep these inputs of --target"
    )
    options = parser.parse_args()
    if options.add and not options.target:
        parser.error("--add needs --target: the corpus of which target is meant?")
    targets = [TARGETS[options.target]] if options.target else list(TARGETS.values())
    guided = not options.unguided and available()
    if not guided and not options.unguided:
        print("atheris is not installed: inputs are mutated without looking at what they reach")
    seconds = max(1, round(60 * options.minutes / len(targets)))
    try:
        for target in targets:
            if options.replay is not None:
                replay(target, options.replay)
            elif options.add:
                add(target, options.add)
            elif guided:
                guide(target, seconds, options.inputs)
            else:
                mutate(target, seconds, options.inputs, options.seed)
    except Finding as finding:
        print(finding)
        raise finding.cause from None
    except Crashed as crash:
        print(crash)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

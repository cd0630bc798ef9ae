"""The command: `python -m bench [--quick]`, `python -m bench report`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from bench import builds, compare, contestants, report, results, workloads
from bench.contestants import Contestant
from bench.machine import commit, machine, short_host, versions
from bench.measure import Pace, Sample
from bench.results import Result
from bench.rounds import run
from bench.servers.pubsubd import settings_of
from bench.workloads import Workload

ROUNDS: Final = 3
FULL: Final = Pace()
QUICK: Final = Pace(window_s=0.5, warm_up_s=0.15)
QUICK_BUDGET_S: Final = 50.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # After a signal, it still ends the processes that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if options.command == "report":
        return _report()
    pythons = builds.installed()
    chosen = [each.on(pythons) for each in _contestants(options.contestants, options.quick)]
    missing = {each.name: why for each in chosen if (why := each.missing(pythons))}
    for name, why in missing.items():
        print(f"missing: {name}: {why}", file=sys.stderr)
    able = [each for each in chosen if each.name not in missing]
    wanted = _workloads(options.only, options.quick)
    pace = QUICK if options.quick else FULL
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    samples = run(
        wanted,
        able,
        rounds,
        pace,
        _say,
        QUICK_BUDGET_S if options.quick else float("inf"),
    )
    result = Result(
        date=date,
        quick=options.quick,
        rounds=rounds,
        window_s=pace.window_s,
        machine=machine(),
        versions=versions(),
        builds={each.name: each.build for each in able if each.build is not None},
        source=commit(),
        missing=missing,
        settings={each.name: settings_of(each) for each in wanted},
        samples=samples,
    )
    print(report.text(result))
    before = results.last_kept()
    if before is None:
        print("No kept result to compare with.")
    else:
        print("\n".join(compare.lines(before, result)))
    whole = not (options.quick or options.only or options.contestants)
    if whole if options.keep is None else options.keep:
        print(f"Kept as {results.keep(result, short_host())}")
    return 1 if any(result.voids()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="pubsubd beside its alternatives for a Python team, in one run.",
        epilog="Exit code 1: a round was void (something was lost, or a process broke).",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["run", "report"],
        default="run",
        help="report: tables and plots of the last kept result, into docs/performance*",
    )
    parser.add_argument("--quick", action="store_true", help="a part, once, in under a minute")
    parser.add_argument(
        "--only",
        action="append",
        metavar="WORKLOAD",
        choices=list(workloads.BY_NAME),
        help="may be repeated: " + ", ".join(workloads.BY_NAME),
    )
    parser.add_argument(
        "--contestants",
        metavar="NAME,…",
        help="of these: " + ", ".join(contestants.BY_NAME),
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {ROUNDS}; 1 with --quick")
    parser.add_argument(
        "--keep",
        action=argparse.BooleanOptionalAction,
        help="write bench/results/DATE-HOST.json; default: if everything was measured",
    )
    return parser


def _contestants(names: str | None, quick: bool) -> list[Contestant]:
    if names is None:
        return [each for each in contestants.CONTESTANTS if each.quick or not quick]
    unknown = set(names.split(",")) - set(contestants.BY_NAME)
    if unknown:
        raise SystemExit(f"no contestant {', '.join(sorted(unknown))}")
    return [contestants.BY_NAME[name] for name in names.split(",")]


def _workloads(names: list[str] | None, quick: bool) -> list[Workload]:
    if names is None:
        return [each for each in workloads.WORKLOADS if each.quick or not quick]
    return [workloads.BY_NAME[name] for name in names]


def _say(workload: str, contestant: str, turn: int, sample: Sample) -> None:
    """Report a sample on standard error, as it happens."""
    what = f"VOID: {sample.void}" if sample.void else report.in_short(sample)
    print(f"{workload:18} {contestant:24} round {turn + 1}  {what}", file=sys.stderr, flush=True)


def _report() -> int:
    result = results.last_kept()
    if result is None:
        print("no kept result: run `python -m bench` first", file=sys.stderr)
        return 1
    try:
        from bench.plots import draw
    except ModuleNotFoundError as error:
        print(f"{error}: run `make bench-report`, which installs it", file=sys.stderr)
        return 1
    for path in report.write(result, draw):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The share of each process in the latency of a message: `python -m bench.shares [--contestants NAME,…]`.

One message each millisecond passes the processes of the workloads of latency, which run under `bench.probe`. Each
message carries the time of its publisher's call, and is found by that time in the bytes that each process received and
wrote. All processes read the same clock of the kernel.

A process writes when it calls its transport. The system call, and waking up the next process, belong to the step after
that. The probes themselves cost a few microseconds in each process.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import builds, contestants
from bench.application import STAMP_BYTES
from bench.contestants import OURS, Contestant
from bench.probe import Record, Row
from bench.processes import Broken
from bench.stage import Stage
from bench.statistics import percentile
from bench.workloads import LATENCY_RATE, WORKLOADS, Workload

WARM_UP_S: Final = 0.5
WINDOW_S: Final = 2.5

PROBED: Final = ("pubsubd", "floor", "socket")
"""Clients whose processes are all Python, and on uvloop."""


@dataclass(frozen=True, slots=True)
class Step:
    """The way to `reached`, from the step before, in microseconds of each message, in rising order."""

    reached: str
    us: Sequence[float]


def steps(arrivals: Sequence[tuple[int, int]], records: dict[str, Record]) -> list[Step]:
    """The steps of the messages that were found everywhere, and all of them together.

    `arrivals`: the times of the publisher's call and of the application, of each message in order. `records`: of the
    publisher, the servers in their order, and the reader.
    """
    made = [call for call, _ in arrivals]
    stamps = [call.to_bytes(STAMP_BYTES, "big") for call in made]
    publisher, *servers, reader = records.items()
    columns: dict[str, list[int | None]] = {
        f"{publisher[0]} writes": places(stamps, publisher[1].written)
    }
    for name, record in servers:
        columns[f"{name} has the bytes"] = places(stamps, record.received)
        columns[f"{name} writes"] = places(stamps, record.written)
    columns[f"{reader[0]} has the bytes"] = places(stamps, reader[1].received)
    columns["application has the message"] = [came for _, came in arrivals]
    rows = [
        [call, *(time for time in row if time is not None)]
        for call, *row in zip(made, *columns.values(), strict=True)
        if None not in row
    ]
    if not rows:
        raise Broken("no message was found in all processes")
    found = [
        Step(name, sorted((row[at + 1] - row[at]) / 1e3 for row in rows))
        for at, name in enumerate(columns)
    ]
    return [*found, Step("all together", sorted((row[-1] - row[0]) / 1e3 for row in rows))]


def places(stamps: Sequence[bytes], row: Row) -> list[int | None]:
    """The time of the first piece that has each stamp; None if no piece has it whole. Stamps pass in their order."""
    times: list[int | None] = []
    begin = 0
    for stamp in stamps:
        at = next((i for i in range(begin, len(row.pieces)) if stamp in row.pieces[i]), None)
        times.append(None if at is None else row.times_ns[at])
        begin = begin if at is None else at
    return times


def measured(contestant: Contestant, workload: Workload, window_s: float) -> list[Step]:
    """The steps of one run. Raises `Broken`."""
    with tempfile.TemporaryDirectory(prefix="shares-") as folder:
        probed = replace(contestant, python=(*contestant.python, "-m", "bench.probe", folder))
        with Stage(probed, workload) as stage:
            for seconds in (WARM_UP_S, window_s):
                passed = stage.pass_through(int(LATENCY_RATE * seconds), "pace")
                if passed.void:
                    raise Broken(passed.void)
            arrivals = stage.reader.ask("arrivals")["arrivals"]
            records = {}
            for name, process in stage.processes().items():
                file = Path(folder) / str(process.pid)
                process.process.send_signal(signal.SIGUSR1)
                process.wait(file.exists, "its record")
                records[name] = Record.read(file)
        return steps(arrivals, records)


def lines(title: str, found: Sequence[Step]) -> Iterator[str]:
    """A table for a terminal."""
    yield f"\n{title}: {len(found[-1].us):,} messages, {LATENCY_RATE:,} a second"
    yield f"  {'the publisher calls; then':30}{'p50, µs':>9}{'p99, µs':>9}"
    for step in found:
        p50, p99 = (percentile(step.us, share) for share in (0.5, 0.99))
        yield f"  {step.reached:30}{p50:9.1f}{p99:9.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.shares", description=__doc__)
    able = [each.name for each in contestants.CONTESTANTS if each.client in PROBED]
    parser.add_argument("--contestants", metavar="NAME,…", default=f"{OURS},floor")
    parser.add_argument("--seconds", type=float, default=WINDOW_S)
    options = parser.parse_args(arguments)
    names = options.contestants.split(",")
    if unable := set(names) - set(able):
        parser.error(f"not measured in steps: {', '.join(sorted(unable))}; of these: {able}")
    pythons = builds.installed()
    for name in names:
        contestant = contestants.BY_NAME[name].on(pythons)
        build = f" ({contestant.build})" if contestant.build else ""
        for workload in (each for each in WORKLOADS if each.kind == "latency"):
            try:
                found = measured(contestant, workload, options.seconds)
            except Broken as broken:
                print(f"\n{name}{build}, {workload.title}: {broken}", file=sys.stderr)
                return 1
            print("\n".join(lines(f"{name}{build}, {workload.title}", found)))
    return 0


if __name__ == "__main__":
    # After a signal, it still ends the processes that it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())

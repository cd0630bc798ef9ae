"""The kept results of a run, and the figures in them.

A result is one JSON file in `bench/results`, named after its date and its host:

    schema      1, the number of this description
    date        when the run began, UTC
    quick       whether it was a short run, which is never compared with
    rounds      the number of rounds, interleaved
    window_s    the intended length of a measured window
    machine     cpu, cores, memory_gib, kernel
    versions    Python, packages, servers
    builds      {contestant: `compiled` or `interpreted`}, for those that run pubsubd
    source      commit, and whether the sources had changes beside it
    missing     {contestant: the reason why it was not measured}
    settings    {workload: {option of `pubsubd start` that was not at its default: value}}
    samples     {workload: {contestant: [a round: {figures: {name: figure}, void: the reason why it does not count, or null}]}}
    summary     {workload: {contestant: {figure: {median, low, high}}}}, over the rounds that count; for people:
                it is computed anew from the samples whenever the file is read

Figures are named with their unit at the end; those of a process have its name behind a dot, as
`cpu_us.broker-a`: CPU microseconds a message. In a fan-out a message counts once for each session.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from bench.contestants import BY_NAME as CONTESTANTS
from bench.measure import Sample
from bench.statistics import Spread, ratios, spread
from bench.workloads import Kind

SCHEMA: Final = 1
FOLDER: Final = Path(__file__).parent / "results"

Samples = dict[str, dict[str, list[Sample]]]
"""The samples of all rounds, by workload and contestant."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that contestants are compared by."""

    name: str
    title: str
    better: Literal["higher", "lower"]


HEADLINES: Final[Mapping[Kind, tuple[Figure, ...]]] = {
    "throughput": (Figure("messages_per_s", "messages/s", "higher"),),
    "catchup": (Figure("messages_per_s", "messages/s", "higher"),),
    "pause": (Figure("messages_per_s", "messages/s", "higher"),),
    "latency": (
        Figure("p50_us", "p50, µs", "lower"),
        Figure("p99_us", "p99, µs", "lower"),
        Figure("p99_9_us", "p99.9, µs", "lower"),
    ),
    "memory": (),
    "witness": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    date: str
    quick: bool
    rounds: int
    window_s: float
    machine: dict[str, Any]
    versions: dict[str, str]
    source: dict[str, Any]
    builds: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    samples: Samples = field(default_factory=dict)

    def row(self, workload: str, contestant: str, figure: str) -> list[float | None]:
        """The figure of each round; None where the round is void."""
        return [
            None if sample.void else sample.figures.get(figure)
            for sample in self.samples.get(workload, {}).get(contestant, ())
        ]

    def spread(self, workload: str, contestant: str, figure: str) -> Spread | None:
        """The spread over the rounds that count; None if no round does."""
        counted = [value for value in self.row(workload, contestant, figure) if value is not None]
        return spread(counted) if counted else None

    def advantage(
        self, workload: str, contestant: str, figure: Figure, ours: str | None = None
    ) -> Spread | None:
        """The factor by which we are better, pair by pair of one round; above 1 is better for us."""
        ours = ours or CONTESTANTS[contestant].against
        mine = self.row(workload, ours, figure.name)
        theirs = self.row(workload, contestant, figure.name)
        pairs = ratios(mine, theirs) if figure.better == "higher" else ratios(theirs, mine)
        return spread(pairs) if pairs else None

    def figures(self, workload: str, contestant: str) -> list[str]:
        """The names of all figures, in the order in which they were taken."""
        rounds = self.samples.get(workload, {}).get(contestant, ())
        return list(dict.fromkeys(name for sample in rounds for name in sample.figures))

    def voids(self) -> Iterator[tuple[str, str, str]]:
        """Workload, contestant and reason of every round that does not count."""
        for workload, contestants in self.samples.items():
            for contestant, rounds in contestants.items():
                for sample in rounds:
                    if sample.void:
                        yield workload, contestant, sample.void


def to_json(result: Result) -> str:
    samples = {
        workload: {
            contestant: [
                {
                    "figures": {name: _rounded(value) for name, value in sample.figures.items()},
                    "void": sample.void,
                }
                for sample in rounds
            ]
            for contestant, rounds in contestants.items()
        }
        for workload, contestants in result.samples.items()
    }
    whole = {
        "schema": SCHEMA,
        "date": result.date,
        "quick": result.quick,
        "rounds": result.rounds,
        "window_s": result.window_s,
        "machine": result.machine,
        "versions": result.versions,
        "builds": result.builds,
        "source": result.source,
        "missing": result.missing,
        "settings": result.settings,
        "summary": _summary(result),
        "samples": samples,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Result:
    """Raises `ValueError` for a file of another schema."""
    whole = json.loads(text)
    if whole.get("schema") != SCHEMA:
        raise ValueError(f"schema {whole.get('schema')!r} instead of {SCHEMA}")
    samples = {
        workload: {
            contestant: [Sample(each["figures"], each["void"]) for each in rounds]
            for contestant, rounds in contestants.items()
        }
        for workload, contestants in whole["samples"].items()
    }
    del whole["schema"], whole["summary"]
    return Result(**{**whole, "samples": samples})


def keep(result: Result, host: str, folder: Path = FOLDER) -> Path:
    """Write it where `last_kept` finds it, in place of one of the same day and host."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.date[:10]}-{host}.json"
    path.write_text(to_json(result))
    return path


def last_kept(folder: Path = FOLDER) -> Result | None:
    """The newest by its own date, of this schema."""
    newest: Result | None = None
    for path in sorted(folder.glob("*.json")):
        try:
            result = from_json(path.read_text())
        except ValueError:
            continue
        if not result.quick and (newest is None or result.date > newest.date):
            newest = result
    return newest


def _summary(result: Result) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    summary: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for workload, contestants in result.samples.items():
        for contestant in contestants:
            for name in result.figures(workload, contestant):
                found = result.spread(workload, contestant, name)
                if found is not None:
                    summary.setdefault(workload, {}).setdefault(contestant, {})[name] = {
                        "median": _rounded(found.median),
                        "low": _rounded(found.low),
                        "high": _rounded(found.high),
                    }
    return summary


def _rounded(value: float) -> float:
    """Four decimals are more than any figure is worth."""
    return round(value, 4)

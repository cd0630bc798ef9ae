"""Compares a run with the last kept one: the changes, and the machine's share in them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.contestants import OUR_MODES
from bench.results import HEADLINES, Figure, Result
from bench.workloads import WORKLOADS, Workload

NOTABLE: Final = 0.15
"""A change to look at. Rounds of one run differ by as much on a busy machine."""


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of pubsubd, then and now. Factors are above 1 where now is better."""

    workload: str
    contestant: str
    figure: Figure
    then: float
    now: float
    factor: float
    machine: float | None
    """The median change of the other contestants' figures of this workload: the machine's share."""

    @property
    def own(self) -> float:
        """The change that the machine does not explain."""
        return self.factor / (self.machine or 1.0)

    @property
    def verdict(self) -> str:
        if self.own < 1 - NOTABLE:
            return "worse"
        return "better" if self.own > 1 / (1 - NOTABLE) else ""


def changes(then: Result, now: Result) -> Iterator[Change]:
    """Each headline figure of pubsubd that both results have."""
    for workload in WORKLOADS:
        for figure in HEADLINES[workload.kind]:
            factors = _factors(workload, figure, then, now)
            others = [factor for name, factor in factors.items() if name not in OUR_MODES]
            machine = statistics.median(others) if others else None
            for name in OUR_MODES:
                before = then.spread(workload.name, name, figure.name)
                after = now.spread(workload.name, name, figure.name)
                if name in factors and before is not None and after is not None:
                    yield Change(
                        workload.name,
                        name,
                        figure,
                        before.median,
                        after.median,
                        factors[name],
                        machine,
                    )


def _factors(workload: Workload, figure: Figure, then: Result, now: Result) -> dict[str, float]:
    factors = {}
    for contestant in now.samples.get(workload.name, {}):
        before = then.spread(workload.name, contestant, figure.name)
        after = now.spread(workload.name, contestant, figure.name)
        if before and after and before.median and after.median:
            higher = after.median / before.median
            factors[contestant] = higher if figure.better == "higher" else 1 / higher
    return factors


def lines(then: Result, now: Result) -> Iterator[str]:
    """The lines for a terminal."""
    found = list(changes(then, now))
    yield f"Compared with the result of {then.date} ({then.source.get('commit', '?')[:10]}):"
    if then.machine != now.machine:
        yield "  That was another machine: only the change beyond its share counts."
    for name, build in now.builds.items():
        before = then.builds.get(name, "interpreted")
        if build != before:
            yield f"  {name} was {before}, and is {build} now."
    if not found:
        yield "  no figure that both have measured"
    width = max((len(f"{c.workload} {c.contestant}") for c in found), default=0)
    for change in found:
        name = f"{change.workload} {change.contestant}".ljust(width)
        machine = "" if change.machine is None else f", machine {change.machine - 1:+.0%}"
        yield (
            f"  {name}  {change.figure.title}: {change.then:,.0f} -> {change.now:,.0f}"
            f" ({change.factor - 1:+.0%}{machine}, ours {change.own - 1:+.0%}) {change.verdict}"
        ).rstrip()

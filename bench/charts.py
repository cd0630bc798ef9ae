"""Which plots a result gives: one for each group of workloads in which contestants are compared."""

from __future__ import annotations

from collections.abc import Iterator

from bench.contestants import BY_NAME as CONTESTANTS
from bench.contestants import OUR_MODES, OURS
from bench.results import HEADLINES, Figure, Result
from bench.svg import Bar, Panel, Role, chart
from bench.tables import GROUPS, compact, measured, order, times
from bench.workloads import Workload

NOT_BROKERS = ("floor", "socket")


def charts(result: Result) -> Iterator[tuple[str, str]]:
    """(file name, SVG) of each."""
    for group, title in GROUPS.items():
        panels = [
            Panel(_title(workload, figure), _bars(result, workload, figure))
            for workload in measured(result, group)
            for figure in HEADLINES[workload.kind]
        ]
        if panels:
            yield f"{group.replace(' ', '-')}.svg", chart(title, panels, note(result))


def note(result: Result) -> str:
    return (
        f"{result.date[:10]}, {result.machine.get('cpu')}, {result.machine.get('cores')} cores, "
        f"median of {result.rounds} interleaved rounds, whiskers from lowest to highest; "
        "×: how many times better pubsubd is"
    )


def _title(workload: Workload, figure: Figure) -> str:
    return f"{workload.title}: {figure.title}"


def _bars(result: Result, workload: Workload, figure: Figure) -> list[Bar]:
    bars = []
    for contestant in order(result.samples[workload.name]):
        found = result.spread(workload.name, contestant, figure.name)
        if found is None:
            bars.append(Bar(contestant, None, "void", _role(contestant)))
            continue
        text = compact(found.median)
        against = CONTESTANTS[contestant].against
        advantage = result.advantage(workload.name, contestant, figure)
        if advantage is not None and contestant not in OUR_MODES:
            text += f" · {times(advantage.median)}"
            text += " of receipts" if against != OURS else ""
        bars.append(Bar(contestant, found, text, _role(contestant)))
    return bars


def _role(contestant: str) -> Role:
    if contestant in OUR_MODES:
        return "ours"
    return "floor" if contestant in NOT_BROKERS else "other"

"""The plots of a result: one for each group of workloads in which contestants are compared. Pure.

A chart is all that a plot shows, as data. `bench.plots` draws it. The data is kept beside the plots, with the hash of
each. So a test sees, without drawing, that the plots are those of the last kept result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from bench.contestants import BY_NAME as CONTESTANTS
from bench.contestants import COMPARED, OUR_MODES, OURS
from bench.results import HEADLINES, Figure, Result
from bench.statistics import Spread
from bench.tables import GROUPS, columns, compact, order, times
from bench.workloads import Workload

DATA: Final = "plots.json"
"""The name of the file of the data and hashes."""

NOT_BROKERS: Final = ("floor", "socket")

Role = Literal["ours", "other", "floor"]


@dataclass(frozen=True, slots=True)
class Bar:
    """`figure` None: it was not measured, and `text` gives the reason."""

    name: str
    figure: Spread | None
    text: str
    role: Role


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale, which begins at 0."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    """`note` stands below the panels. `file`: the name of the plot's file."""

    file: str
    title: str
    panels: Sequence[Panel]
    note: str


def charts(result: Result) -> Iterator[Chart]:
    for group, title in GROUPS.items():
        panels = tuple(
            Panel(_title(workload, figure), _bars(result, workload, figure))
            for workload, figure in sorted(columns(result, group), key=_row)
        )
        if panels:
            yield Chart(f"{group.replace(' ', '-')}.svg", title, panels, note(result))


def note(result: Result) -> str:
    return (
        f"{result.date[:10]}, {result.machine.get('cpu')}, {result.machine.get('cores')} cores, "
        f"median of {result.rounds} interleaved rounds, whiskers from lowest to highest; "
        "×: how many times better pubsubd is"
    )


def data_of(drawn: Mapping[Chart, str]) -> str:
    """The data of each plot, and the SHA-256 of its drawing."""
    plots = [
        {**asdict(chart), "sha256": hashlib.sha256(drawing.encode()).hexdigest()}
        for chart, drawing in drawn.items()
    ]
    return json.dumps(plots, indent=1, ensure_ascii=False) + "\n"


def outdated(result: Result, data: str, drawings: Mapping[str, str]) -> list[str]:
    """The file names of plots that do not show `result`, of missing plots and of surplus ones.

    `data`: as `data_of` made it. `drawings`: the text of each file.
    """
    known: dict[str, dict[str, Any]] = {plot["file"]: plot for plot in json.loads(data)}
    wanted: dict[str, Any] = {
        chart.file: json.loads(json.dumps(asdict(chart))) for chart in charts(result)
    }
    return sorted(
        file
        for file in wanted.keys() | known.keys() | drawings.keys()
        if file not in drawings
        or known.get(file)
        != {
            **wanted.get(file, {}),
            "sha256": hashlib.sha256(drawings[file].encode()).hexdigest(),
        }
    )


def _row(column: tuple[Workload, Figure]) -> int:
    """Panels of one figure stand side by side."""
    workload, figure = column
    return HEADLINES[workload.kind].index(figure)


def _title(workload: Workload, figure: Figure) -> str:
    return f"{workload.title}: {figure.title}"


def _bars(result: Result, workload: Workload, figure: Figure) -> tuple[Bar, ...]:
    bars = []
    for contestant in order(result.samples[workload.name]):
        found = result.spread(workload.name, contestant, figure.name)
        if found is None:
            bars.append(Bar(contestant, None, "void", _role(contestant)))
            continue
        text = compact(found.median)
        against = CONTESTANTS[contestant].against
        advantage = result.advantage(workload.name, contestant, figure)
        if advantage is not None and contestant in COMPARED:
            text += f" · {times(advantage.median)}"
            text += f" of {against.removeprefix('pubsubd-')}" if against != OURS else ""
        bars.append(Bar(contestant, found, text, _role(contestant)))
    return tuple(bars)


def _role(contestant: str) -> Role:
    if contestant in OUR_MODES:
        return "ours"
    return "floor" if contestant in NOT_BROKERS else "other"

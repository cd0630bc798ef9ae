"""A result as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from bench.contestants import BY_NAME as CONTESTANTS
from bench.contestants import COMPARED, OUR_MODES
from bench.results import HEADLINES, Figure, Result
from bench.statistics import Spread, ratios, spread
from bench.workloads import WORKLOADS, Group, Workload

GROUPS: Final[dict[Group, str]] = {
    "throughput": "Throughput, end to end",
    "fan-out": "Fan-out: messages delivered to all sessions together",
    "receipts": "Publishers that each wait for their receipt",
    "latency": "One-way latency at 1,000 messages/s",
    "catch-up": "Catching up: a full ring of 400,000 messages read back",
    "idle sessions": "Beside 1,000 idle sessions",
    "durability": "Kept on disk",
}
"""Groups in which contestants are compared by a headline figure, and their titles."""

LIVE: Final = "100b"
"""The workload that catching up and idle sessions are compared with."""

LATENCY_AIMS: Final = {
    "p50, of NATS core's p50": "1.30× with one broker",
    "p50, of the floor's p50": "2.50× with two brokers",
    "p99, of 2 × p50 and a bare socket's p99": "1.00×",
}
"""The ratios of latency that have an aim, and the aim."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def measured(result: Result, *groups: str) -> list[Workload]:
    return [each for each in WORKLOADS if each.group in groups and each.name in result.samples]


def order(names: Iterable[str]) -> list[str]:
    """The order of the table of contestants."""
    known = set(names)
    return [name for name in CONTESTANTS if name in known]


def ratio_table(result: Result) -> str:
    """The headline: pubsubd's messages as a multiple of each other contestant's."""
    workloads = measured(result, "throughput", "receipts")

    def cell(contestant: str, workload: Workload) -> str:
        (figure,) = HEADLINES[workload.kind]
        found = result.advantage(workload.name, contestant, figure)
        if found is None:
            return _why_not(result, workload, contestant)
        if contestant == "floor":
            return f"{1 / found.median:.2f}× ({found.median:.0%} of it)"
        return f"**{times(found.median)}**{_between(found, times)}"

    return _grid(result, workloads, cell, COMPARED.__contains__)


def columns(result: Result, group: Group) -> list[tuple[Workload, Figure]]:
    """The headline figures of each workload of a group that was measured."""
    return [
        (workload, figure)
        for workload in measured(result, group)
        for figure in HEADLINES[workload.kind]
    ]


def figure_table(result: Result, group: Group) -> str:
    shown = columns(result, group)
    names = order(name for workload, _ in shown for name in result.samples[workload.name])

    def cell(contestant: str, workload: Workload, figure: Figure) -> str:
        found = result.spread(workload.name, contestant, figure.name)
        return ranged(found) if found else _why_not(result, workload, contestant)

    return table(
        ["", *(f"{workload.title}, {figure.title}" for workload, figure in shown)],
        [[name, *(cell(name, *column) for column in shown)] for name in names],
    )


def share_table(result: Result, group: Group) -> str:
    """Each contestant's rate as a share of its own rate without the workload's extra."""

    def cell(contestant: str, workload: Workload) -> str:
        shares = ratios(
            result.row(workload.name, contestant, "messages_per_s"),
            result.row(LIVE, contestant, "messages_per_s"),
        )
        return _percent(spread(shares)) if shares else _why_not(result, workload, contestant)

    return _grid(result, measured(result, group), cell)


def linear_table(result: Result) -> str:
    """Fan-out: messages delivered with many sessions, as a multiple of those with one."""
    workloads = [each for each in measured(result, "fan-out") if each.sessions > 1]
    first = next((each for each in measured(result, "fan-out") if each.sessions == 1), None)

    def cell(contestant: str, workload: Workload) -> str:
        found = first and ratios(
            result.row(workload.name, contestant, "messages_per_s"),
            result.row(first.name, contestant, "messages_per_s"),
        )
        return f"{spread(found).median:.2f}×" if found else "–"

    return _grid(result, workloads, cell)


def latency_table(result: Result) -> str:
    """The ratios that aims are set for: at most the named factor. Each is taken round by round."""
    workloads = measured(result, "latency")

    def rows(contestant: str) -> Iterator[list[str]]:
        found = [_latency_ratios(result, each.name, contestant) for each in workloads]
        for ratio, aim in LATENCY_AIMS.items():
            cells = [_hundredths(spread(each[ratio])) if each[ratio] else "–" for each in found]
            yield [f"{contestant}: {ratio}", *cells, aim]

    ours = [
        name
        for name in order(name for each in workloads for name in result.samples[each.name])
        if name in OUR_MODES
    ]
    return table(
        ["", *(each.title for each in workloads), "aim"],
        [row for contestant in ours for row in rows(contestant)],
    )


def _latency_ratios(result: Result, workload: str, contestant: str) -> dict[str, list[float]]:
    p50s, p99s = (result.row(workload, contestant, name) for name in ("p50_us", "p99_us"))
    socket = result.row(workload, "socket", "p99_us")
    limits = [
        None if p50 is None or bare is None else 2 * p50 + bare
        for p50, bare in zip(p50s, socket, strict=False)
    ]
    others = (result.row(workload, name, "p50_us") for name in ("nats-core", "floor"))
    compared = (*(ratios(p50s, other) for other in others), ratios(p99s, limits))
    return dict(zip(LATENCY_AIMS, compared, strict=True))


def cpu_table(result: Result) -> str:
    """CPU microseconds a message, a row for each process."""
    workloads = measured(result, "throughput")
    rows = []
    for contestant in order(name for each in workloads for name in result.samples[each.name]):
        names = {
            name: None
            for each in workloads
            for name in result.figures(each.name, contestant)
            if name.startswith("cpu_us.")
        }
        for name in names:
            found = [result.spread(each.name, contestant, name) for each in workloads]
            cells = [f"{each.median:.2f}" if each else "–" for each in found]
            rows.append([f"{contestant}: {name.removeprefix('cpu_us.')}", *cells])
    return table(["", *(each.title for each in workloads)], rows)


def memory_table(result: Result) -> str:
    """A row for each server."""
    columns = {
        "idle_mib": "idle, MiB",
        "session_kib": "per idle session, KiB",
        "full_mib": "full, MiB",
        "kept_mib": "of that for kept messages, MiB",
    }
    rows = []
    for workload in measured(result, "memory"):
        for contestant in order(result.samples[workload.name]):
            figures = result.figures(workload.name, contestant)
            servers = [
                name.removeprefix("idle_mib.") for name in figures if name.startswith("idle_mib.")
            ]
            for server in servers:
                found = [
                    result.spread(workload.name, contestant, f"{column}.{server}")
                    for column in columns
                ]
                cells = [f"{each.median:.1f}" if each else "–" for each in found]
                rows.append([f"{contestant}: {server}", *cells])
    return table(["", *columns.values()], rows)


def witness_table(result: Result) -> str:
    """CPU time of a publish, with the life file and without."""
    columns = {
        "publish_us.without": "without, µs",
        "publish_us.witnessed": "with it, µs",
        "witness_us": "more, µs",
        "witness_ratio": "ratio",
        "broker_us.without": "whole broker without, µs",
        "broker_us.witnessed": "whole broker with it, µs",
        "witness_broker_ratio": "ratio of brokers",
    }
    rows = []
    for workload in measured(result, "witness"):
        for contestant in order(result.samples[workload.name]):
            found = [result.spread(workload.name, contestant, column) for column in columns]
            cells = [
                f"{each.median:.2f}{_between(each, '{:.2f}'.format)}" if each else "–"
                for each in found
            ]
            rows.append([f"{contestant}: {workload.title}", *cells])
    return table(["", *columns.values()], rows)


def compact(figure: float) -> str:
    """Three significant digits: 836k, 2.93M, 152, 0.34."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if figure >= limit:
            scaled = figure / (1e6 if unit == "M" else 1e3)
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{unit}"
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def ranged(found: Spread) -> str:
    return f"{compact(found.median)}{_between(found, compact)}"


def times(ratio: float) -> str:
    return f"{ratio:.1f}×" if ratio >= 1 else f"{ratio:.2f}×"


def _hundredths(found: Spread) -> str:
    def say(ratio: float) -> str:
        return f"{ratio:.2f}×"

    return f"{say(found.median)}{_between(found, say)}"


def _percent(found: Spread) -> str:
    return f"{found.median:.0%}{_between(found, '{:.0%}'.format)}"


def _between(found: Spread, say: Callable[[float], str]) -> str:
    """The range of a figure; an empty text after a single round."""
    return "" if found.low == found.high else f" ({say(found.low)}–{say(found.high)})"


def _grid(
    result: Result,
    workloads: Sequence[Workload],
    cell: Callable[[str, Workload], str],
    shown: Callable[[str], bool] = lambda name: True,
) -> str:
    """A row for each shown contestant, a column for each workload."""
    names = order(name for each in workloads for name in result.samples[each.name])
    return table(
        ["", *(each.title for each in workloads)],
        [[name, *(cell(name, each) for each in workloads)] for name in names if shown(name)],
    )


def _why_not(result: Result, workload: Workload, contestant: str) -> str:
    return "void" if contestant in result.samples[workload.name] else "–"

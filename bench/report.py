"""The texts of a result: on a terminal, and in docs/performance.md between two markers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench import tables
from bench.charts import DATA, Chart, charts, data_of
from bench.contestants import BY_NAME as CONTESTANTS
from bench.contestants import CONTESTANTS as ALL
from bench.contestants import OURS
from bench.measure import Sample
from bench.processes import ROOT
from bench.results import HEADLINES, Result
from bench.tables import GROUPS, compact, measured, ranged, times
from bench.workloads import BY_NAME as WORKLOADS

BEGIN: Final = "<!-- bench:begin -->"
END: Final = "<!-- bench:end -->"

PAGE: Final = ROOT / "docs" / "performance.md"
PLOTS: Final = ROOT / "docs" / "performance"


class NoPlace(Exception):
    """The page has no pair of markers."""


def write(
    result: Result, draw: Callable[[Chart], str], page: Path = PAGE, plots: Path = PLOTS
) -> list[Path]:
    """Draw the plots and put the tables in their place on the page. Returns the files that were written."""
    plots.mkdir(parents=True, exist_ok=True)
    drawn = {chart: draw(chart) for chart in charts(result)}
    for file in plots.glob("*.svg"):
        file.unlink()
    for chart, drawing in drawn.items():
        (plots / chart.file).write_text(drawing)
    (plots / DATA).write_text(data_of(drawn))
    page.write_text(placed(page.read_text(), fragment(result, plots.name)))
    return [*sorted(plots.iterdir()), page]


def placed(page: str, words: str) -> str:
    """The page with `words` between its markers, otherwise unchanged. Raises `NoPlace`."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NoPlace(f"the page needs {BEGIN} and, further down, {END}")
    return f"{before}{BEGIN}\n{words.strip()}\n{END}{after}"


def fragment(result: Result, plots: str) -> str:
    """The Markdown between the markers; `plots` is the folder of the plots, as the page sees it."""
    parts = [_where(result), "### How many times as fast", tables.ratio_table(result)]
    drawn = {chart.title: chart.file for chart in charts(result)}
    for group, title in GROUPS.items():
        if not measured(result, group):
            continue
        parts.append(f"### {title}")
        if title in drawn:
            parts.append(f"![{title}]({plots}/{drawn[title]})")
        parts.append(tables.figure_table(result, group))
        if group in ("catch-up", "idle sessions") and measured(result, "throughput"):
            parts += ["As a share of its own throughput at 100 B:"]
            parts.append(tables.share_table(result, group))
        if group == "latency":
            parts += ["Ratios with an aim:", tables.latency_table(result)]
        if group == "fan-out":
            parts += ["As a multiple of the messages delivered to one session:"]
            parts.append(tables.linear_table(result))
    if measured(result, "throughput"):
        parts += ["### CPU µs a message, in each process", tables.cpu_table(result)]
    if measured(result, "memory"):
        parts += ["### Resident memory of the servers", tables.memory_table(result)]
    if measured(result, "witness"):
        parts += ["### The witness of a life, in CPU of a publish", tables.witness_table(result)]
    return "\n\n".join([*parts, *_footnotes(result)])


def text(result: Result) -> str:
    """The text for a terminal: a line a figure, ratios beside them."""
    lines = []
    for workload in (each for each in WORKLOADS.values() if each.name in result.samples):
        lines.append(f"\n{workload.name}: {workload.title}")
        lines += [
            f"  {contestant:24} {_figures(result, workload.name, contestant)}"
            for contestant in tables.order(result.samples[workload.name])
        ]
    if measured(result, "latency"):
        lines += ["", "Ratios of latency with an aim:", tables.latency_table(result)]
    lines += ["", *(f"{name} ran {build}" for name, build in result.builds.items())]
    lines += ["", *(f"missing: {name}: {why}" for name, why in result.missing.items())]
    lines += [
        f"VOID: {workload} {contestant}: {why}" for workload, contestant, why in result.voids()
    ]
    return "\n".join(lines)


def in_short(sample: Sample) -> str:
    """A round in one line, printed while the benchmark runs."""
    heads = {figure.name: figure.title for figures in HEADLINES.values() for figure in figures}
    shown = {
        name: value
        for name, value in sample.figures.items()
        if name in heads or name.startswith(("full_mib", "witness"))
    }
    return "  ".join(f"{heads.get(name, name)}: {compact(v)}" for name, v in shown.items())


def _figures(result: Result, workload: str, contestant: str) -> str:
    heads = HEADLINES[WORKLOADS[workload].kind]
    if not heads:
        return "  ".join(
            f"{name} {ranged(found)}"
            for name in result.figures(workload, contestant)
            if (found := result.spread(workload, contestant, name))
        )
    parts = []
    for figure in heads:
        found = result.spread(workload, contestant, figure.name)
        if found is None:
            return "void"
        part = f"{figure.title} {ranged(found)}"
        against = CONTESTANTS[contestant].against
        advantage = result.advantage(workload, contestant, figure)
        if advantage is not None and against != contestant:
            part += f" [{against} {times(advantage.median)}]"
        parts.append(part)
    return "   ".join(parts)


def _where(result: Result) -> str:
    machine = result.machine
    source = str(result.source.get("commit"))[:10]
    if result.source.get("changed"):
        source += " with changes"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return (
        f"Measured on {result.date[:10]} at {source}: {machine.get('cpu')}, {machine.get('cores')} "
        f"cores, {machine.get('memory_gib')} GiB, {machine.get('kernel')}. {versions}. Medians of "
        f"{result.rounds} interleaved rounds, in brackets the lowest and the highest."
        f"{_build(result)}"
    )


def _build(result: Result) -> str:
    """The build of our main contestant; nothing where the result is older than the two builds."""
    return {
        "compiled": " pubsubd ran compiled.",
        "interpreted": " **pubsubd ran interpreted**: no compiled build was installed.",
    }.get(result.builds.get(OURS, ""), "")


def _built(result: Result, contestant: str) -> str:
    build = result.builds.get(contestant)
    return f" ({build})" if build else ""


def _footnotes(result: Result) -> Iterator[str]:
    taken = {name for contestants in result.samples.values() for name in contestants}
    yield "### Contestants"
    yield "\n".join(
        f"- **{each.name}**{_built(result, each.name)}: {each.about}."
        for each in ALL
        if each.name in taken
    )
    if result.missing:
        yield (
            "Not measured: " + "; ".join(f"{n} ({why})" for n, why in result.missing.items()) + "."
        )
    voids = [f"- {workload}, {who}: {why}" for workload, who, why in result.voids()]
    if voids:
        yield "Rounds that do not count:\n\n" + "\n".join(voids)
    settings: dict[str, list[str]] = {}
    for name, options in result.settings.items():
        if options and "pubsubd" in result.samples.get(name, {}):
            said = " ".join(f"`--{option} {value}`" for option, value in options.items())
            settings.setdefault(said, []).append(name)
    if settings:
        yield "Options of `pubsubd start` that were not at their defaults:"
        yield "\n".join(f"- {said}, in {', '.join(names)}" for said, names in settings.items())

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bench import report, tables
from bench.charts import DATA, Chart, charts, data_of, outdated
from bench.measure import Sample
from bench.results import last_kept
from bench.statistics import Spread
from tests.unit.bench.made_up import result

MADE = result(
    {
        "100b": {
            "pubsubd": [900e3, 800e3, 850e3],
            "nats-core": [90e3, 100e3, 85e3],
            "floor": [2e6, 2e6, 2e6],
            "redis-streams": [None, None, None],
        },
        "fanout-1": {"pubsubd": [800e3]},
        "fanout-10": {"pubsubd": [1200e3]},
        "catchup-earliest": {"pubsubd": [700e3, 640e3, 680e3]},
    }
)
PAGE = f"# Title\n\nBefore.\n{report.BEGIN}\nold\n{report.END}\nAfter.\n"


def drawn(chart: Chart) -> str:
    """In place of a drawing."""
    return f"<svg>{chart.title}</svg>"


def test_the_page_changes_between_its_markers_only() -> None:
    assert report.placed(PAGE, "new") == PAGE.replace("old", "new")


def test_writing_the_report_twice_gives_the_same_page(tmp_path: Path) -> None:
    page, plots = tmp_path / "performance.md", tmp_path / "performance"
    page.write_text(PAGE)
    report.write(MADE, drawn, page, plots)
    once = page.read_text()
    report.write(MADE, drawn, page, plots)
    assert page.read_text() == once
    assert once.startswith("# Title\n\nBefore.\n")
    assert once.endswith("After.\n")


@pytest.mark.parametrize("page", ["nothing", f"{report.END} {report.BEGIN}", report.BEGIN])
def test_a_page_without_markers_is_refused(page: str) -> None:
    with pytest.raises(report.NoPlace):
        report.placed(page, "new")


def test_the_page_shows_every_plot_and_no_other(tmp_path: Path) -> None:
    page, plots = tmp_path / "performance.md", tmp_path / "performance"
    page.write_text(PAGE)
    written = report.write(MADE, drawn, page, plots)
    shown = set(re.findall(r"\]\(performance/([\w-]+\.svg)\)", page.read_text()))
    assert {*shown, DATA} == {path.name for path in plots.iterdir()}
    assert set(written) == {*plots.iterdir(), page}


def test_the_headline_is_the_median_of_paired_ratios() -> None:
    row = next(
        line for line in tables.ratio_table(MADE).splitlines() if line.startswith("| nats-core")
    )
    assert "**10.0×** (8.0×–10.0×)" in row


def test_the_floor_is_said_as_a_share_of_it() -> None:
    row = next(line for line in tables.ratio_table(MADE).splitlines() if "floor" in line)
    assert "42% of it" in row


def test_a_contestant_without_a_valid_round_is_void_and_says_why() -> None:
    words = report.fragment(MADE, "plots")
    row = next(line for line in words.splitlines() if line.startswith("| redis-streams"))
    assert "void" in row
    assert "redis-streams: 3 of 9 messages did not arrive" in words


def test_what_is_missing_is_named_and_not_guessed() -> None:
    MADE.missing["jetstream"] = "nats-server is not installed"
    try:
        assert "jetstream (nats-server is not installed)" in report.fragment(MADE, "plots")
        assert "missing: jetstream: nats-server is not installed" in report.text(MADE)
    finally:
        MADE.missing.clear()


def test_catching_up_is_held_against_live_throughput() -> None:
    assert "80% (78%–80%)" in tables.share_table(MADE, "catch-up")


def test_settings_that_were_not_at_their_default_are_said() -> None:
    assert "`--ring-messages 6000000`" in report.fragment(MADE, "plots")


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    blocks = report.fragment(MADE, "plots").split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert tables
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, table


def test_each_group_that_was_measured_has_a_plot() -> None:
    assert {chart.file for chart in charts(MADE)} == {
        *("throughput.svg", "fan-out.svg", "catch-up.svg")
    }


def test_what_was_not_measured_has_words_and_no_figure() -> None:
    bars = {bar.name: bar for bar in next(charts(MADE)).panels[0].bars}
    assert (bars["redis-streams"].figure, bars["redis-streams"].text) == (None, "void")
    assert bars["nats-core"].figure == Spread(90e3, 85e3, 100e3)
    assert bars["nats-core"].text == "90.0k · 10.0×"


def test_the_page_and_its_plots_show_the_last_kept_result() -> None:
    kept = last_kept()
    assert kept is not None
    drawings = {file.name: file.read_text() for file in report.PLOTS.glob("*.svg")}
    assert outdated(kept, (report.PLOTS / DATA).read_text(), drawings) == [], "make bench-report"
    page = report.PAGE.read_text()
    assert page == report.placed(page, report.fragment(kept, report.PLOTS.name))


def test_a_plot_of_other_figures_is_outdated() -> None:
    drawings = {chart.file: drawn(chart) for chart in charts(MADE)}
    data = data_of({chart: drawn(chart) for chart in charts(MADE)})
    assert outdated(MADE, data, drawings) == []
    other = result({"100b": {"pubsubd": [1.0]}, "fanout-1": {"pubsubd": [800e3]}})
    assert outdated(other, data, drawings) == ["catch-up.svg", "fan-out.svg", "throughput.svg"]


@pytest.mark.parametrize(
    ("changed", "file"),
    [
        ({"fan-out.svg": "by hand"}, "fan-out.svg"),
        ({"fan-out.svg": None}, "fan-out.svg"),
        ({"old.svg": "<svg/>"}, "old.svg"),
    ],
    ids=["changed", "missing", "too many"],
)
def test_a_plot_that_was_not_drawn_here_is_outdated(
    changed: dict[str, str | None], file: str
) -> None:
    data = data_of({chart: drawn(chart) for chart in charts(MADE)})
    files = {chart.file: drawn(chart) for chart in charts(MADE)} | changed
    drawings = {name: text for name, text in files.items() if text is not None}
    assert outdated(MADE, data, drawings) == [file]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (0.339, "0.339"),
        (55.62, "55.6"),
        (152.4, "152"),
        (5428.0, "5,428"),
        (23_456.0, "23.5k"),
        (836_162.0, "836k"),
        (2_932_454.0, "2.93M"),
    ],
)
def test_figures_are_said_with_three_digits_or_so(figure: float, said: str) -> None:
    assert tables.compact(figure) == said


def test_latency_is_compared_with_its_aims_round_by_round() -> None:
    p50s = {"pubsubd": (300.0, 200.0), "nats-core": (100.0, 100.0), "floor": (100.0, 50.0)}
    made = result({"100b": {}})
    made.samples["latency"] = {
        name: [Sample({"p50_us": p50, "p99_us": 2 * p50}) for p50 in rounds]
        for name, rounds in {**p50s, "socket": (100.0, 100.0)}.items()
    }
    words = tables.latency_table(made)
    assert "| pubsubd: p50, of NATS core's p50 | 2.50× (2.00×–3.00×) |" in words
    assert "| pubsubd: p50, of the floor's p50 | 3.50× (3.00×–4.00×) |" in words
    assert "| pubsubd: p99, of 2 × p50 and a bare socket's p99 | 0.71× (0.67×–0.75×) |" in words
    assert words in report.fragment(made, "plots")
    assert words in report.text(made)


def test_panels_of_one_figure_stand_side_by_side() -> None:
    made = result({"latency": {"pubsubd": [1.0]}, "latency-one-node": {"pubsubd": [1.0]}})
    (chart,) = charts(made)
    assert [panel.title for panel in chart.panels][:3] == [
        *("two brokers: p50, µs", "one broker: p50, µs", "two brokers: p99, µs")
    ]

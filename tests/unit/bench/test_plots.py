"""Drawings, where matplotlib is installed: `make bench-report` installs it, `make test` does not."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

import pytest
from bench.charts import Bar, Chart, Panel, charts
from bench.report import PLOTS
from bench.results import last_kept
from bench.statistics import Spread

pytest.importorskip("matplotlib", reason="the group `bench` is not installed")
from bench import plots

SVG: Final = "{http://www.w3.org/2000/svg}"
BARS: Final = (
    Bar("ours <b>&\"'", Spread(80.0, 60.0, 100.0), "80 & more", "ours"),
    Bar("other", Spread(8.0, 7.0, 9.0), "8  10×", "other"),
    Bar("floor", Spread(90.0, 90.0, 90.0), "90", "floor"),
    Bar("gone", None, "void", "other"),
)


def drawn(*panels: Panel) -> ElementTree.Element:
    chart = Chart("made-up.svg", 'A "title" & <more>', panels, "note")
    return ElementTree.fromstring(plots.draw(chart))


def texts(root: ElementTree.Element) -> list[ElementTree.Element]:
    return list(root.iter(f"{SVG}text"))


def test_the_kept_plots_are_drawn_the_same_again() -> None:
    kept = last_kept()
    assert kept is not None
    for chart in charts(kept):
        assert plots.draw(chart) == (PLOTS / chart.file).read_text(), "make bench-report"


def test_words_stay_words() -> None:
    words = [each.text for each in texts(drawn(Panel("p <1>", BARS)))]
    assert {'A "title" & <more>', "p <1>", "note", "void", "80 & more"} <= set(words)
    assert "ours <b>&\"'" in words


def test_every_colour_has_one_for_dark_pages() -> None:
    root = drawn(Panel("p", BARS), Panel("q", BARS))
    styles = [each.get("style", "") for each in root.iter()]
    assert not [each for each in styles if re.search("#|rgb", each)]
    assert all("fill: var(--c" in each.get("style", "") for each in texts(root))


@pytest.mark.parametrize("panels", [(Panel("p", ()),), (Panel("p", BARS[3:]),)])
def test_a_panel_without_any_figure_can_be_drawn(panels: tuple[Panel, ...]) -> None:
    assert texts(drawn(*panels))

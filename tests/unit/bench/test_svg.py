from __future__ import annotations

from xml.etree import ElementTree

from bench.statistics import Spread
from bench.svg import WIDTH, Bar, Panel, chart

SVG = "{http://www.w3.org/2000/svg}"
BARS = [
    Bar("ours <b>&\"'", Spread(80.0, 60.0, 100.0), "80 & more", "ours"),
    Bar("other", Spread(8.0, 7.0, 9.0), "8  10×", "other"),
    Bar("gone", None, "void", "other"),
]


def drawn(*panels: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(chart('A "title" & <more>', panels, "note"))


def bars(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [each for each in root.iter(f"{SVG}rect") if each.get("class") != "page"]


def test_any_name_gives_well_formed_xml_that_keeps_it() -> None:
    words = [each.text for each in drawn(Panel("p <1>", BARS)).iter(f"{SVG}text")]
    assert "ours <b>&\"'" in words
    assert 'A "title" & <more>' in words


def test_bars_are_as_long_as_their_medians() -> None:
    ours, other = bars(drawn(Panel("p", BARS)))
    assert round(float(ours.get("width", 0)) / float(other.get("width", 0)), 1) == 10.0


def test_whiskers_go_from_lowest_to_highest() -> None:
    root = drawn(Panel("p", BARS))
    (bar, _) = bars(root)
    zero, length = float(bar.get("x", 0)), float(bar.get("width", 0))
    whisker = next(each for each in root.iter(f"{SVG}line") if each.get("class") == "whisker")
    assert round(float(whisker.get("x1", 0)) - zero, 1) == round(length * 60 / 80, 1)
    assert round(float(whisker.get("x2", 0)) - zero, 1) == round(length * 100 / 80, 1)


def test_what_was_not_measured_has_words_and_no_bar() -> None:
    root = drawn(Panel("p", [BARS[2]]))
    assert bars(root) == []
    assert "void" in [each.text for each in root.iter(f"{SVG}text")]


def test_everything_is_inside_the_page_for_any_number_of_panels() -> None:
    for count in (1, 2, 5):
        root = drawn(*[Panel(f"p{i}", BARS) for i in range(count)])
        height = float(root.get("height", 0))
        for each in root.iter():
            assert 0 <= float(each.get("x", 0)) <= WIDTH
            assert 0 <= float(each.get("y", 0)) <= height


def test_it_has_colours_for_light_and_dark_pages() -> None:
    assert "prefers-color-scheme: dark" in chart("t", [Panel("p", BARS)], "n")


def test_a_panel_without_any_figure_can_be_drawn() -> None:
    drawn(Panel("p", []), Panel("q", [Bar("zero", Spread(0.0, 0.0, 0.0), "0", "other")]))

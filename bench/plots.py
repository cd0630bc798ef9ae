"""Draws charts as SVG by matplotlib: horizontal bars with whiskers, readable on a light and on a dark page.

matplotlib is in the group `bench` of pyproject.toml; only this module imports it, when it draws. The same chart gives
the same bytes: no date, no version, a fixed salt for names. Text stays text, so that no font of the machine matters.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.charts import Bar, Chart, Panel

COLUMNS: Final = 2
BAR: Final = 0.55
"""The height of a bar, as a share of its row."""

# In points, which become pixels.
WIDTH: Final = 960
ROW: Final = 22
PANEL_HEAD: Final = 34
TOP: Final = 44
FOOT: Final = 34
NAME: Final = 170
"""Width for the names at the left of the bars."""
TEXT: Final = 150
"""Width for the words at the right of the longest bar."""
MARGIN: Final = 24

INK, DIM, PAGE, OURS, OTHER, FLOOR, AXIS = (
    *("#1f2328", "#59636e", "#ffffff", "#0969da"),
    *("#afb8c1", "#8c959f", "#d1d9e0"),
)
DARK: Final = {
    INK: "#e6edf3",
    DIM: "#9198a1",
    PAGE: "#0d1117",
    OURS: "#4493f8",
    OTHER: "#565d66",
    FLOOR: "#848d97",
    AXIS: "#3d444d",
}
"""The colour on a dark page, by the one on a light page."""

_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pubsubd",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "ytick.labelcolor": INK,
}


_SIZE: Final = re.compile(r'\b(width|height)="([0-9.]+)pt"')
"""The size of the whole drawing, which becomes pixels, the unit of its text."""


def draw(chart: Chart) -> str:
    """The chart as SVG."""
    with mpl.rc_context(_STYLE):
        return _for_both_pages(_svg(_figure(chart)))


def _figure(chart: Chart) -> Any:
    columns = min(COLUMNS, len(chart.panels))
    rows = [chart.panels[at : at + columns] for at in range(0, len(chart.panels), columns)]
    heights = [PANEL_HEAD + ROW * max(len(panel.bars) for panel in row) for row in rows]
    height = TOP + sum(heights) + FOOT
    figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor=PAGE)
    width = (WIDTH - MARGIN * (columns + 1)) / columns
    top = float(TOP)
    for row, row_height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            left = MARGIN + column * (width + MARGIN)
            _panel(figure, panel, left, top, width, height)
        top += row_height
    _text(figure, MARGIN, TOP - 18, chart.title, height, size=16, weight="bold")
    _text(figure, MARGIN, height - 12, chart.note, height, size=10, color=DIM)
    return figure


def _panel(figure: Any, panel: Panel, left: float, top: float, width: float, height: float) -> None:
    """`height`: of the whole figure. Places are in points from the upper left corner."""
    count = max(len(panel.bars), 1)
    bottom = top + PANEL_HEAD + ROW * count
    room = width - NAME - TEXT
    place = [(left + NAME) / WIDTH, 1 - bottom / height, room / WIDTH, ROW * count / height]
    axes = figure.add_axes(place, facecolor="none")
    highest = max((bar.figure.high for bar in panel.bars if bar.figure), default=0.0) or 1.0
    axes.set(xlim=(0, highest), ylim=(count - 0.5, -0.5), xticks=[])
    axes.set_yticks(range(len(panel.bars)), [bar.name for bar in panel.bars])
    axes.tick_params(axis="y", length=0, pad=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "left")
        spine.set_color(AXIS)
    for row, bar in enumerate(panel.bars):
        _bar(axes, row, bar)
    _text(figure, left, top + 20, panel.title, height, size=13, weight="bold")


def _bar(axes: Any, row: int, bar: Bar) -> None:
    """The bar to the median, a whisker from the lowest to the highest, and the words behind both."""
    end = 0.0
    if bar.figure is not None:
        look = {
            "ours": {"color": OURS},
            "other": {"color": OTHER},
            "floor": {"facecolor": "none", "edgecolor": FLOOR, "linestyle": "--"},
        }[bar.role]
        axes.barh(row, bar.figure.median, height=BAR, **look)
        ends = [[bar.figure.median - bar.figure.low], [bar.figure.high - bar.figure.median]]
        whisker = {"fmt": "none", "color": INK, "elinewidth": 1, "capsize": 3, "clip_on": False}
        axes.errorbar(bar.figure.median, row, xerr=ends, **whisker)
        end = bar.figure.high
    behind = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "color": DIM}
    axes.annotate(bar.text, (end, row), annotation_clip=False, **behind)


def _text(figure: Any, x: float, y: float, words: str, height: float, **look: Any) -> None:
    figure.text(x / WIDTH, 1 - y / height, words, **look)


def _svg(figure: Any) -> str:
    file = io.StringIO()
    # None leaves the field out: a date or a version would make each drawing another one.
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _for_both_pages(svg: str) -> str:
    """Give colours by name, so that the browser takes those of its mode, and its own font."""
    light, dark = "", ""
    for number, (colour, on_dark) in enumerate(DARK.items()):
        svg = svg.replace(colour, f"var(--c{number})")
        light += f"--c{number}: {colour}; "
        dark += f"--c{number}: {on_dark}; "
    svg = _SIZE.sub(r'\1="\2"', svg, count=2)
    rules = f"svg {{ {light}}} @media (prefers-color-scheme: dark) {{ svg {{ {dark}}} }}"
    return svg.replace("</style>", f"{rules}</style>", 1).replace("'DejaVu Sans'", "system-ui")

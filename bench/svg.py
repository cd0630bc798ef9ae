"""Horizontal bars with whiskers, as SVG. Pure; readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape, quoteattr

from bench.statistics import Spread

WIDTH: Final = 960
COLUMNS: Final = 2
GUTTER: Final = 24
ROW: Final = 22
BAR: Final = 12
HEAD: Final = 34
"""Above the bars of a panel: its title."""
TOP: Final = 44
"""Above the panels: the title of the whole."""
FOOT: Final = 30
NAME: Final = 128
"""For the names at the left of the bars."""
TEXT: Final = 148
"""For what stands at the right of the bars."""

STYLE: Final = """
    text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
    .title { font-size: 16px; font-weight: 600; }
    .panel { font-size: 13px; font-weight: 600; }
    .dim { fill: #59636e; }
    .page { fill: #ffffff; }
    .ours { fill: #0969da; }
    .other { fill: #afb8c1; }
    .floor { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
    .whisker { stroke: #1f2328; stroke-width: 1; }
    .axis { stroke: #d1d9e0; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .dim { fill: #9198a1; }
      .page { fill: #0d1117; }
      .ours { fill: #4493f8; }
      .other { fill: #565d66; }
      .floor { stroke: #848d97; }
      .whisker { stroke: #e6edf3; }
      .axis { stroke: #3d444d; }
    }
"""

Role = Literal["ours", "other", "floor"]


@dataclass(frozen=True, slots=True)
class Bar:
    """`figure` None: it was not measured, and `text` says why."""

    name: str
    figure: Spread | None
    text: str
    role: Role


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale, which begins at 0."""

    title: str
    bars: Sequence[Bar]

    @property
    def height(self) -> float:
        return HEAD + ROW * len(self.bars)


def chart(title: str, panels: Sequence[Panel], note: str) -> str:
    """The panels in two columns under a title; `note` stands below."""
    columns = 1 if len(panels) == 1 else COLUMNS
    width = (WIDTH - GUTTER * (columns + 1)) / columns
    parts: list[str] = []
    top = float(TOP)
    for at in range(0, len(panels), columns):
        row = panels[at : at + columns]
        for column, panel in enumerate(row):
            parts += _panel(panel, GUTTER + column * (width + GUTTER), top, width)
        top += max(panel.height for panel in row) + GUTTER / 2
    height = top + FOOT
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>',
            f"  <title>{escape(title)}</title>",
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" width="{WIDTH}" height="{height:g}" rx="6"/>',
            _text(GUTTER, 28, title, "title"),
            *parts,
            _text(GUTTER, height - 12, note, "dim"),
            "</svg>",
            "",
        ]
    )


def _panel(panel: Panel, left: float, top: float, width: float) -> list[str]:
    parts = [_text(left, top + 20, panel.title, "panel")]
    room = width - NAME - TEXT
    highest = max((bar.figure.high for bar in panel.bars if bar.figure), default=0.0)
    scale = room / highest if highest > 0 else 0.0
    zero = left + NAME
    for i, bar in enumerate(panel.bars):
        middle = top + HEAD + ROW * i + ROW / 2
        parts.append(_text(zero - 8, middle + 4, bar.name, "", anchor="end"))
        end = zero
        if bar.figure is not None:
            end = zero + bar.figure.high * scale
            parts += _bar(bar.figure.times(scale), bar.role, zero, middle)
        parts.append(_text(end + 8, middle + 4, bar.text, "dim"))
    bottom = top + panel.height
    parts.append(_line(zero, top + HEAD, zero, bottom, "axis"))
    return parts


def _bar(length: Spread, role: Role, zero: float, middle: float) -> list[str]:
    """The bar to the median, a whisker from the lowest to the highest."""
    low, high = zero + length.low, zero + length.high
    place = f'x="{zero:.1f}" y="{middle - BAR / 2:.1f}"'
    width = max(length.median, 0.5)
    return [
        f'  <rect class="{role}" {place} width="{width:.1f}" height="{BAR}" rx="1"/>',
        _line(low, middle, high, middle, "whisker"),
        *(_line(x, middle - 3, x, middle + 3, "whisker") for x in (low, high)),
    ]


def _line(x1: float, y1: float, x2: float, y2: float, role: str) -> str:
    return f'  <line class="{role}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, role: str, anchor: str = "start") -> str:
    return (
        f'  <text class="{role}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )

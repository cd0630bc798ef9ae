"""Writes the table of docs/bounds.md anew from the rows of the settings. Run by `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pubsubd_broker.http.metrics import METRIC_PREFIX
from pubsubd_broker.settings.bounds import BOUNDS
from pubsubd_broker.settings.row import Setting
from pubsubd_broker.settings.table import DEFAULTS
from pubsubd_broker.settings.values import settings_of

PAGE: Final = Path(__file__).parent / "bounds.md"

BEGIN: Final = "<!-- The rows of pubsubd_broker.settings.bounds, written by `make docs`. -->\n"
END: Final = "<!-- End of the rows. -->\n"

_DEFAULT: Final = settings_of({**DEFAULTS, "core.node": "a", "socket": "/run/s"})


def table() -> str:
    """The table in Markdown: a row for each bound, in the order of the options."""
    head = "| option | default | at it | way back | shown by |\n|---|---|---|---|---|\n"
    return head + "".join(map(_row, BOUNDS))


def renewed(page: str) -> str:
    """`page` with the table between the two marks written anew. Raises `ValueError` if a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks a mark: put {BEGIN!r} and {END!r} around the table")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _row(setting: Setting) -> str:
    bound = setting.bound
    assert bound is not None
    metrics = ", ".join(f"`{METRIC_PREFIX}{name}`" for name in bound.shown_by)
    default = setting.show(setting.value(_DEFAULT))
    return f"| `--{setting.name}` | {default} | {bound.at_it} | {bound.way_back} | {metrics} |\n"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

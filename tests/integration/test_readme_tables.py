"""Tables and links of README.md, docs/application.md and docs/options.md agree with the code."""

from __future__ import annotations

import importlib
import re
from typing import Final

import click
import pytest
from tests.integration.readme import PAGES, README, ROOT

import pubsubd
from pubsubd_broker.settings.bounds import LIMITS
from pubsubd_cli import exit_codes
from pubsubd_cli.start import start

_LINK: Final = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_DEFAULT: Final = re.compile(r"^(.*?)(?: Default: (.*))?\.$", re.DOTALL)


def usual_options() -> list[click.Option]:
    """The options that are not bounds."""
    bounds = {f"--{setting.name}" for setting in LIMITS}
    return [
        option
        for option in start.params
        if isinstance(option, click.Option) and option.opts[0] not in bounds
    ]


def options_table() -> str:
    """The expected table of options, made from the options themselves."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in usual_options():
        name = " ".join(filter(None, (option.opts[0], option.metavar))).replace("|", " or ")
        described = _DEFAULT.match(option.help or "")
        assert described is not None, f"the help of {name} ends without a full stop"
        meaning, default = described.groups()
        meaning = meaning.removesuffix(".")
        if option.name == "socket":
            default = "see below"
        rows.append(f"| `{name}` | {default or ''} | {meaning} |")
    return "\n".join(rows)


def test_options_table_matches_start() -> None:
    table = options_table()
    assert table in README, f"put this table under 'Options of `pubsubd start`':\n{table}"
    listed = set(re.findall(r"^\| `(--[a-z-]+)", README, re.MULTILINE))
    assert listed == {option.opts[0] for option in usual_options()}


def test_exit_codes_table_is_true() -> None:
    _, _, section = README.partition("## Exit codes")
    listed = re.findall(r"^\| (\d+) \|", section.partition("\n## ")[0], re.MULTILINE)
    codes = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert [int(code) for code in listed] == sorted(codes)


def test_reasons_table_is_complete() -> None:
    _, _, section = README.partition("## When messages are lost")
    listed = re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    assert set(listed) == {reason.value for reason in pubsubd.Reason}


_UNITS: Final = {"": 1, "KiB": 1024, "MiB": 1024**2, "s": 10**9, "ms": 10**6}


def test_bounds_table_matches_the_code() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\S+)(?: (\w+))? \| `([\w.]+)` \|", page, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `[A-Z_]+` \|", page, re.MULTILINE)) > 20
    for name, number, unit, module in rows:
        written = 2**53 - 1 if number == "2^53-1" else float(number) * _UNITS[unit]
        found = getattr(importlib.import_module(module), name)
        assert found * (10**9 if name.endswith("_S") else 1) == written, name


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *("docs/guarantees.md", "docs/architecture.md", "docs/security.md", "docs/metrics.md"),
        "docs/bounds.md",
        "docs/adr",
    ],
)
def test_links_lead_to_files(page: str) -> None:
    pages = sorted((ROOT / page).glob("*.md")) if page == "docs/adr" else [ROOT / page]
    assert pages
    for each in pages:
        for link in _LINK.findall(each.read_text()):
            assert link.startswith("https://") or (each.parent / link).exists(), f"{each}: {link}"

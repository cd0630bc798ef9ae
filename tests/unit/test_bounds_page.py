"""docs/bounds.md has every bound, with the default that is in force and a metric that there is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from docs.bounds_table import BEGIN, END, renewed
from tests.memory_bounds import memory_at_bounds

from pubsubd_broker.core.config import Config
from pubsubd_broker.http.metrics import METRICS, PREFIX
from pubsubd_broker.settings.table import DEFAULTS, SETTINGS
from pubsubd_broker.settings.values import Settings, settings_of

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/bounds.md").read_text()
ROWS: Final = re.findall(r"^\| `--([a-z-]+)` \| (\S+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_the_table_is_the_one_that_the_rows_make() -> None:
    assert renewed(PAGE) == PAGE, "docs/bounds.md is out of date: run make docs"


@pytest.mark.parametrize("mark", [BEGIN, END])
def test_a_page_without_a_mark_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="lacks a mark"):
        renewed(PAGE.replace(mark, ""))


def test_the_page_has_every_bound_and_its_default() -> None:
    default = settings_of({**DEFAULTS, "core.node": "a", "socket": "/run/s"})
    expected = {
        setting.name: str(setting.show(setting.value(default)))
        for setting in SETTINGS
        if setting.bound is not None
    }
    assert {name: shown for name, shown, _, _ in ROWS} == expected
    assert len(ROWS) == len(re.findall(r"^\| `--", PAGE, re.MULTILINE))


@pytest.mark.parametrize("page", ["docs/bounds.md", "docs/architecture.md"])
def test_each_bound_says_how_ordinary_life_comes_away_from_it(page: str) -> None:
    _, _, table = (ROOT / page).read_text().partition(" way back |")
    rows = re.findall(r"^\| `(?:--)?\w.+\|$", table.partition("\n## ")[0], re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 5, row
        assert all(cells), row


def test_what_shows_a_bound_is_a_metric() -> None:
    metrics = {PREFIX + row.name for row in METRICS}
    for name, _, _, shown in ROWS:
        named = re.findall(r"`(\w+)`", shown)
        assert named, name
        assert set(named) <= metrics, name


def test_the_codes_are_those_that_the_code_gives() -> None:
    folders = "broker/pubsubd_broker", "protocol/pubsubd_protocol"
    source = "".join(path.read_text() for each in folders for path in (ROOT / each).rglob("*.py"))
    for name, _, at_it, _ in ROWS:
        for code in re.findall(r"`([a-z_]+)`", at_it):
            assert f'"{code}"' in source, f"{name}: {code}"


def test_the_memory_is_what_is_computed() -> None:
    alone = Settings(Config("a"), "/run/s")
    three = replace(alone, peers=(("b", 1), ("c", 1), ("d", 1)))
    columns = [memory_at_bounds(settings) for settings in (alone, three)]
    expected = {part: [parts[part] for parts in columns] for part in columns[0]}
    expected["**together**"] = [sum(parts.values()) for parts in columns]
    _, _, section = PAGE.partition("## Memory")
    rows = re.findall(r"^\| ([a-z' *-]+) \| (\d+) \| (\d+) \|", section, re.MULTILINE)
    shown = {part: [one, three] for part, one, three in rows}
    assert shown == {
        part: [f"{size / 2**20:.0f}" for size in sizes] for part, sizes in expected.items()
    }

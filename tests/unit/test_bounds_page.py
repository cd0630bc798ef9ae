"""docs/bounds.md has every bound, with the default that is in force and a metric that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from docs.bounds_table import BEGIN, END, renewed
from tests.memory_bounds import memory_at_bounds

from pubsubd_broker.core.config import Config
from pubsubd_broker.http.metrics import METRIC_PREFIX, METRICS
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


def test_each_bound_is_shown_by_a_metric() -> None:
    metrics = {METRIC_PREFIX + row.name for row in METRICS}
    for name, _, _, shown in ROWS:
        named = re.findall(r"`(\w+)`", shown)
        assert named, name
        assert set(named) <= metrics, name


def given_words(source: str) -> Iterator[str]:
    """Constant words that the code gives to a call, counts under, or has as an enum's value; not its prose."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(args=args, keywords=keywords):
                values = [*args, *(keyword.value for keyword in keywords)]
            case ast.Subscript(slice=index):
                values = [index]
            case ast.Assign(value=value):
                values = [value]
            case _:
                continue
        for value in values:
            branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            yield from (
                each.value
                for each in branches
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def test_prose_and_tables_give_no_code() -> None:
    source = '"""Doc "a"."""\n# "b"\nx = {"c": 1}\nrefuse("d" if x else "e")\ncounts["f"] += 1\nG = "g"\n'
    assert sorted(given_words(source)) == ["d", "e", "f", "g"]


def test_the_codes_are_those_that_the_broker_gives() -> None:
    given = {
        word
        for folder in ("broker/pubsubd_broker", "protocol/pubsubd_protocol")
        for path in (ROOT / folder).rglob("*.py")
        for word in given_words(path.read_text())
    }
    codes = {code for _, _, at_it, _ in ROWS for code in re.findall(r"`([a-z_]+)`", at_it)}
    assert len(codes) > 15
    assert codes <= given, codes - given


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

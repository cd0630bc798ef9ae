"""No module of a package imports in a circle, imports for types included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.unit.test_imports import imported

ROOT = Path(__file__).parents[2]

Graph = Mapping[str, frozenset[str]]
"""The modules of a package, and those of the package that each imports."""


def import_graph(folder: Path, package: str, without: tuple[str, ...] = ()) -> Graph:
    """The imports among the modules of `package`, which lies in `folder`.

    Imports for types and imports inside functions count. `without`: subpackages left out.
    """
    sources: dict[str, tuple[str, bool]] = {}
    for file in sorted(folder.rglob("*.py")):
        parts = [package, *file.relative_to(folder).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        if not any(module == left or module.startswith(left + ".") for left in without):
            sources[module] = file.read_text(), is_package
    graph = {}
    for module, (source, is_package) in sources.items():
        names = imported(source, module, is_package)
        graph[module] = frozenset(
            found for name in names for found in _modules(name, sources) if found != module
        )
    return graph


def _modules(name: str, known: Mapping[str, object]) -> list[str]:
    """The module that holds `a.b.C`: `a.b.C` itself if it is a module, else `a.b`."""
    above = name.rpartition(".")[0]
    return [each for each in (name, above) if each in known][:1]


def circles(graph: Graph) -> list[frozenset[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached = {module: _reached(graph, module) for module in graph}
    found = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }
    return sorted(found, key=sorted)


def _reached(graph: Graph, start: str) -> frozenset[str]:
    """All modules that `start` imports, directly or through others."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph[module]
    return frozenset(seen)


@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("broker/pubsubd_broker", "pubsubd_broker"),
        ("client/pubsubd", "pubsubd"),
        ("cli/pubsubd_cli", "pubsubd_cli"),
        ("protocol/pubsubd_protocol", "pubsubd_protocol"),
    ],
)
def test_no_module_imports_in_a_circle(folder: str, package: str) -> None:
    graph = import_graph(ROOT / folder, package)
    assert len(graph) > 10
    assert any(graph.values())
    assert [sorted(circle) for circle in circles(graph)] == []


@pytest.mark.parametrize(
    "second",
    [
        "from planted.first import A",
        "from planted import first",
        "from . import first",
        "import planted.first",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted.first import A",
        "def late():\n    from planted.first import A",
        "from planted import third",
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, second: str) -> None:
    (tmp_path / "__init__.py").touch()
    (tmp_path / "first.py").write_text("from planted.second import B\nclass A: ...")
    (tmp_path / "second.py").write_text(second)
    (tmp_path / "third.py").write_text("import planted.first\nimport asyncio")
    (circle,) = circles(import_graph(tmp_path, "planted"))
    assert {"planted.first", "planted.second"} <= circle


def test_imports_that_run_one_way_are_not_a_circle(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from planted.first import A")
    (tmp_path / "first.py").write_text("from planted.second import A\nfrom planted.third import C")
    (tmp_path / "second.py").write_text("from planted.third import C")
    (tmp_path / "third.py").touch()
    assert circles(import_graph(tmp_path, "planted")) == []


def test_what_is_left_out_makes_no_circle(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text("import planted.second")
    (tmp_path / "second.py").write_text("import planted.first")
    assert circles(import_graph(tmp_path, "planted", ("planted.second",))) == []

"""The rooms of the core: imports run one way, imports for types included, and no two modules import each other.

`ROOMS` is the order of docs/architecture.md: a room may import the rooms that its row names, and the leaves.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from tests.unit.test_imports import ROOT, imported

PACKAGE = "pubsubd_broker.core"
FOLDER = ROOT / "broker" / "pubsubd_broker" / "core"

LEAVES = {"access", "limits", "observe"}
"""May be imported by every room, and import each other only."""

ROOMS: dict[str, set[str]] = {
    "status": {"node", "links", "sessions", "streams", "log"},
    "node": {"observer", "config", "links", "sessions", "streams", "journal", "log"},
    "observer": {"links", "streams", "journal"},
    "links": {"sessions", "streams", "log"},
    "sessions": {"streams", "log"},
    "streams": {"log"},
    "journal": {"log"},
    "log": set(),
    "config": {"links"},
    **{leaf: set() for leaf in LEAVES},
}


def module_of(file: Path) -> str:
    parts = file.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """Each module of the core, without the name of the package, and the modules of the core that it imports."""
    files = {module_of(file): file for file in sorted(FOLDER.rglob("*.py"))}
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        names = imported(file.read_text(), f"{PACKAGE}.{module}", file.stem == "__init__")
        below = [name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(PACKAGE)]
        # A name in a module, or the module itself.
        found[module] = {name if name in files else name.rpartition(".")[0] for name in below} - {
            module
        }
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


def breaches(modules: dict[str, set[str]], rooms: dict[str, set[str]]) -> list[str]:
    """Imports that lead from one room to another that its row does not name."""
    return [
        f"{module} imports {other}"
        for module, others in modules.items()
        for other in sorted(others)
        if room_of(other) not in rooms[room_of(module)] | LEAVES | {room_of(module)}
    ]


def circle(modules: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_every_module_of_the_core_stands_in_a_room() -> None:
    modules = graph()
    assert {room_of(module) for module in modules if module} == ROOMS.keys()
    assert modules["links.connection"] >= {"links.end", "access.quota", "limits"}


def test_imports_between_rooms_run_one_way() -> None:
    assert breaches({name: found for name, found in graph().items() if name}, ROOMS) == []


def test_no_circle_of_modules_in_the_core() -> None:
    assert circle(graph()) == []


def test_the_rooms_themselves_have_an_order() -> None:
    assert circle(ROOMS) == []


@pytest.mark.parametrize(
    ("module", "other"),
    [
        ("log.log", "streams.stream"),
        ("sessions.sessions", "links.peers"),
        ("links.ends", "journal.recovery"),
        ("journal.keeper", "sessions.sessions"),
        ("access.quota", "log.log"),
        ("links.peers", "node"),
        ("links.links", "config"),
    ],
)
def test_a_planted_import_against_the_order_is_found(module: str, other: str) -> None:
    assert breaches({module: {other}}, ROOMS) == [f"{module} imports {other}"]


def test_a_planted_circle_is_found() -> None:
    assert circle({"links.a": {"links.b"}, "links.b": {"links.c"}, "links.c": {"links.a"}})

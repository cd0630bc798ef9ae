"""The order of the shell's folders: which folder imports which, imports for types included."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.unit.test_import_circles import Graph, import_graph

PACKAGE: Final = "pubsubd_broker"
FOLDER: Final = Path(__file__).parents[2] / "broker" / PACKAGE

ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "settings": frozenset(),
    "logs": frozenset(),
    "files": frozenset(),
    "process": frozenset({"logs"}),
    "trust": frozenset({"files", "settings"}),
    "sockets": frozenset({"files", "process", "settings", "trust"}),
    "http": frozenset({"process", "settings", "sockets"}),
    "journal": frozenset({"files", "settings"}),
    "broker": frozenset({"files", "journal", "logs", "process", "settings", "sockets", "trust"}),
    "daemon": frozenset(
        {
            *("broker", "http", "journal", "logs", "process"),
            *("settings", "sockets", "trust"),
        }
    ),
}
"""By folder (or module at the top): the folders that it may import, beside itself, the core and the protocol."""


def arrows(graph: Graph) -> set[tuple[str, str]]:
    """Pairs of folders of which the first imports the second."""
    return {
        (_folder(module), _folder(other))
        for module, others in graph.items()
        for other in others
        if _folder(module) != _folder(other)
    }


def _folder(module: str) -> str:
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def forbidden(graph: Graph) -> set[tuple[str, str]]:
    return {(here, there) for here, there in arrows(graph) if there not in ALLOWED.get(here, ())}


def shell() -> Graph:
    return import_graph(FOLDER, PACKAGE, without=(f"{PACKAGE}.core",))


def test_folders_import_only_folders_below() -> None:
    assert forbidden(shell()) == set()


def test_every_folder_of_the_shell_has_a_place_in_the_order() -> None:
    assert {_folder(module) for module in shell()} - {""} == set(ALLOWED)


def test_every_allowed_arrow_is_used() -> None:
    allowed = {(here, there) for here, below in ALLOWED.items() for there in below}
    assert allowed - arrows(shell()) == set()


def test_the_allowed_arrows_run_one_way() -> None:
    placed: set[str] = set()
    for folder, below in ALLOWED.items():
        assert below <= placed, folder
        placed.add(folder)


def test_a_planted_arrow_upwards_is_found() -> None:
    graph = {
        **shell(),
        f"{PACKAGE}.settings.planted": frozenset({f"{PACKAGE}.sockets.link"}),
        f"{PACKAGE}.journal.planted": frozenset({f"{PACKAGE}.settings.values"}),
    }
    assert forbidden(graph) == {("settings", "sockets")}

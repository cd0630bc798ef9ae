"""The build that runs these tests: all listed modules are compiled, or none is."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import tomllib
from pathlib import Path

from pubsubd_protocol.build import BUILD, COMPILED

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "broker", "client", "cli")


def settings() -> dict[str, list[str]]:
    """The settings of the hook of the build."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook: dict[str, list[str]] = whole["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
        "custom"
    ]
    return hook


def found(globs: list[str]) -> set[str]:
    """The modules that `globs` find, as dotted names."""
    files = (
        file.relative_to(ROOT / package)
        for package in PACKAGES
        for glob in globs
        for file in (ROOT / package).glob(glob)
    )
    return {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}


def listed() -> list[str]:
    """The modules that a compiled build has compiled."""
    return sorted(found(settings()["modules"]) - found(settings()["except"]))


def test_every_listed_module_is_of_this_build() -> None:
    names = listed()
    assert {"pubsubd_protocol.codec", "pubsubd_broker.core.node"} <= set(names)
    files = {name: str(importlib.import_module(name).__file__) for name in names}
    other = {name: file for name, file in files.items() if file.endswith(".py") == COMPILED}
    assert not other


def test_the_environment_has_the_build_that_it_is_named_after() -> None:
    assert ("compiled" if Path(sys.prefix).name == "compiled" else "interpreted") == BUILD


def test_a_compiled_build_installs_extensions_in_its_packages_only() -> None:
    files = importlib.metadata.files("pubsubd") or []
    # At the top lies the extension that the others share.
    folders = {file.parts[0] for file in files if file.suffix == ".so" and len(file.parts) > 1}
    assert folders == ({name.split(".")[0] for name in listed()} if COMPILED else set())


def test_every_glob_of_the_lists_finds_a_module() -> None:
    assert not [glob for glob in settings()["modules"] if not found([glob])]
    assert not [glob for glob in settings()["except"] if not found([glob])]

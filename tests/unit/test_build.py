"""The build that runs these tests: all listed modules are compiled, or none is."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

from pubsubd_protocol.build import BUILD, COMPILED

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "broker", "client", "cli")


def listed() -> list[str]:
    """The modules that pyproject.toml has compiled, as dotted names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    found = {
        file.relative_to(ROOT / package)
        for package in PACKAGES
        for glob in globs
        for file in (ROOT / package).glob(glob)
    }
    return sorted(".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in found)


def test_every_listed_module_is_of_this_build() -> None:
    names = listed()
    assert {"pubsubd_protocol.codec", "pubsubd_broker.core.node"} <= set(names)
    files = {name: str(importlib.import_module(name).__file__) for name in names}
    other = {name: file for name, file in files.items() if file.endswith(".py") == COMPILED}
    assert not other


def test_the_environment_has_the_build_that_it_is_named_after() -> None:
    assert ("compiled" if Path(sys.prefix).name == "compiled" else "interpreted") == BUILD


def test_every_glob_of_the_list_finds_a_module() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    unused = [glob for glob in globs if not any(any((ROOT / each).glob(glob)) for each in PACKAGES)]
    assert not unused

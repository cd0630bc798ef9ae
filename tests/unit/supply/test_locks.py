"""`requirements/` is known to the last file, fits pyproject.toml, and is what gets installed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from supply.locked import Locked, read_lock

ROOT: Final = Path(__file__).parents[3]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN: Final[list[str]] = PYPROJECT["project"]["dependencies"]
BUILD: Final[list[str]] = PYPROJECT["build-system"]["requires"]
GROUPS: Final[dict[str, list[str]]] = PYPROJECT["dependency-groups"]
LOCKS: Final = {path.stem: read_lock(path) for path in (ROOT / "requirements").glob("*.txt")}
OF_ONE_ENVIRONMENT: Final = sorted(LOCKS.keys() - {"supply"})
"""Installed into one environment, on top of each other. The tools of `supply` have their own."""


def unmet(requirements: Iterable[str], locked: list[Locked]) -> list[str]:
    """The requirements that some of the places that the lock is for would not get."""
    versions: dict[str, list[Locked]] = {}
    for each in locked:
        versions.setdefault(each.name, []).append(each)
    return [
        text
        for text in requirements
        if not versions.get(canonicalize_name(Requirement(text).name))
        or not all(
            each.version in Requirement(text).specifier
            for each in versions[canonicalize_name(Requirement(text).name)]
        )
    ]


def test_every_group_has_a_lock() -> None:
    assert LOCKS.keys() == {"run", *GROUPS}


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_a_lock_fits_pyproject(name: str) -> None:
    requirements = RUN if name == "run" else GROUPS[name]
    assert requirements
    assert unmet(requirements, LOCKS[name]) == [], "run make lock"


def test_the_lock_of_development_has_what_a_broker_runs_on() -> None:
    assert unmet(RUN, LOCKS["dev"]) == []


def test_the_build_backend_is_locked() -> None:
    assert unmet(BUILD, LOCKS["build"]) == []


def test_a_requirement_that_the_lock_lacks_is_found() -> None:
    assert unmet(["click>=999", "left-pad", "h11"], LOCKS["run"]) == ["click>=999", "left-pad"]


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_no_lock_says_where_to_download_from(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|^\s*-(?!-hash=)|\bindex\b|\bfile:", text, re.MULTILINE)


def test_locks_of_one_environment_agree() -> None:
    versions: dict[tuple[str, str], set[str]] = {}
    for name in OF_ONE_ENVIRONMENT:
        for each in LOCKS[name]:
            versions.setdefault((each.name, str(each.marker)), set()).add(str(each.version))
    assert {key: found for key, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_what_is_installed_here_is_what_is_locked(name: str) -> None:
    wanted = {each.name: str(each.version) for each in LOCKS[name] if each.wanted_here}
    assert {each: metadata.version(each) for each in wanted} == wanted


def test_an_application_that_installs_the_package_may_choose_among_versions() -> None:
    for text in [*RUN, *(metadata.requires("pubsubd") or [])]:
        assert [each.operator for each in Requirement(text).specifier] == [">="], text


# What installs


def targets_of_make() -> list[str]:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*?)(?<!\\)$", text, re.MULTILINE | re.DOTALL)
    assert phony is not None
    return phony[1].replace("\\\n", " ").split()


def commands_of_make(folder: Path) -> str:
    """All that `make` would do, for every target, from nothing."""
    made = subprocess.run(
        ["make", "-n", f"VENV={folder}", *targets_of_make()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


def joined(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("place", ["Makefile", ".ci/run", "Dockerfile"])
def test_whatever_is_installed_is_locked_or_is_our_own(place: str, tmp_path: Path) -> None:
    text = commands_of_make(tmp_path) if place == "Makefile" else (ROOT / place).read_text()
    installs = [
        command
        for line in joined(text)
        for command in line.split("&&")
        if re.search(r"\bpip .*\b(install|wheel|download)\b", command)
    ]
    assert len(installs) > 1
    for command in installs:
        locked = "--require-hashes" in command and "--only-binary :all:" in command
        ours = "--no-deps" in command and (
            "--no-build-isolation" in command or "--no-index" in command
        )
        assert locked or ours, command


def test_the_page_about_it_names_every_lock_and_only_targets_that_there_are() -> None:
    page = (ROOT / "docs/supply-chain.md").read_text()
    assert set(re.findall(r"^\| `(\w+)\.txt` \|", page, re.MULTILINE)) == LOCKS.keys()
    targets = set(re.findall(r"(?:`|^)make ([a-z]+)", page, re.MULTILINE))
    assert targets <= set(targets_of_make())

"""`uv.lock` is known to the last file, fits pyproject.toml, and is what gets installed."""

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
from supply.export import requirements
from supply.locked import Lock, Locked
from supply.sbom import is_wanted_here

ROOT: Final = Path(__file__).parents[3]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN: Final[list[str]] = PYPROJECT["project"]["dependencies"]
BUILD: Final[list[str]] = PYPROJECT["build-system"]["requires"]
GROUPS: Final[dict[str, list[str]]] = PYPROJECT["dependency-groups"]
TEXT: Final = (ROOT / "uv.lock").read_text()
LOCK: Final = Lock(ROOT / "uv.lock")
LOCKED: Final = {group: LOCK.of(group) for group in LOCK.groups}


def unmet(asked: Iterable[str], locked: list[Locked]) -> list[str]:
    """The requirements that some of the places that the lock is for would not get."""
    versions: dict[str, list[str]] = {}
    for each in locked:
        versions.setdefault(each.name, []).append(each.version)
    return [
        text
        for text in asked
        if not versions.get(canonicalize_name(Requirement(text).name))
        or not all(
            version in Requirement(text).specifier
            for version in versions[canonicalize_name(Requirement(text).name)]
        )
    ]


def test_every_group_is_locked() -> None:
    assert LOCKED.keys() == {"run", *GROUPS}


@pytest.mark.parametrize("name", ["run", *GROUPS])
def test_the_lock_fits_pyproject(name: str) -> None:
    asked = RUN if name == "run" else GROUPS[name]
    assert asked
    assert unmet(asked, LOCKED[name]) == [], "run make lock"


def test_the_lock_is_made_for_what_pyproject_asks_for() -> None:
    made_for = LOCK.project["metadata"]
    groups = {"run": made_for["requires-dist"], **made_for["requires-dev"]}
    asked = {"run": RUN, **GROUPS}
    assert {name: sorted(_asked(each) for each in groups[name]) for name in groups} == {
        name: sorted(_parts(Requirement(each)) for each in asked[name]) for name in asked
    }, "run make lock"
    assert tomllib.loads(TEXT)["requires-python"] == PYPROJECT["project"]["requires-python"]


def _asked(needed: dict[str, Any]) -> tuple[str, str, list[str]]:
    return needed["name"], needed["specifier"], needed.get("extras", [])


def _parts(requirement: Requirement) -> tuple[str, str, list[str]]:
    name = canonicalize_name(requirement.name)
    return name, str(requirement.specifier), sorted(requirement.extras)


def test_the_build_backend_is_locked() -> None:
    assert unmet(BUILD, LOCKED["build"]) == []


def test_a_requirement_that_the_lock_lacks_is_found() -> None:
    assert unmet(["click>=999", "left-pad", "h11"], LOCKED["run"]) == ["click>=999", "left-pad"]


def test_the_lock_names_the_public_index_only() -> None:
    hosts = set(re.findall(r"\w+://[^/\"]*", TEXT))
    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_what_pip_is_given_names_no_index(name: str) -> None:
    assert not re.search(r"://|^\s*-(?!-hash=)", requirements(LOCKED[name]), re.MULTILINE)


def test_a_release_is_locked_seven_days_after_it_came_out() -> None:
    assert PYPROJECT["tool"]["uv"]["exclude-newer"] == "7 days"
    assert tomllib.loads(TEXT)["options"]["exclude-newer-span"] == "P7D"


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_what_is_installed_here_is_what_is_locked(name: str) -> None:
    wanted = {each.name: each.version for each in LOCKED[name] if is_wanted_here(each)}
    assert {each: metadata.version(each) for each in wanted} == wanted


def test_an_application_may_choose_among_versions() -> None:
    for text in [*RUN, *(metadata.requires("pubsubd") or [])]:
        assert [each.operator for each in Requirement(text).specifier] == [">="], text


# Commands that install


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


def test_the_page_names_every_group_and_only_targets_of_make() -> None:
    page = (ROOT / "docs/supply-chain.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == LOCKED.keys()
    targets = set(re.findall(r"(?:`|^)make ([a-z]+)", page, re.MULTILINE))
    assert targets <= set(targets_of_make())

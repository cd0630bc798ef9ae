"""Reads `uv.lock`: each package at one version, with the hashes of all its wheels.

Imports the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

INDEX: Final = "https://pypi.org/simple"
RUN: Final = "run"
"""The group that a broker needs to run. The other groups have their names in pyproject.toml."""

_FORMAT: Final = 1
_SHA_256: Final = re.compile(r"sha256:([0-9a-f]{64})")

Way = frozenset[str]
"""The markers on the way from a group to a package: all of them must hold."""


class LockError(ValueError):
    """The lock leaves open which file gets installed, or from where."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock. `marker`: where it is wanted, None for everywhere. `hashes`: hexadecimal SHA-256."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]


class Lock:
    """A lock file, checked."""

    def __init__(self, path: Path) -> None:
        """Raises `LockError`, `OSError` or `tomllib.TOMLDecodeError`."""
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        self._path = path
        if content.get("version") != _FORMAT:
            raise self._error(f"version {content.get('version')!r} is unknown (known: {_FORMAT})")
        packages = content.get("package", [])
        ours = [each for each in packages if each["source"] == {"editable": "."}]
        if len(ours) != 1:
            raise self._error(f"{len(ours)} packages are the project itself, not 1")
        self.project: dict[str, Any] = ours[0]
        self._packages: dict[str, dict[str, dict[str, Any]]] = {}
        for each in packages:
            if each is not self.project:
                self._packages.setdefault(each["name"], {})[each["version"]] = each

    @property
    def groups(self) -> list[str]:
        return [RUN, *self.project.get("dev-dependencies", {})]

    def all(self) -> list[Locked]:
        """Every package at every version, on any platform. Raises `LockError`."""
        return [
            self._locked(name, version, frozenset({frozenset()}))
            for name, versions in sorted(self._packages.items())
            for version in sorted(versions)
        ]

    def of(self, group: str) -> list[Locked]:
        """The packages that `group` needs, directly or through others. Raises `LockError`."""
        if group not in self.groups:
            raise self._error(f"group {group!r} is unknown (known: {', '.join(self.groups)})")
        if group == RUN:
            needed = self.project.get("dependencies", [])
        else:
            needed = self.project["dev-dependencies"][group]
        wanted: dict[tuple[str, str], frozenset[Way]] = {}
        self._follow(needed, frozenset(), wanted, {})
        return [self._locked(*key, ways) for key, ways in sorted(wanted.items())]

    def _follow(
        self,
        needed: Iterable[dict[str, Any]],
        way: Way,
        wanted: dict[tuple[str, str], frozenset[Way]],
        extras: dict[tuple[str, str, str], frozenset[Way]],
    ) -> None:
        """Adds to `wanted` and `extras` each package and extra that `needed` leads to, by the ways that lead there."""
        for each in needed:
            here = way | {each["marker"]} if "marker" in each else way
            name, version = each["name"], self._version(each)
            package = self._packages[name][version]
            if _add(wanted, (name, version), here):
                self._follow(package.get("dependencies", []), here, wanted, extras)
            for extra in each.get("extra", []):
                if _add(extras, (name, version, extra), here):
                    more = package.get("optional-dependencies", {}).get(extra, [])
                    self._follow(more, here, wanted, extras)

    def _version(self, needed: dict[str, Any]) -> str:
        """The version that a dependency means. It names one if the lock has several."""
        versions = self._packages.get(needed["name"], {})
        if "version" in needed and needed["version"] in versions:
            return str(needed["version"])
        if "version" in needed or len(versions) != 1:
            raise self._error(f"{needed['name']} is needed, and its version is not known")
        return next(iter(versions))

    def _locked(self, name: str, version: str, ways: frozenset[Way]) -> Locked:
        package = self._packages[name][version]
        if package["source"] != {"registry": INDEX}:
            raise self._error(f"{name} does not come from {INDEX}")
        hashes = [_SHA_256.fullmatch(wheel.get("hash", "")) for wheel in package.get("wheels", [])]
        if not hashes:
            raise self._error(f"{name} {version} has no wheel")
        if None in hashes:
            raise self._error(f"{name} {version} has a wheel without a SHA-256")
        found = sorted({each[1] for each in hashes if each is not None})
        return Locked(name, version, _marker(ways), tuple(found))

    def _error(self, problem: str) -> LockError:
        return LockError(f"{self._path}: {problem}")


def _add(ways: dict[Any, frozenset[Way]], key: object, way: Way) -> bool:
    """Whether `way` leads to `key` where no known way does. Keeps the ways that no other one includes."""
    known = ways.get(key, frozenset())
    if any(other <= way for other in known):
        return False
    ways[key] = frozenset({*(other for other in known if not way <= other), way})
    return True


def _marker(ways: frozenset[Way]) -> str | None:
    if frozenset() in ways:
        return None
    each = sorted(" and ".join(f"({marker})" for marker in sorted(way)) for way in ways)
    return " or ".join(f"({way})" if " and " in way else way for way in each)

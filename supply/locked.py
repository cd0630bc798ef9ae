"""Reads a lock of `requirements/`: each package at one version, with the hashes of all files that it may come as."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_HASH: Final = re.compile(r"\s--hash=sha256:([0-9a-f]{64})(?=\s|$)")
_COMMENT: Final = re.compile(r"^#.*$|(?<=\s)#.*$", re.MULTILINE)


class LockError(ValueError):
    """A line that leaves open what gets installed, or from where."""


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock. `name` is canonical; `hashes` are hexadecimal SHA-256."""

    name: str
    version: Version
    marker: Marker | None
    hashes: tuple[str, ...]

    @property
    def wanted_here(self) -> bool:
        """Whether this interpreter, on this system, installs it."""
        return self.marker is None or self.marker.evaluate()


def read_lock(path: Path) -> list[Locked]:
    """Raises `LockError` for a line with another form than `name==version ; marker --hash=…`.

    Options and addresses are such lines: the index is the business of who installs, not of a lock.
    """
    return [_locked(line, path) for line in _lines(path.read_text())]


def _lines(text: str) -> Iterator[str]:
    """Without comments, continued lines joined."""
    for line in _COMMENT.sub("", text).replace("\\\n", " ").splitlines():
        if line.strip():
            yield line.strip()


def _locked(line: str, path: Path) -> Locked:
    hashes = tuple(_HASH.findall(line))
    try:
        requirement = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement as error:
        raise LockError(f"{path}: not a package with its hashes: {line[:80]}") from error
    if requirement.url is not None:
        raise LockError(f"{path}: {requirement.name} comes from an address, not from an index")
    if not hashes:
        raise LockError(f"{path}: {requirement.name} has no hash")
    pins = list(requirement.specifier)
    if len(pins) != 1 or pins[0].operator != "==" or pins[0].version.endswith("*"):
        raise LockError(f"{path}: {requirement.name} is not pinned to one version")
    return Locked(
        canonicalize_name(requirement.name), Version(pins[0].version), requirement.marker, hashes
    )

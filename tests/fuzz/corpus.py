"""The inputs that are kept: seeds, made anew each time, and inputs that reached further while fuzzing.

Each target has one archive. Its members are stored in the order of their names, without dates and without compression, so that
the same inputs give the same bytes on every machine. Git compresses it, and keeps only what changes in it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.fuzz.play import name_of
from tests.fuzz.target import Target

FOLDER: Final = Path(__file__).parent / "corpus"


def archive_of(target: Target) -> Path:
    return FOLDER / f"{target.name}.zip"


def kept(target: Target) -> list[bytes]:
    """Inputs in the order of their names, the same on every machine."""
    return list(_members(target).values())


def everything(target: Target) -> list[bytes]:
    return list(dict.fromkeys(target.seeds() + kept(target)))


def keep(target: Target, found: Iterable[bytes]) -> int:
    """Replaces the kept inputs by `found`. Returns the number of new ones."""
    old = _members(target)
    new = {name_of(data): data for data in found}
    if new != old:
        FOLDER.mkdir(exist_ok=True)
        archive_of(target).write_bytes(_archive(new))
    return len(new.keys() - old.keys())


def add(target: Target, found: Iterable[bytes]) -> int:
    """Keeps `found` as well. Returns the number of new ones."""
    return keep(target, [*kept(target), *found])


def _members(target: Target) -> dict[str, bytes]:
    """Inputs by name."""
    if not archive_of(target).exists():
        return {}
    with zipfile.ZipFile(archive_of(target)) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist())}


def _archive(inputs: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(inputs):
            # Without a date of its own a member gets the first one that the format knows: 1980-01-01.
            archive.writestr(zipfile.ZipInfo(name), inputs[name])
    return buffer.getvalue()

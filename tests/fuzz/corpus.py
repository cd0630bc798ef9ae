"""The inputs that are kept: seeds, which are made anew each time, and what fuzzing has found to reach further."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fuzz.play import name_of
from tests.fuzz.target import Target

FOLDER: Final = Path(__file__).parent / "corpus"


def folder_of(target: Target) -> Path:
    return FOLDER / target.name


def kept(target: Target) -> list[bytes]:
    """In the order of their names: the same everywhere."""
    return [file.read_bytes() for file in sorted(folder_of(target).glob("*"))]


def everything(target: Target) -> list[bytes]:
    return list(dict.fromkeys(target.seeds() + kept(target)))


def keep(target: Target, found: list[bytes]) -> int:
    """Replaces what is kept by `found`. Returns how many of those are new."""
    folder = folder_of(target)
    folder.mkdir(parents=True, exist_ok=True)
    names = {name_of(data): data for data in found}
    old = {file.name for file in folder.glob("*")}
    for name in old - names.keys():
        (folder / name).unlink()
    for name in names.keys() - old:
        (folder / name).write_bytes(names[name])
    return len(names.keys() - old)

"""The inputs that are kept: seeds, made anew each time, and inputs that reached further while fuzzing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.fuzz.play import name_of
from tests.fuzz.target import Target

FOLDER: Final = Path(__file__).parent / "corpus"


def folder_of(target: Target) -> Path:
    return FOLDER / target.name


def kept(target: Target) -> list[bytes]:
    """Inputs in the order of their names, the same on every machine."""
    return [file.read_bytes() for file in sorted(folder_of(target).glob("*"))]


def everything(target: Target) -> list[bytes]:
    return list(dict.fromkeys(target.seeds() + kept(target)))


def keep(target: Target, found: list[bytes]) -> int:
    """Replace the kept inputs by `found`. Returns the number of new ones."""
    folder = folder_of(target)
    folder.mkdir(parents=True, exist_ok=True)
    names = {name_of(data): data for data in found}
    old = {file.name for file in folder.glob("*")}
    for name in old - names.keys():
        (folder / name).unlink()
    for name in names.keys() - old:
        (folder / name).write_bytes(names[name])
    return len(names.keys() - old)

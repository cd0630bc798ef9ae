"""Writes what pip installs for a group of `uv.lock`, with hashes: `python -m supply.export GROUP`

Imports the standard library only: it runs before anything is installed. A package that it left out would be refused by
pip, which takes nothing without a hash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from supply.locked import Lock, Locked

LOCK: Final = Path(__file__).parents[1] / "uv.lock"


def requirements(packages: Iterable[Locked]) -> str:
    """As a requirements file. No address: the index is the choice of the one who installs."""
    return "".join(_lines(each) for each in packages)


def _lines(package: Locked) -> str:
    marker = f" ; {package.marker}" if package.marker is not None else ""
    hashes = "".join(f" \\\n    --hash=sha256:{each}" for each in package.hashes)
    return f"{package.name}=={package.version}{marker}{hashes}\n"


if __name__ == "__main__":
    sys.stdout.write(requirements(Lock(LOCK).of(sys.argv[1])))

"""Writes the requirements for a group of `uv.lock`, with hashes: `python -m supply.export GROUP`

Imports the standard library only: it runs before anything is installed. If it left out a package, pip would refuse
that package, as it takes none without a hash.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from supply.locked import Lock, Locked

LOCK: Final = Path(__file__).parents[1] / "uv.lock"


def requirements(packages: Iterable[Locked]) -> str:
    """The text of a requirements file. It names no index: the user of pip chooses that."""
    return "".join(_lines(each) for each in packages)


def _lines(package: Locked) -> str:
    marker = f" ; {package.marker}" if package.marker is not None else ""
    hashes = "".join(f" \\\n    --hash=sha256:{each}" for each in package.hashes)
    return f"{package.name}=={package.version}{marker}{hashes}\n"


if __name__ == "__main__":
    sys.stdout.write(requirements(Lock(LOCK).of(sys.argv[1])))

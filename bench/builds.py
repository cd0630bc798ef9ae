"""The builds of pubsubd on this machine, compiled and interpreted, and the Python that runs each.

A build is what its own Python says of it. So a wheel that could not be compiled is never called compiled.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from bench.processes import ROOT

Build = Literal["compiled", "interpreted"]

SUFFIX: Final = "-interpreted"
"""End of the name of a contestant that is measured beside its compiled form."""

COMPILED_PYTHON: Final = Path(sys.prefix) / "compiled" / "bin" / "python"
"""The environment with the compiled wheel and the same locked dependencies."""

# An installation from before there were two builds has no such module, and is interpreted.
_ASK: Final = """
import importlib, importlib.util, pubsubd
two = importlib.util.find_spec("pubsubd_protocol.build")
print(bool(two) and importlib.import_module("pubsubd_protocol.build").COMPILED)
"""


def installed(
    pythons: Iterable[Path] = (Path(sys.executable), COMPILED_PYTHON),
) -> dict[Build, Path]:
    """The Python of each build; the first that has it counts."""
    found: dict[Build, Path] = {}
    for python in pythons:
        build = build_of(python)
        if build is not None:
            found.setdefault(build, python)
    return found


def build_of(python: Path) -> Build | None:
    """The build of pubsubd that `python` imports, started as the measured processes are; None without any."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return "compiled" if done.stdout.strip() == "True" else "interpreted"

"""A run of atheris over one target: its first inputs, its findings, and the inputs worth keeping."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.corpus import keep, kept
from tests.fuzz.play import name_of, play
from tests.fuzz.target import Target

_STATS: Final = re.compile(r"stat::(\w+): +(\d+)")
_COVERED: Final = re.compile(r"cov: (\d+) ft: (\d+)")
_SLOWEST_INPUT_S: Final = 30
_MOST_MEMORY_MB: Final = 1024


@dataclass(frozen=True, slots=True)
class Campaign:
    """The result of a run. `edges`: edges of the coverage that were reached."""

    inputs: int
    seconds: float
    peak_mb: int
    edges: int
    new: int
    kept: int


class Crashed(Exception):
    """The process ended in a way that no input explains. The text is the end of its output."""


def available() -> bool:
    """Whether atheris is installed. It has no wheel for some Pythons and machines."""
    asked = subprocess.run(
        [sys.executable, "-c", "import atheris"], capture_output=True, check=False
    )
    return asked.returncode == 0


def hunt(target: Target, *, seconds: int | None, inputs: int | None) -> Campaign:
    """Raises `Finding` for an input that shows a fault. At least one of `seconds` and `inputs` must be given."""
    with tempfile.TemporaryDirectory(prefix=f"pubsubd-fuzz-{target.name}-") as name:
        scratch = Path(name)
        program = _program(scratch, target)
        seeds = _folder(scratch / "seeds", target.seeds())
        old = _folder(scratch / "kept", kept(target))
        found = _folder(scratch / "found", [])
        bounds = [f"-max_total_time={seconds}"] if seconds is not None else []
        bounds += [f"-runs={inputs}"] if inputs is not None else []
        began = time.monotonic()
        limits = [f"-timeout={_SLOWEST_INPUT_S}", f"-rss_limit_mb={_MOST_MEMORY_MB}"]
        wrong = f"-artifact_prefix={scratch}/wrong-"
        folders = [str(found), str(old), str(seeds)]
        command = [str(program), *bounds, *limits, wrong, "-print_final_stats=1", *folders]
        said = _run(command, scratch, target)
        took = time.monotonic() - began
        # Keep no input that only reaches what seeds reach: seeds are made anew each time.
        before = {file.name for file in seeds.iterdir()}
        _run([str(program), "-merge=1", str(seeds), str(old), str(found)], scratch, target)
        worth = [file.read_bytes() for file in seeds.iterdir() if file.name not in before]
        new = keep(target, worth)
    stats = dict(_STATS.findall(said))
    edges = [int(edges) for edges, _ in _COVERED.findall(said)]
    return Campaign(
        int(stats.get("number_of_executed_units", 0)),
        took,
        int(stats.get("peak_rss_mb", 0)),
        max(edges, default=0),
        new,
        len(worth),
    )


def _program(scratch: Path, target: Target) -> Path:
    program = scratch / "again"
    start = shlex.join([sys.executable, "-m", "tests.fuzz.guided", target.name, str(program)])
    program.write_text(f'#!/bin/sh\nexec {start} "$@"\n')
    program.chmod(0o700)
    return program


def _folder(folder: Path, inputs: list[bytes]) -> Path:
    folder.mkdir()
    for data in inputs:
        (folder / name_of(data)).write_bytes(data)
    return folder


def _run(command: list[str], scratch: Path, target: Target) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    for file in sorted(scratch.glob("wrong-*")):
        play(target, [file.read_bytes()], measure_every=1)
    if done.returncode:
        raise Crashed(said[-3000:])
    return said

"""Plays inputs to a target within the limits. A finding names the input, and the command that replays it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.limits import TooLong, Watch, measured
from tests.fuzz.target import Target

MEASURE_EVERY: Final = 97
"""The memory of one input in this number is measured."""


class Finding(AssertionError):
    """An input that shows a fault. It is kept in `file`."""

    def __init__(self, target: Target, data: bytes, cause: BaseException) -> None:
        self.data = data
        self.cause = cause
        self.file = Path(tempfile.gettempdir()) / f"pubsubd-fuzz-{target.name}-{name_of(data)}"
        self.file.write_bytes(data)
        super().__init__(
            f"{target.name}: {type(cause).__name__}: {cause}\n"
            f"input of {len(data)} bytes: {data.hex()}\n"
            f"again: python -m tests.fuzz.run --target {target.name} --replay {self.file}"
        )


@dataclass(slots=True)
class Figures:
    inputs: int = 0
    most_memory: int = 0
    """The most bytes that one input took, of those that were measured."""


def name_of(data: bytes) -> str:
    """The name of an input's file."""
    return hashlib.sha256(data).hexdigest()[:16]


def play(target: Target, inputs: Iterable[bytes], measure_every: int = MEASURE_EVERY) -> Figures:
    """Raises `Finding` for the first input that shows a fault. For the main thread."""
    figures = Figures()
    with Watch() as watch:
        for data in inputs:
            watch.begin()
            figures.inputs += 1
            try:
                if figures.inputs % measure_every:
                    target.check(data)
                else:
                    peak = measured(target.check, data, target.memory_for(len(data)))
                    figures.most_memory = max(figures.most_memory, peak)
            except (Exception, TooLong) as error:
                raise Finding(target, data, error) from error
    return figures

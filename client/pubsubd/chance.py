"""Random numbers that differ in every process, also in forked ones and in those that seed `random` alike."""

from __future__ import annotations

import random
from typing import Final

_chance: Final = random.SystemRandom()


def chance() -> float:
    """A random number from 0 up to 1, 1 excluded."""
    return _chance.random()

"""Chance that is another one in every process: also in forked ones, and in those that seed `random` alike."""

from __future__ import annotations

import random
from typing import Final

_chance: Final = random.SystemRandom()


def chance() -> float:
    """A number from 0 up to 1, without 1."""
    return _chance.random()

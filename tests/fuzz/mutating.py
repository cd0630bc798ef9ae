"""Fuzzing without coverage: known inputs, changed at a few spots. A seed always gives the same inputs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from random import Random

from tests.fuzz.corpus import everything
from tests.fuzz.target import Target


def mutated(target: Target, seed: int) -> Iterator[bytes]:
    """Changed inputs, without end."""
    chance = Random(seed)
    pool, donors = everything(target), target.donors()
    while True:
        data = chance.choice(pool)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
            data = target.mutate(data, chance, donors)
        yield data[: target.longest]


def some(target: Target, seed: int, count: int) -> Iterator[bytes]:
    return islice(mutated(target, seed), count)


def until(target: Target, seed: int, deadline: float) -> Iterator[bytes]:
    """Changed inputs, as long as the monotonic clock is before `deadline`."""
    for data in mutated(target, seed):
        if time.monotonic() >= deadline:
            return
        yield data

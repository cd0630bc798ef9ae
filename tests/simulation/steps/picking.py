"""Draws the targets of steps."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.brokers import SimBroker

if TYPE_CHECKING:
    from tests.simulation.world import World

Some = TypeVar("Some")


def running(world: World, chance: random.Random) -> SimBroker | None:
    return pick(chance, [b for b in world.brokers.values() if b.node is not None])


def pick(chance: random.Random, some: Iterable[Some]) -> Some | None:
    every = list(some)
    return chance.choice(every) if every else None

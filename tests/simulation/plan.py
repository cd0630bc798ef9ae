"""What one seed draws: topology, sizes, workload, and how often what goes wrong. Some rates are zero."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Rates are relative weights of the steps of the fault phase."""

    nodes: int
    ring_messages: int
    ring_bytes: int
    replica_messages: int
    replica_bytes: int
    quantum_bytes: int
    capacity_bytes: int
    slowest_ms: int
    publishers: int
    subscribers: int
    steps: int
    step_ms: int
    weights: dict[str, float]


def draw(chance: random.Random) -> Plan:
    """The plan of a seed."""
    tiny = chance.random() < 0.6
    ring = chance.choice([3, 5, 10, 30]) if tiny else chance.choice([100, 1000])
    replica = chance.choice([1, 3, 10, ring])
    weights = {
        "publish": chance.choice([4.0, 10.0]),
        "burst": chance.choice([0.0, 0.5, 2.0]),
        "cut": chance.choice([0.0, 1.0, 3.0]),
        "silent_cut": chance.choice([0.0, 0.0, 1.0]),
        "hold": chance.choice([0.0, 1.0]),
        "heal": chance.choice([1.0, 3.0]),
        "partition": chance.choice([0.0, 1.0]),
        "crash": chance.choice([0.0, 0.5, 1.5]),
        "pause": chance.choice([0.0, 0.5]),
        "client_cut": chance.choice([0.0, 1.0]),
        "app_restart": chance.choice([0.0, 1.0]),
        "subscribe": chance.choice([0.0, 0.5]),
        "clock_step": chance.choice([0.0, 0.3]),
    }
    return Plan(
        nodes=chance.choice([1, 2, 2, 3, 3, 4, 5, 7]),
        ring_messages=ring,
        ring_bytes=chance.choice([3000, 20_000, 10**6]),
        replica_messages=replica,
        replica_bytes=chance.choice([1200, 10_000, 10**6]),
        quantum_bytes=chance.choice([1, 300, 2000, 100_000]),
        capacity_bytes=chance.choice([50, 1000, 100_000]),
        slowest_ms=chance.choice([0, 1, 5, 30]),
        publishers=chance.randint(1, 3),
        subscribers=chance.randint(1, 5),
        steps=chance.choice([60, 120, 240]),
        step_ms=chance.choice([2, 10, 40]),
        weights=weights,
    )

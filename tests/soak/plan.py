"""The plan of one soak, from a seed: sizes, and a timetable of faults. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from tests.faults.plan import LINK_KINDS, NODES, Fault, Kind

JOURNALED: Final = "a"
"""The broker that is restarted.

It keeps a journal, so that a restart loses nothing. The other brokers are never restarted.
"""

PUBLISHERS: Final = tuple(f"p{node}" for node in NODES)
READERS: Final = ("whole-a", "named-b", "whole-c", "lane-a", "slow-c")
PASSERS: Final = tuple(f"passers-{node}" for node in NODES)
APPLICATIONS: Final = (*PUBLISHERS, *READERS, *PASSERS)

LONGEST_S: Final = 3.0
LEAST_LIFE_S: Final = 120.0
"""Least time between two restarts, where the run is long enough: a slope needs a series."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`seconds` of load. Samples are taken every `sample_s`, and count once a broker is `warm_up_s` old."""

    seed: int
    seconds: float
    sample_s: float
    warm_up_s: float
    faults: tuple[Fault, ...]


def draw(seed: int, seconds: float) -> Plan:
    """Draw a fault every few seconds, at most a fifth of a short run apart. The last moments are without faults."""
    chance = random.Random(seed)
    links = [(one, other) for one in NODES for other in NODES if one != other]
    every_s = min(3.0, seconds / 20)
    longest_s = min(LONGEST_S, seconds / 8)
    faults: list[Fault] = []
    at_s = every_s
    while (at_s := at_s + chance.expovariate(1 / every_s)) < seconds - longest_s:
        target: tuple[str, ...]
        if chance.random() < 0.6:
            kind, target = chance.choice(LINK_KINDS), chance.choice(links)
        else:
            kind = chance.choice(
                [Kind.KILL_APPLICATION, Kind.KILL_APPLICATION, Kind.STOP_APPLICATION]
            )
            target = (chance.choice(APPLICATIONS),)
        faults.append(
            Fault(
                at_s,
                kind,
                target,
                chance.uniform(0.02, 1) * longest_s,
                chance.choice([20_000, 200_000])
                if kind is Kind.SLOW
                else chance.randrange(500_000),
                chance.choice(["to_target", "from_target"]),
            )
        )
    restarts = max(1, int(seconds / (2 * LEAST_LIFE_S)))
    for number in range(1, restarts + 1):
        # Restarts come in pairs of a crash and a stop: SIGKILL first.
        kind = Kind.KILL_BROKER if number % 2 else Kind.STOP_BROKER
        # Make the last life the longest: the slope is taken of it.
        at_s = seconds * (number - 0.5) / (restarts + 0.5)
        faults.append(Fault(at_s, kind, (JOURNALED,), 0.0, 0, ""))
    faults.sort(key=lambda fault: fault.at_s)
    return Plan(
        seed=seed,
        seconds=seconds,
        sample_s=max(0.1, seconds / 400),
        warm_up_s=min(60.0, seconds / 5),
        faults=tuple(faults),
    )

"""Long outages, from a seed: a broker or a link is away for longer than the peer time-out, without other faults.

In the plans of `plan.py` nearly every fault ends, or another one follows, before sessions have to be told of it.
"""

from __future__ import annotations

import random
from dataclasses import replace

from tests.simulation.plan import ROOMY, Plan, in_order

EVERY_MS = 5000
"""Time between the beginnings of two outages: longer than one of them."""

OUTAGES = 3


def outages(seed: int) -> Plan:
    """A plan of a few publishers and sessions, and one outage after the other."""
    chance = random.Random(f"{seed} outages")
    nodes = chance.choice([2, 3])
    ends_ms = 1000 + OUTAGES * EVERY_MS
    planned = [(0, "start")] * nodes
    planned += [(500, "publisher")] * 3 + [(500, "subscribe")] * 4
    planned += [(at_ms, "publish") for at_ms in range(600, ends_ms, 100)]
    planned += [(at_ms, "outage") for at_ms in range(1000, ends_ms, EVERY_MS)]
    steps = in_order(planned, nodes, range(700_000, 800_000), chance)
    return replace(
        ROOMY,
        seed=seed,
        nodes=nodes,
        ring_messages=chance.choice([10, 1000]),
        replica_messages=10,
        slowest_ms=chance.choice([0, 5, 30]),
        tick_jitter_ms=chance.choice([0, 20, 200]),
        steps=steps,
        kind="outages",
    )

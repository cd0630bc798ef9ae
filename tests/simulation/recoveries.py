"""Lives that go on with the state of earlier ones, from a seed: a broker is ended again and again, in every way.

In the plans of `plan.py` readers are told of many other faults, so an end is seldom seen alone. Here other faults are
rare, and rings are large as often as small.
"""

from __future__ import annotations

import random
from dataclasses import replace

from tests.simulation.plan import ROOMY, Plan, in_order

FAULTS = {
    "crash": 3.0,
    "restart": 1.0,
    "power_cut": 1.0,
    "put_back": 1.0,
    "life_between": 1.0,
    "lose_witness": 1.0,
    "lose_unheard": 2.0,
    "recover_apart": 1.0,
    "app_restart": 1.0,
    "cut": 1.0,
    "hold": 2.0,
    "partition": 2.0,
}

LASTS_MS = 8000


def recoveries(seed: int) -> Plan:
    """A plan of a few publishers and sessions, and one end of a broker after the other."""
    chance = random.Random(f"{seed} recoveries")
    nodes = chance.choice([2, 3, 4, 4])
    planned = [(0, "start")] * nodes
    planned += [(500, "publisher")] * 3 + [(500, "subscribe")] * 3
    planned += [(at_ms, "publish") for at_ms in range(600, LASTS_MS, 40)]
    at_ms = 700
    while at_ms < LASTS_MS:
        what = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        planned.append((at_ms, what))
        if what == "partition":
            planned.append((at_ms + 300, "heal"))
        at_ms += chance.randint(50, 600)
    steps = in_order(planned, nodes, range(1_000_000, 1_100_000), chance)
    ring = chance.choice([10, 100, 1000])
    return replace(
        ROOMY,
        seed=seed,
        nodes=nodes,
        ring_messages=ring,
        ring_bytes=chance.choice([5000, 10**6]),
        replica_messages=chance.choice([10, ring]),
        quantum_bytes=chance.choice([300, 100_000]),
        slowest_ms=chance.choice([0, 1, 5, 30]),
        steps=steps,
        fsync=chance.choice([None, None, "off", "interval", "interval", "snapshot", "always"]),
        segment_bytes=chance.choice([300, 2000, 20_000]),
        slowest_disk_ms=chance.choice([0, 5, 30]),
        recovers_from_peers=True,
        kind="recoveries",
    )


def unheard(seed: int) -> Plan:
    """A calm plan of two brokers.

    One loses accepted messages while the other is away, and comes back without memory.
    """
    chance = random.Random(f"{seed} unheard")
    planned = [(0, "start")] * 2
    planned += [(500, "publisher")] * 4
    planned += [(at_ms, "publish") for at_ms in range(600, 1500, 50)]
    planned += [(2000, "lose_unheard"), (4000, "publish"), (4100, "publish")]
    steps = in_order(planned, 2, range(1_100_000, 1_200_000), chance)
    return replace(
        ROOMY,
        seed=seed,
        nodes=2,
        slowest_ms=chance.choice([0, 1, 5]),
        steps=steps,
        fsync=chance.choice(["off", "interval", "always"]),
        slowest_disk_ms=chance.choice([0, 5]),
        kind="unheard",
    )

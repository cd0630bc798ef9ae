"""The plan of a seed: topology, sizes, workload, faults and their times. All of it is data, drawn before the run."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

CALM_MS = 500
"""Time without other faults around a step that must be undisturbed."""

CALM = ("start", "publisher", "subscribe")
"""Steps that happen in such a time all the same."""


class Step(NamedTuple):
    """A step of a plan. `draw` seeds the step's own choices, so that no step depends on another."""

    at_ms: int
    what: str
    draw: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The data of one run. `Plan(…)`, as it prints, is a Python literal that replays it.

    `seed` seeds all that is not planned: how the bytes of every connection arrive, and when.
    """

    seed: int
    nodes: int
    ring_messages: int
    ring_bytes: int
    replica_messages: int
    replica_bytes: int
    quantum_bytes: int
    capacity_bytes: int
    slowest_ms: int
    tick_jitter_ms: int
    batch_messages: int
    cursor_ttl_ms: int
    steps: tuple[Step, ...]
    pace_ms: int = 0
    fsync: str | None = None
    """The fsync mode of every broker's journal; None: brokers without journals."""
    segment_bytes: int = 1000
    slowest_disk_ms: int = 0
    recovers_from_peers: bool = False
    """Whether a broker that has lost its memory asks its peers for its stream."""
    secret: bool = False
    """Whether the brokers ask each other for a secret."""
    fetched_bytes: int = 10**6
    """Bytes of fetched entries that all sessions together may keep."""
    kind: str = ""
    """The kind of plans, by its name in `seeds.py`; empty for those that `draw` makes."""

    @property
    def seed_name(self) -> str:
        """The name for `make sim SEED=…`."""
        return f"{self.kind}:{self.seed}" if self.kind else str(self.seed)

    def names(self) -> list[str]:
        return [f"n{i}" for i in range(self.nodes)]


def draw(seed: int) -> Plan:
    """The plan of a seed. A swarm: every seed has its own rates of faults, and some of them are 0."""
    chance = random.Random(seed)
    tiny = chance.random() < 0.6
    ring = chance.choice([3, 5, 10, 30]) if tiny else chance.choice([100, 1000])
    nodes = chance.choice([1, 2, 2, 3, 3, 4, 5, 7])
    # A source of its own, so that a journal changes no other part of a plan.
    disk = random.Random(f"{seed} disk")
    return Plan(
        seed=seed,
        nodes=nodes,
        ring_messages=ring,
        ring_bytes=chance.choice([3000, 20_000, 10**6]),
        replica_messages=chance.choice([1, 3, 10, ring]),
        replica_bytes=chance.choice([1200, 10_000, 10**6]),
        quantum_bytes=chance.choice([1, 300, 2000, 100_000]),
        capacity_bytes=chance.choice([50, 1000, 100_000]),
        slowest_ms=chance.choice([0, 1, 5, 30]),
        tick_jitter_ms=chance.choice([0, 0, 20, 200]),
        batch_messages=chance.choice([1, 4, 4, 12]),
        cursor_ttl_ms=chance.choice([100, 86_400_000, 86_400_000]),
        steps=_planned(_steps(chance, nodes), seed),
        pace_ms=chance.choice([0, 20, 250]),
        fsync=disk.choice([None, None, None, "off", "snapshot", "interval", "always", "always"]),
        segment_bytes=disk.choice([300, 2000, 20_000]),
        slowest_disk_ms=disk.choice([0, 5, 30]),
        recovers_from_peers=disk.random() < 0.6,
        secret=random.Random(f"{seed} secret").random() < 0.3,
        fetched_bytes=random.Random(f"{seed} fetched").choice([0, 300, 2000, 10**6]),
    )


ROOMY: Final = Plan(
    seed=0,
    nodes=0,
    ring_messages=1000,
    ring_bytes=10**6,
    replica_messages=1000,
    replica_bytes=10**6,
    quantum_bytes=100_000,
    capacity_bytes=100_000,
    slowest_ms=0,
    tick_jitter_ms=0,
    batch_messages=4,
    cursor_ttl_ms=86_400_000,
    steps=(),
)
"""The sizes with which plans of a single kind of fault begin: no bound is in the way of that fault."""


def in_order(
    planned: list[tuple[int, str]], nodes: int, draws: range, chance: random.Random
) -> tuple[Step, ...]:
    """The planned steps in order of time, each with a draw of its own. The first `nodes` are starts, numbered."""
    drawn = [*range(nodes), *chance.sample(draws, len(planned) - nodes)]
    steps = [Step(at, what, draw) for (at, what), draw in zip(planned, drawn, strict=True)]
    return tuple(sorted(steps, key=lambda step: step.at_ms))


def forgetful(seed: int) -> Plan:
    """A calm plan without disks: again and again a broker and a producer crash together, and forget a name."""
    chance = random.Random(seed)
    nodes = chance.choice([3, 3, 4])
    planned = [(0, "start")] * nodes
    planned += [(500, "publisher")] * 3 + [(500, "subscribe")] * 6
    for at_ms in range(600, 9000, 50):
        planned.append((at_ms, "publish"))
    for at_ms in range(1500, 9000, 1500):
        planned.append((at_ms + chance.randint(0, 500), "forget_together"))
    planned += [(chance.randint(600, 9000), chance.choice(["cut", "hold"])) for _ in range(3)]
    steps = in_order(planned, nodes, range(600_000, 700_000), chance)
    ring = chance.choice([10, 100, 1000])
    return replace(
        ROOMY,
        seed=seed,
        nodes=nodes,
        ring_messages=ring,
        replica_messages=chance.choice([10, ring]),
        slowest_ms=chance.choice([0, 1, 5]),
        steps=steps,
        recovers_from_peers=chance.random() < 0.6,
        kind="forgetful",
    )


def _steps(chance: random.Random, nodes: int) -> tuple[Step, ...]:
    """Steps in order of time. No two have the same draw, which also names the things that a step makes."""
    weights = {
        "publish": chance.choice([4.0, 10.0]),
        "burst": chance.choice([0.0, 0.5, 2.0]),
        "cut": chance.choice([0.0, 1.0, 3.0]),
        "cut_in_time": chance.choice([0.0, 0.0, 1.0]),
        "silent_cut": chance.choice([0.0, 0.0, 1.0]),
        "hold": chance.choice([0.0, 1.0]),
        "heal": chance.choice([1.0, 3.0]),
        "partition": chance.choice([0.0, 1.0]),
        "crash": chance.choice([0.0, 0.5, 1.5]),
        "crash_both": chance.choice([0.0, 0.0, 3.0]),
        "crash_at_contact": chance.choice([0.0, 0.0, 2.0]),
        "restart": chance.choice([0.0, 0.0, 1.0]),
        "pause": chance.choice([0.0, 0.5]),
        "client_cut": chance.choice([0.0, 1.0]),
        "app_restart": chance.choice([0.0, 1.0]),
        "subscribe": chance.choice([0.0, 0.5]),
        "app_pause": chance.choice([0.0, 0.0, 1.0]),
        "filter": chance.choice([0.0, 0.0, 1.0]),
        "clock_step": chance.choice([0.0, 0.3]),
    }
    publishers, subscribers = chance.randint(1, 3), chance.randint(1, 5)
    length = chance.choice([60, 120, 240] if nodes > 2 else [200, 300])
    slowest_ms = chance.choice([2, 10, 40])
    begins_ms = chance.choice([0, 10, 500])
    planned = [(_start_ms(chance), "start") for _ in range(nodes)]
    planned += [(begins_ms, "publisher")] * publishers
    planned += [(begins_ms, "subscribe")] * subscribers
    at_ms = begins_ms
    for what in chance.choices(list(weights), list(weights.values()), k=length):
        planned.append((at_ms, what))
        at_ms += chance.randint(0, slowest_ms)
    draws = chance.sample(range(100_000), len(planned))
    # A start's draw says which node it is.
    draws[:nodes] = range(nodes)
    steps = [Step(at, what, seed) for (at, what), seed in zip(planned, draws, strict=True)]
    return tuple(sorted(steps, key=lambda step: step.at_ms))


_MORE: Final = (
    # Lies.
    ("lies", "lie", (0, 0, 0, 5, 20, 60), range(100_000, 200_000)),
    ("power", "power_cut", (0, 0, 0, 1, 4), range(200_000, 300_000)),
    # Busy streams whose messages hardly any reader wants, and readers that close and come back.
    ("closes", "busy_close", (0, 0, 10, 40), range(300_000, 400_000)),
    # A publisher's process is copied.
    ("copies", "copy", (0, 0, 1, 3), range(400_000, 500_000)),
    # A broker is restarted 40 times.
    ("lives", "forty_lives", (0, 0, 0, 0, 1), range(500_000, 600_000)),
)
"""Steps that some seeds have besides: the name of their chance, the step, the numbers of them, their draws."""


def _planned(steps: tuple[Step, ...], seed: int) -> tuple[Step, ...]:
    """`steps`, and steps that are drawn apart from them."""
    for name, what, counts, draws in _MORE:
        chance = random.Random(f"{seed} {name}")
        steps = _with_more(steps, what, chance.choice(counts), draws, chance)
    return _with_untold(_with_lost_ends(steps, seed), seed)


def _with_lost_ends(steps: tuple[Step, ...], seed: int) -> tuple[Step, ...]:
    """In some seeds the proof is missing that a recovered history is whole."""
    chance = random.Random(f"{seed} ends")
    draws = iter(range(n, n + 100_000) for n in (700_000, 800_000, 900_000))
    for what in ("put_back", "life_between", "lose_witness"):
        count = chance.choice([0, 0, 0, 0, 1, 3])
        steps = _with_more(steps, what, count, next(draws), chance)
    return steps


def _with_untold(steps: tuple[Step, ...], seed: int) -> tuple[Step, ...]:
    """In some seeds a broker dies between a contact and the moment in which its sessions hear of it.

    That takes a few hundred undisturbed milliseconds, and sessions that have not met all producers yet. So it is one
    step, early, in place of the faults around it.
    """
    chance = random.Random(f"{seed} untold")
    if chance.random() >= 0.25:
        return steps
    begins_ms = min(step.at_ms for step in steps if step.what == "publisher")
    at_ms = chance.randint(begins_ms, (2 * begins_ms + steps[-1].at_ms) // 3)
    calm = range(at_ms, at_ms + CALM_MS)
    kept = (s for s in steps if s.at_ms not in calm or s.what in CALM)
    step = Step(at_ms, "crash_untold", chance.randrange(600_000, 700_000))
    return tuple(sorted((*kept, step), key=lambda step: step.at_ms))


def _with_more(
    steps: tuple[Step, ...], what: str, count: int, draws: range, chance: random.Random
) -> tuple[Step, ...]:
    """Further steps with draws of their own, so that they change no other step."""
    begins_ms, ends_ms = steps[0].at_ms, steps[-1].at_ms
    more = [
        Step(chance.randint(begins_ms, ends_ms), what, draw) for draw in chance.sample(draws, count)
    ]
    return tuple(sorted((*steps, *more), key=lambda step: step.at_ms))


def _start_ms(chance: random.Random) -> int:
    return 0 if chance.random() < 0.8 else chance.randint(0, 2000)

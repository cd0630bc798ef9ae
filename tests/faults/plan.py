"""The plan of a run on real processes, from a seed: sizes, applications, and a timetable of faults. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tests.faults.application import Keeps

NODES: Final = ("a", "b", "c")
PEER_TIMEOUT_S: Final = 1.0
TOPICS: Final = ("a", "a.b", "b.c", "x.y.z")
MARK: Final = "mark"
"""Every reader subscribes to this topic: the last message of each stream is published on it."""

PATTERNS: Final = ((">",), (">",), ("a", MARK), ("a.*", "x.>", MARK), ("*.c", MARK))
FLOW_SIZES: Final = ((20,), (20, 200), (20, 200, 8000))


class Kind(StrEnum):
    """Kinds of faults. The target of a fault on a link is the consumer and the producer, of others one name."""

    KILL_BROKER = "broker killed"
    STOP_BROKER = "broker stopped"
    KILL_APPLICATION = "application killed"
    STOP_APPLICATION = "application stopped"
    CUT = "link cut"
    HOLD = "link held"
    HOLD_ONE_WAY = "link held one way"
    RESET = "link reset"
    SLOW = "link slowed"
    CUT_AFTER = "link cut after some bytes"


LINK_KINDS: Final = (
    Kind.CUT,
    Kind.HOLD,
    Kind.HOLD_ONE_WAY,
    Kind.RESET,
    Kind.SLOW,
    Kind.CUT_AFTER,
)
KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    "broker": (Kind.KILL_BROKER, Kind.STOP_BROKER),
    "application": (Kind.KILL_APPLICATION, Kind.STOP_APPLICATION),
    "peers": LINK_KINDS,
    "socket": LINK_KINDS,
}
"""Faults that can happen to a process of one kind, to a link between brokers, or between an application and its
broker.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Begins at `at_s` and lasts for `for_s`. `figure`: bytes, or bytes per second; `toward`: a direction."""

    at_s: float
    kind: Kind
    target: tuple[str, ...]
    for_s: float
    figure: int
    toward: str


@dataclass(frozen=True, slots=True)
class Application:
    """The settings of an application that a seed draws."""

    name: str
    node: str
    keeps: Keeps = "nothing"
    patterns: tuple[str, ...] = (">",)
    start: str = "latest"
    pause_s: float = 0.0
    every: int = 1
    sizes: tuple[int, ...] = (20,)
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one run.

    `capacity`: messages that a ring holds for certain. A large ring holds all that is ever published.
    """

    seed: int
    seconds: float
    large: bool
    ring_messages: int
    ring_bytes: int
    replica_messages: int
    capacity: int
    publishers: tuple[Application, ...]
    readers: tuple[Application, ...]
    cut_at_first: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...]


def draw(seed: int, seconds: float) -> Plan:
    """The plan of a seed: even seeds have rings that hold everything, odd seeds small rings."""
    chance = random.Random(seed)
    large = seed % 2 == 0
    ring = 1_000_000 if large else chance.choice([50, 200, 1000])
    batch = chance.choice([3, 20])
    publishers = tuple(
        Application(
            f"p{node}",
            node,
            pause_s=chance.choice([0.005, 0.03]),
            batch=batch,
            sizes=chance.choice(FLOW_SIZES),
        )
        for node in NODES
    )
    keeps: list[Keeps] = ["nothing", "position", "position", "name", "name"]
    readers = tuple(
        Application(
            f"r{i}",
            NODES[i] if i < len(NODES) else chance.choice(NODES),
            keeps=kept,
            patterns=PATTERNS[0] if i == 0 else chance.choice(PATTERNS),
            start="earliest" if chance.random() < 0.2 else "latest",
            pause_s=chance.choice([0.0, 0.02, 1.0]),
            every=chance.choice([1, 20]),
        )
        for i, kept in enumerate(chance.sample(keeps, len(keeps)))
    )
    links = [
        (consumer, producer) for consumer in NODES for producer in NODES if consumer != producer
    ]
    return Plan(
        seed=seed,
        seconds=seconds,
        large=large,
        ring_messages=ring,
        ring_bytes=(256 if large else 16) * 1024 * 1024,
        replica_messages=chance.choice([20, 1000, 100_000]),
        # Whole entries are evicted: one eviction may leave this much room.
        capacity=ring - batch,
        publishers=publishers,
        readers=readers,
        cut_at_first=tuple(link for link in links if chance.random() < 0.15),
        faults=_faults(chance, seconds, links, [a.name for a in (*publishers, *readers)]),
    )


def _faults(
    chance: random.Random,
    seconds: float,
    links: list[tuple[str, str]],
    applications: list[str],
) -> tuple[Fault, ...]:
    swarm = {
        "broker": chance.choice([0.5, 1.0, 2.0]),
        "application": chance.choice([0.0, 1.0, 2.5]),
        "peers": chance.choice([0.0, 1.0, 3.0]),
        "socket": chance.choice([0.0, 0.5, 1.5]),
    }
    mean_s = chance.choice([0.15, 0.4])
    faults: list[Fault] = []
    at_s = 0.0
    while True:
        at_s += chance.expovariate(1 / mean_s)
        if at_s >= seconds:
            return tuple(faults)
        place = chance.choices(list(swarm), list(swarm.values()))[0]
        target: tuple[str, ...]
        match place:
            case "broker":
                target = (chance.choice(NODES),)
            case "peers":
                target = chance.choice(links)
            case _:
                target = (chance.choice(applications),)
        fault = Fault(
            at_s,
            chance.choice(KINDS[place]),
            target,
            chance.choice([0.05, 0.3, 0.9, 1.3, 2.0]) * PEER_TIMEOUT_S,
            chance.choice([0, 10, 300, 5000]),
            chance.choice(["to_target", "from_target"]),
        )
        if fault.kind is Kind.SLOW:
            fault = replace(fault, figure=chance.choice([2000, 50_000]))
        faults.append(fault)

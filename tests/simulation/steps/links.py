"""Steps of links: they are cut, held, and closed to dialling."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.clockwork import MS
from tests.simulation.steps.picking import pick
from tests.simulation.wires import Pipe, Wire

if TYPE_CHECKING:
    from tests.simulation.world import World


def cut(world: World, chance: random.Random, draw: int) -> bool:
    return cut_link(world, chance, silent=False)


def silent_cut(world: World, chance: random.Random, draw: int) -> bool:
    return cut_link(world, chance, silent=True)


def cut_link(world: World, chance: random.Random, *, silent: bool) -> bool:
    wire = pick(chance, world.links())
    if wire is None:
        return False
    world.say(f"{'silent ' if silent else ''}cut {wire.ends}")
    wire.cut(silent=silent)
    return True


def cut_in_time(world: World, chance: random.Random, draw: int) -> bool:
    """Cut exactly behind the last byte under way (an answer, an acknowledgement), or a byte beside it."""
    wires = [w for w in world.wires if not w.broken]
    pipes: list[tuple[Pipe, Wire]] = [(p, w) for w in wires for p in (w.out, w.back)]
    picked = pick(chance, [pw for pw in pipes if not pw[0].empty] or pipes)
    if picked is None:
        return False
    pipe, wire = picked
    pipe.burn(chance.choice([-1, 0, 0, 1]))
    world.say(f"cut {wire.ends} behind what is under way")
    if wire.local:
        world.disturbed(world.brokers[wire.ends[0]])
    return True


def hold(world: World, chance: random.Random, draw: int) -> bool:
    wire = pick(chance, world.links())
    if wire is None:
        return False
    pipe = chance.choice([wire.out, wire.back])
    pipe.held = True
    world.say(f"hold {wire.ends}")

    def release() -> None:
        pipe.held = False
        pipe.plan()

    world.clockwork.after(chance.randint(1, 3000) * MS, release)
    return True


def partition(world: World, chance: random.Random, draw: int) -> bool:
    if len(world.brokers) < 2:
        return False
    near, far = chance.sample(list(world.brokers), 2)
    world.say(f"partition {near} -> {far}")
    sever(world, (near, far))
    return True


def heal(world: World, chance: random.Random, draw: int) -> bool:
    if not world.cuts:
        return False
    healed = chance.choice(sorted(world.cuts))
    world.cuts.discard(healed)
    world.say(f"heal {healed}")
    return True


def sever(world: World, pair: tuple[str, str]) -> None:
    """Cut the first broker's link to the second, and do not let it dial again."""
    world.cuts.add(pair)
    for wire in world.wires:
        if wire.ends == pair:
            wire.cut(silent=False)

"""Steps of single brokers and their machines: they crash, stop, stand still, lose their power, and come back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.clockwork import MS
from tests.simulation.steps.applications import MOST_SUBSCRIBERS, publish, subscribe_on
from tests.simulation.steps.ends import end_life, lose_memory
from tests.simulation.steps.links import sever
from tests.simulation.steps.picking import running

if TYPE_CHECKING:
    from tests.simulation.world import World

LIVES = 40


def start(world: World, chance: random.Random, draw: int) -> bool:
    world.start(world.brokers[f"n{draw}"])
    return True


def crash(world: World, chance: random.Random, draw: int) -> bool:
    broker = running(world, chance)
    if broker is None:
        return False
    world.say(f"{broker.name} crashes")
    end_life(world, broker)
    world.clockwork.after(chance.randint(1, 2000) * MS, lambda: world.start(broker))
    return True


def power_cut(world: World, chance: random.Random, draw: int) -> bool:
    """A machine is off, and on again before its peers have noticed.

    Its network comes up later than its applications.
    """
    broker = running(world, chance)
    if broker is None:
        return False
    world.say(f"{broker.name} loses its power")
    end_life(world, broker, silent=True)
    for subscriber in world.subscribers:
        if subscriber.broker is broker:
            subscriber.restart()
    offline = {(broker.name, peer) for peer in world.brokers} - world.cuts
    world.cuts |= offline

    def boot() -> None:
        world.start(broker)
        if len(world.subscribers) < MOST_SUBSCRIBERS:
            subscribe_on(world, chance, broker, draw)

    boots_ms = chance.randint(1, 300)
    online_ms = boots_ms + chance.choice([0, 20, 200, 1000])
    world.clockwork.after(boots_ms * MS, boot)
    world.clockwork.after(online_ms * MS, lambda: world.cuts.difference_update(offline))
    return True


def outage(world: World, chance: random.Random, draw: int) -> bool:
    """A broker, or its link to one peer, is away for longer than the peer time-out."""
    broker = running(world, chance)
    if broker is None or len(world.brokers) < 2:
        return False
    wait_ns = chance.randint(2000, 4000) * MS
    if chance.random() < 0.5:
        world.say(f"{broker.name} crashes for long")
        end_life(world, broker)
        world.clockwork.after(wait_ns, lambda: world.start(broker))
        return True
    pair = broker.name, chance.choice([name for name in world.brokers if name != broker.name])
    world.say(f"partition {pair} for long")
    sever(world, pair)
    world.clockwork.after(wait_ns, lambda: world.cuts.discard(pair))
    return True


def restart(world: World, chance: random.Random, draw: int) -> bool:
    """The broker comes back with its ring, or with less of it than it had accepted. A broker with a disk has only
    that.

    A life without a journal leaves no message to a later life with one.
    """
    broker = running(world, chance)
    if broker is None:
        return False
    if broker.disk is not None:
        world.say(f"{broker.name} stops")
        lose_memory(world, broker)
        broker.stop()
    else:
        less = chance.choice([0, 0, 1, 3, 1000])
        proven = world.chance("end", broker.name, broker.life).random() < 0.7
        broker.remember(less, proven=proven)
        world.say(
            f"{broker.name} restarts with its ring, up to {broker.memory and broker.memory.next}"
        )
        end_life(world, broker)
    world.clockwork.after(chance.randint(1, 2000) * MS, lambda: world.start(broker))
    return True


def forty_lives(world: World, chance: random.Random, draw: int) -> bool:
    """A broker is restarted again and again, idle or barely used, by all means that lose no message."""
    broker = running(world, chance)
    if broker is None:
        return False
    kills = world.plan.fsync == "always" and chance.random() < 0.7
    used = chance.choice([0.0, 0.0, 0.1])
    slowest_ms = chance.choice([5, 30, 60])
    left = LIVES

    def live_again() -> None:
        nonlocal left
        if not left:
            world.restless -= 1
            return
        if broker.node is not None:
            left -= 1
            world.counts["one of many lives"] += 1
            world.say(f"{broker.name} ends, {left} lives are left")
            lose_memory(world, broker)
            if broker.disk is None:
                broker.remember(0)
            if kills or broker.disk is None:
                broker.crash(machine=False)
            else:
                broker.stop(rots=False)
            world.clockwork.after(MS, lambda: world.start(broker))
            if chance.random() < used:
                publish(world, chance, draw)
        world.clockwork.after(chance.randint(2, slowest_ms) * MS, live_again)

    world.restless += 1
    live_again()
    return True


def pause(world: World, chance: random.Random, draw: int) -> bool:
    broker = running(world, chance)
    if broker is None or broker.paused:
        return False
    world.say(f"{broker.name} pauses")
    world.disturbed(broker)
    broker.pause()
    world.clockwork.after(chance.randint(1, 3000) * MS, broker.go_on)
    return True


def clock_step(world: World, chance: random.Random, draw: int) -> bool:
    world.clockwork.wall_us += chance.choice([-3600, 3600]) * 1_000_000
    return True

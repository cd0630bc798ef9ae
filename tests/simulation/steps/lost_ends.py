"""Steps after which a broker goes on with fewer messages than it had accepted, or cannot prove that it has all."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.clockwork import MS
from tests.simulation.steps.applications import MOST_SUBSCRIBERS, TOPICS, subscribe_on
from tests.simulation.steps.ends import leave, lose_memory
from tests.simulation.steps.picking import pick, running

if TYPE_CHECKING:
    from tests.simulation.world import World


def put_back(world: World, chance: random.Random, draw: int) -> bool:
    """An older copy replaces a journal's folder, as when a backup is restored."""
    broker = pick(chance, (b for b in world.brokers.values() if b.node and b.journal))
    if broker is None:
        return False
    copy = broker.copy()
    world.say(f"the folder of {broker.name} is copied")
    stays_ms, away_ms, stops = (
        chance.randint(1, 1500),
        chance.randint(1, 500),
        chance.random() < 0.3,
    )
    world.restless += 1

    def back() -> None:
        world.restless -= 1
        leave(world, broker, stops=stops)
        broker.put_back(copy)
        world.say(f"the folder of {broker.name} is put back")
        world.clockwork.after(away_ms * MS, lambda: world.start(broker))

    world.clockwork.after(stays_ms * MS, back)
    return True


def life_between(world: World, chance: random.Random, draw: int) -> bool:
    """A broker is started without its journal once, and then with it again."""
    broker = pick(chance, (b for b in world.brokers.values() if b.node and b.journal))
    if broker is None:
        return False
    away_ms, stays_ms = chance.randint(1, 300), chance.randint(1, 1500)
    leave(world, broker, stops=chance.random() < 0.3)
    stops, publishes = chance.random() < 0.5, chance.random() < 0.7
    world.restless += 1

    def begin() -> None:
        broker.bare = broker.node is None
        world.say(f"{broker.name} is started without its journal")
        world.start(broker)
        for wait_ms in (stays_ms // 2, stays_ms * 3 // 4) if publishes else ():
            world.clockwork.after(wait_ms * MS, publish)
        world.clockwork.after(stays_ms * MS, end)

    def publish() -> None:
        for publisher in world.publishers:
            if publisher.broker is broker:
                publisher.publish(chance.choice(TOPICS), None, 1)

    def end() -> None:
        world.restless -= 1
        leave(world, broker, stops=stops)
        world.clockwork.after(away_ms * MS, lambda: world.start(broker))

    world.clockwork.after(away_ms * MS, begin)
    return True


def lose_witness(world: World, chance: random.Random, draw: int) -> bool:
    """A broker crashes, its machine does not, and the broker's notes there are gone or spoilt."""
    broker = running(world, chance)
    if broker is None:
        return False
    lose_memory(world, broker)
    broker.crash(machine=False)
    world.say(f"{broker.name} crashes, its witnesses are {broker.machine.lose_witness(chance)}")
    world.clockwork.after(chance.randint(1, 500) * MS, lambda: world.start(broker))
    return True


def lose_unheard(world: World, chance: random.Random, draw: int) -> bool:
    """A producer loses accepted messages that a consumer, without memory and with a new reader, could not fetch
    before.
    """
    brokers = [broker for broker in world.brokers.values() if broker.node]
    published = {publisher.broker for publisher in world.publishers}
    broker = pick(
        chance,
        (b for b in brokers if b in published and b.journal and b.journal.keeps_running),
    )
    # A consumer whose readers all know their places would ask for these.
    reads = {subscriber.broker for subscriber in world.subscribers}
    other = pick(chance, (b for b in brokers if b is not broker and b not in reads))
    if broker is None or other is None or len(world.subscribers) >= MOST_SUBSCRIBERS:
        return False
    offline = {(other.name, broker.name)} - world.cuts
    world.cuts |= offline
    # As it is now, `other` has acknowledged nearly all that it holds.
    copy = broker.copy()
    leave(world, other, stops=False)
    world.start(other)
    subscribe_on(world, chance, other, draw, ((">",),), ("latest",))
    world.restless += 1

    def publish() -> None:
        for publisher in world.publishers:
            if publisher.broker is broker:
                publisher.publish(chance.choice(TOPICS), None, 2)
        world.clockwork.after(100 * MS, lose)

    def lose() -> None:
        world.restless -= 1
        leave(world, broker, stops=False)
        broker.put_back(copy)
        world.say(f"the folder of {broker.name} is put back")
        world.start(broker)
        world.cuts.difference_update(offline)

    world.clockwork.after(chance.randint(50, 400) * MS, publish)
    return True


def recover_apart(world: World, chance: random.Random, draw: int) -> bool:
    """A broker lives twice while a peer cannot reach it: that peer knows only the earlier history."""
    broker = running(world, chance)
    if (
        broker is None
        or not world.plan.recovers_from_peers
        or world.plan.fsync
        or len(world.brokers) < 3
    ):
        return False
    apart = chance.choice([name for name in world.brokers if name != broker.name])
    offline = {(apart, broker.name)} - world.cuts
    world.cuts |= offline
    for wire in world.wires:
        if wire.ends == (apart, broker.name):
            wire.cut(silent=False)
    world.restless += 1

    def live(left: int) -> None:
        leave(world, broker, stops=False)
        world.say(f"{apart} can't reach {broker.name}, which has {left} lives left")
        world.start(broker)
        if left:
            for wait_ms in (300, 400, 500):
                world.clockwork.after(wait_ms * MS, publish)
            world.clockwork.after(chance.randint(600, 1000) * MS, lambda: live(left - 1))
        else:
            world.clockwork.after(300 * MS, heal)

    def publish() -> None:
        for publisher in world.publishers:
            if publisher.broker is broker:
                publisher.publish(chance.choice(TOPICS), None, 1)

    def heal() -> None:
        world.restless -= 1
        world.cuts.difference_update(offline)

    live(2)
    return True

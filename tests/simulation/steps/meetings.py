"""Steps in which brokers end at the moment when an application, a producer or a contact counts on them."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.clockwork import MS
from tests.simulation.steps.applications import TOPICS, subscribe_on
from tests.simulation.steps.ends import end_life
from tests.simulation.steps.picking import pick, running
from tests.simulation.subscriber import Subscriber

if TYPE_CHECKING:
    from tests.simulation.world import World


def crash_both(world: World, chance: random.Random, draw: int) -> bool:
    """A broker crashes, and one of its applications with it, or as soon as it has resumed with the next life."""
    running = [s for s in world.subscribers if s.broker.node is not None]
    if chance.random() < 0.7:
        # Else hardly any running producer remembers a name.
        running = [s for s in running if s.known.remembered()]
    doomed = pick(chance, running)
    if doomed is None or not doomed.doom():
        return False
    end_life(world, doomed.broker)
    both = doomed.die_now() if chance.random() < 0.5 else False
    world.say(f"{doomed.broker.name} crashes, {doomed.name} {'too' if both else 'will'}")
    world.clockwork.after(chance.randint(1, 500) * MS, lambda: world.start(doomed.broker))
    return True


def crash_at_contact(world: World, chance: random.Random, draw: int) -> bool:
    """A broker crashes, and its next life crashes as soon as it has met a producer and acknowledged."""
    broker = running(world, chance)
    if broker is None:
        return False
    world.say(f"{broker.name} crashes, and will again at its next contact")
    end_life(world, broker)
    soon_ms, later_ms = chance.choice([0, 5, 20]), chance.randint(1, 500)

    def again(life: int) -> None:
        if broker.life == life and broker.node is not None:
            world.say(f"{broker.name} crashes behind a contact")
            end_life(world, broker)
            world.clockwork.after(later_ms * MS, lambda: world.start(broker))

    def contact() -> None:
        life = broker.life
        world.clockwork.after(soon_ms * MS, lambda: again(life))

    broker.doomed = contact
    world.clockwork.after(chance.randint(1, 500) * MS, lambda: world.start(broker))
    return True


def crash_untold(world: World, chance: random.Random, draw: int) -> bool:
    """A broker meets a producer, acknowledges and dies before a session that waited for that producer is told.

    The producer remembers more of its broker than the session has seen.
    """
    nodes = {publisher.broker for publisher in world.publishers}
    broker = pick(chance, [b for b in world.brokers.values() if nodes - {b}])
    if broker is None:
        return False
    others = [p for p in world.publishers if p.broker is not broker]
    world.say(f"{broker.name} crashes, and will again before new sessions hear of a contact")
    end_life(world, broker)
    for publisher in others:
        world.start(publisher.broker)
    offline = {(broker.name, peer) for peer in world.brokers}
    world.cuts |= offline
    boots_ms, online_ms, later_ms = (chance.randint(1, most) for most in (20, 100, 20))
    awake_ms = chance.choice([1, 200, 600])

    def boot() -> None:
        world.start(broker)
        # Any number of them: most others have met all producers.
        for number in range(2):
            subscribe_on(world, chance, broker, draw + number, ((">",),), ("latest",))
        world.clockwork.after(online_ms * MS, meet)

    def meet() -> None:
        world.cuts.difference_update(offline)
        waiting = [s for s in world.subscribers if s.broker is broker and s.pause()]
        ends = {n: b.node.stream.next for n, b in world.brokers.items() if b.node is not None}
        for publisher in others:
            publisher.publish(chance.choice(TOPICS), None, 1)
        crash_if_acknowledged(broker.life, waiting, ends, 60)

    def crash_if_acknowledged(
        life: int, waiting: list[Subscriber], ends: dict[str, int], looks: int
    ) -> None:
        if broker.life != life or broker.node is None or not looks:
            go_on(waiting)
        elif any(subscriber.lags_behind_its_broker(ends) for subscriber in waiting):
            world.say(f"{broker.name} crashes behind an acknowledgement")
            end_life(world, broker)
            world.clockwork.after(later_ms * MS, lambda: world.start(broker))
            world.clockwork.after(awake_ms * MS, lambda: go_on(waiting))
        else:
            world.clockwork.after(
                10 * MS, lambda: crash_if_acknowledged(life, waiting, ends, looks - 1)
            )

    def go_on(waiting: list[Subscriber]) -> None:
        for subscriber in waiting:
            subscriber.go_on()

    world.clockwork.after(boots_ms * MS, boot)
    return True


def forget_together(world: World, chance: random.Random, draw: int) -> bool:
    """The broker of a named subscription, a producer that it has read, and the application crash together.

    Then only third nodes know the name, and the producer may recover its stream from them.
    """
    named = [s for s in world.subscribers if s.keeps == "name" and s.undisturbed]
    doomed = pick(chance, (s for s in named if s.known.remembered_elsewhere()))
    if doomed is None or world.plan.fsync is not None or len(world.brokers) < 3:
        return False
    known = [world.brokers[name] for name in doomed.known.remembered_elsewhere()]
    producer = pick(chance, (b for b in known if b.node is not None))
    if producer is None:
        return False
    world.say(f"{producer.name} and {doomed.broker.name} crash, {doomed.name} too")
    # Crash the producer first: the memory of producers is asked when the subscription's broker goes.
    for broker in (producer, doomed.broker):
        end_life(world, broker)
        world.clockwork.after(chance.randint(1, 500) * MS, partial(world.start, broker))
    doomed.restart()
    return True

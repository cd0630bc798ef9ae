"""Steps of applications: they publish, subscribe, close, stand still, and are cut off or copied."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.brokers import SimBroker
from tests.simulation.clockwork import MS
from tests.simulation.publisher import Publisher
from tests.simulation.steps.picking import pick
from tests.simulation.subscriber import Subscriber

if TYPE_CHECKING:
    from tests.simulation.world import World

TOPICS = ("a", "a.b", "a.c", "b.c", "x.y.z", "room:1")
PATTERNS = (
    (">",),
    ("a",),
    ("a.*",),
    ("a.>", "a.b"),
    ("*.c", "x.>"),
    ("room:1", "b.*"),
    ("never.*",),
)

MOST_SUBSCRIBERS = 8
MOST_PUBLISHERS = 8


def publisher(world: World, chance: random.Random, draw: int) -> bool:
    broker = chance.choice(list(world.brokers.values()))
    world.publishers.append(Publisher(world, f"p{draw}", broker))
    return True


def copy(world: World, chance: random.Random, draw: int) -> bool:
    """A publisher's process is copied, as by `fork` or a cloned machine, and the copy publishes too."""
    original = pick(chance, world.publishers)
    if original is None or len(world.publishers) >= MOST_PUBLISHERS:
        return False
    world.say(f"{original.name} is copied")
    copied = Publisher(world, f"p{draw}", original.broker, copy_of=original)
    world.publishers.append(copied)

    def publish_too() -> None:
        copied.publish(chance.choice(TOPICS), None, 1)

    for wait_ms in (50, 100, 200):
        world.clockwork.after(wait_ms * MS, publish_too)
    return True


def publish(world: World, chance: random.Random, draw: int) -> bool:
    if not world.publishers:
        return False
    publisher = chance.choice(world.publishers)
    to = chance.choice(list(world.brokers)) if chance.random() < 0.2 else None
    messages = chance.randint(1, world.plan.batch_messages)
    return publisher.publish(chance.choice(TOPICS), to, messages)


def burst(world: World, chance: random.Random, draw: int) -> bool:
    published = [publish(world, chance, draw) for _ in range(chance.randint(5, 40))]
    return any(published)


def subscribe(world: World, chance: random.Random, draw: int) -> bool:
    if len(world.subscribers) >= MOST_SUBSCRIBERS:
        return False
    subscribe_on(world, chance, chance.choice(list(world.brokers.values())), draw)
    return True


def subscribe_on(
    world: World,
    chance: random.Random,
    broker: SimBroker,
    draw: int,
    patterns: tuple[tuple[str, ...], ...] = PATTERNS,
    starts: tuple[str, ...] = ("latest", "latest", "earliest"),
) -> None:
    mute = [p for p in world.publishers if chance.random() < 0.2]
    keeps = chance.choice(["nothing", "position", "name"])
    start = chance.choice(starts)
    subscriber = Subscriber(
        world,
        f"s{draw}-{keeps}-{start}",
        broker,
        chance.choice(patterns),
        keeps=keeps,
        start=start,
        mute=mute[0] if mute else None,
        pace_ms=chance.choice([1, 20, 500]),
        appetite=chance.choice([1, 3, 50]),
    )
    world.say(f"{subscriber.name} subscribes on {broker.name}")
    world.subscribers.append(subscriber)


def change_filter(world: World, chance: random.Random, draw: int) -> bool:
    subscriber = pick(chance, world.subscribers)
    return subscriber is not None and subscriber.change_filter(chance.choice(PATTERNS))


def busy_close(world: World, chance: random.Random, draw: int) -> bool:
    """A stream is busy with messages that hardly any reader wants.

    A reader of it closes behind them, and comes back.
    """
    if not world.publishers:
        return False
    publisher = chance.choice(world.publishers)
    closing = [s for s in world.subscribers if s.keeps != "nothing" and s.undisturbed]
    near = [s for s in closing if s.broker is publisher.broker]
    subscriber = pick(chance, near if chance.random() < 0.5 else closing)
    for _ in range(chance.choice([3, 10, 20])):
        publisher.publish("busy.x", None, 1)
    if subscriber is None:
        return False
    after_ms = chance.choice([0, 1, 5, 50, 500])
    world.clockwork.after(after_ms * MS, subscriber.close)
    return True


def client_cut(world: World, chance: random.Random, draw: int) -> bool:
    clients: list[Publisher | Subscriber] = [*world.publishers, *world.subscribers]
    client = pick(chance, clients)
    if client is None:
        return False
    world.say(f"{client.name} is cut off its broker")
    client.cut()
    return True


def app_restart(world: World, chance: random.Random, draw: int) -> bool:
    subscriber = pick(chance, world.subscribers)
    if subscriber is None:
        return False
    world.say(f"{subscriber.name} restarts")
    return subscriber.restart()


def app_pause(world: World, chance: random.Random, draw: int) -> bool:
    """The application stands still: data from its broker waits in the socket."""
    subscriber = pick(chance, world.subscribers)
    if subscriber is None or not subscriber.pause():
        return False
    world.say(f"{subscriber.name} pauses")
    world.clockwork.after(chance.randint(1, 3000) * MS, subscriber.go_on)
    return True

"""Ends of a broker's life, as its applications and the checkers are told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.brokers import SimBroker

if TYPE_CHECKING:
    from tests.simulation.world import World


def leave(world: World, broker: SimBroker, *, stops: bool) -> None:
    """The broker's life ends, if it runs."""
    if broker.node is None:
        return
    world.say(f"{broker.name} {'stops' if stops else 'crashes'}")
    lose_memory(world, broker)
    if stops and not broker.paused:
        broker.stop()
    else:
        broker.crash()


def end_life(world: World, broker: SimBroker, *, silent: bool = False) -> None:
    lose_memory(world, broker)
    broker.crash(silent=silent)


def lose_memory(world: World, broker: SimBroker) -> None:
    for subscriber in world.subscribers:
        if subscriber.broker is broker:
            subscriber.known.broker_lost_memory(subscriber.socket)
    world.disturbed(broker)

"""The choice of the lie: any that some connection can tell now."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from tests.simulation.liars.answers import ATTACHES, FETCHES
from tests.simulation.liars.clients import PUBLISHERS, SESSIONS, publisher_lies, session_lies
from tests.simulation.liars.consumers import CONSUMERS, lie_of_consumer
from tests.simulation.liars.producers import PRODUCERS, lie_of_producer
from tests.simulation.liars.strangers import (
    GREETINGS,
    NAMES,
    POSITIONS,
    greets_wrongly,
    impersonates,
    makes_up_positions,
)

if TYPE_CHECKING:
    from tests.simulation.world import World


HARD: Final = (
    "producer: a heartbeat below what was sent",
    "producer: a place again",
    "producer: an earlier epoch beyond its end",
    "producer: an expiry that goes back",
    "producer: an overlap",
    "consumer: has less than before",
    "session: has less than before",
)
"""Lies for which much must have happened before.

They are tried first now and then, as they would hardly ever be told.
"""


def tell_one(world: World, chance: random.Random, draw: int) -> bool:
    """Try the lies in turn until one can be told."""
    groups = [list(names) for names, _ in _GROUPS]
    # Weigh groups by their size: a small group comes first no more often than each of its lies should.
    order = chance.choices(groups, [len(group) for group in groups], k=len(groups)) + groups
    names = [name for group in order for name in chance.sample(group, len(group))]
    if chance.random() < 0.3:
        names = [*chance.sample(HARD, len(HARD)), *names]
    return any(LIES[name](world, name, chance, draw) for name in names)


def _on_a_link(world: World, name: str, chance: random.Random, draw: int) -> bool:
    lie_of = lie_of_producer if name in PRODUCERS else lie_of_consumer
    told = lie_of(world.links(), name, chance)
    if told is None:
        return False
    link, false = told
    world.lies.tell(name, false, link.pipe, link.receiver)
    link.liar.deaf = True
    return True


def _attach(world: World, name: str, chance: random.Random, draw: int) -> bool:
    """Cut a link, so that an attach must be answered."""
    links = world.links()
    if not links or not world.lies.arm(name, ATTACHES[name]):
        return False
    chance.choice(links).cut(silent=False)
    return True


def _fetch(world: World, name: str, chance: random.Random, draw: int) -> bool:
    """Wait for a fit answer to a fetch; a few other lies wait beside it, as most answers do not allow for one."""
    others = chance.sample(list(FETCHES), 3)
    armed = [world.lies.arm(each, FETCHES[each]) for each in (name, *others)]
    return len(world.brokers) > 1 and any(armed)


def _publisher(world: World, name: str, chance: random.Random, draw: int) -> bool:
    return publisher_lies(world, name, chance)


def _session(world: World, name: str, chance: random.Random, draw: int) -> bool:
    return session_lies(world, name, chance)


Teller = Callable[["World", str, random.Random, int], bool]

_GROUPS: Final[tuple[tuple[Iterable[str], Teller], ...]] = (
    (PRODUCERS, _on_a_link),
    (ATTACHES, _attach),
    (FETCHES, _fetch),
    (CONSUMERS, _on_a_link),
    (PUBLISHERS, _publisher),
    (SESSIONS, _session),
    (GREETINGS, greets_wrongly),
    (NAMES, impersonates),
    (POSITIONS, makes_up_positions),
)

LIES: Final = {name: tell for names, tell in _GROUPS for name in names}
"""The way to tell each lie, by name. Each lie must be noticed over the suite's seeds."""

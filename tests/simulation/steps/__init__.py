"""The steps of a run: one function for each kind of step, with chance of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.liars.telling import tell_one
from tests.simulation.steps import applications, brokers, links, lost_ends, meetings

if TYPE_CHECKING:
    from tests.simulation.plan import Step
    from tests.simulation.world import World


def perform(world: World, step: Step) -> bool:
    """Perform the step, if a fit target for it exists."""
    chance = random.Random(step.draw)
    done = _STEPS[step.what](world, chance, step.draw)
    if done:
        world.counts[step.what] += 1
    return done


_STEPS: dict[str, Callable[[World, random.Random, int], bool]] = {
    "start": brokers.start,
    "publisher": applications.publisher,
    "copy": applications.copy,
    "subscribe": applications.subscribe,
    "publish": applications.publish,
    "burst": applications.burst,
    "cut": links.cut,
    "cut_in_time": links.cut_in_time,
    "silent_cut": links.silent_cut,
    "hold": links.hold,
    "heal": links.heal,
    "partition": links.partition,
    "outage": brokers.outage,
    "crash": brokers.crash,
    "crash_both": meetings.crash_both,
    "crash_at_contact": meetings.crash_at_contact,
    "crash_untold": meetings.crash_untold,
    "power_cut": brokers.power_cut,
    "forget_together": meetings.forget_together,
    "forty_lives": brokers.forty_lives,
    "put_back": lost_ends.put_back,
    "life_between": lost_ends.life_between,
    "lose_witness": lost_ends.lose_witness,
    "lose_unheard": lost_ends.lose_unheard,
    "recover_apart": lost_ends.recover_apart,
    "restart": brokers.restart,
    "pause": brokers.pause,
    "client_cut": applications.client_cut,
    "app_restart": applications.app_restart,
    "app_pause": applications.app_pause,
    "busy_close": applications.busy_close,
    "filter": applications.change_filter,
    "clock_step": brokers.clock_step,
    "lie": tell_one,
}

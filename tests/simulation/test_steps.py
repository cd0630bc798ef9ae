"""Rules of the simulator itself. If they hold, a red seed shows a fault of the code under test."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulation.plan import Step
from tests.simulation.recoveries import recoveries
from tests.simulation.steps import perform
from tests.simulation.world import World


@pytest.mark.parametrize("what", ["restart", "forty_lives"])
def test_a_life_without_a_journal_leaves_no_message_to_one(what: str) -> None:
    """Else its stream would begin at another offset than its journal, which then loses all that it is given."""
    world = World(replace(recoveries(0), nodes=1, fsync="off", steps=()))
    broker = world.brokers["n0"]
    broker.bare = True
    world.start(broker)
    assert broker.journal is None
    assert perform(world, Step(0, what, 1))
    assert broker.memory is None
    world.run()
    assert broker.journal is not None

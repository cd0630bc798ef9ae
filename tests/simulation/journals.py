"""The journal of a simulated broker: work takes time, and ends with the process or with the machine.

The promises of its mode are counted here, apart from the code that keeps them, and checked at every recovery.
"""

from __future__ import annotations

import random
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.simulation.clockwork import MS
from tests.simulation.disk import Disk
from tests.simulation.violation import Violation

from pubsubd_broker.core.journal import whole_end
from pubsubd_broker.core.journal.journal import Fsync, Work
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.journal.recovery import recover
from pubsubd_broker.core.journal.whole_end import Evidence
from pubsubd_broker.core.node import Node

if TYPE_CHECKING:
    from tests.simulation.brokers import SimBroker


NOTHING: Final = 2**53
"""An offset beyond every recovery."""


class SimJournal:
    """The journal over all lives of one broker."""

    def __init__(self, broker: SimBroker) -> None:
        self._broker = broker
        self._world = broker.world
        plan = broker.world.plan
        assert plan.fsync is not None
        self._fsync = Fsync(plan.fsync)
        self._interval_ns = 50 * MS
        self._chance = broker.world.chance("disk", broker.name)
        self._disk = Disk()
        self._node: Node | None = None
        self._under_way: Work | None = None
        self.names: dict[str, frozenset[str]] = {}
        """The recovered sessions, with the streams in which their places are known."""
        # The promised range of offsets: the first one, and the end.
        self._oldest = 0
        self._promised = 0
        self._used_up = False
        self._unsure = False
        """Whether data on disk may differ from what was written there."""
        # The end accepted when the current work was begun; and the written end, which the machine may lose.
        self._begun = 0
        self._written = 0

    def kept(self, evidence: Evidence) -> Kept:
        """The state of the next life, given the evidence of earlier ones.

        Raises `Violation` if it is less than was promised.
        """
        judge = partial(whole_end.lost_at, evidence=evidence)
        recovered = recover(self._broker.name, self._disk.read(), judge)
        held = (recovered.first, recovered.next) if recovered is not None else (0, 0)
        if self._used_up and recovered is not None:
            raise Violation(f"journal: {self._broker.name} begins with a snapshot a second time")
        if recovered is not None:
            self._world.counts["recovered"] += 1
            for damage in recovered.damage:
                self._world.say(f"{self._broker.name} recovers {damage}")
            self._world.say(
                f"{self._broker.name} recovers {held[0]}..{held[1]}, lost are {recovered.lost}"
            )
        if held[1] < self._promised or held[0] > self._oldest:
            raise Violation(
                f"journal: {self._broker.name} with fsync={self._fsync} recovers {held[0]}..{held[1]}, promised were "
                f"{self._oldest}..{self._promised}"
            )
        sessions = recovered.state.sessions if recovered is not None else {}
        self.names = {name: frozenset(places) for name, places in sessions.items()}
        return Kept(
            self._fsync,
            self._interval_ns,
            self._world.plan.segment_bytes,
            recovered,
            self._disk.numbers(),
        )

    def copy(self) -> Disk:
        """The folder as it is now."""
        return deepcopy(self._disk)

    def put_back(self, disk: Disk) -> None:
        """Replace the folder while the broker is down, by an older copy with older promises."""
        self._disk = deepcopy(disk)
        self._used_up, self._unsure = False, True
        self._promised, self._oldest = 0, NOTHING

    def begin(self, node: Node) -> None:
        self._node = node
        self._under_way = None
        assert node.keeper is not None
        self._disk.perform(node.keeper.begin())
        self._used_up = not self.keeps_running
        self._promised = self._written = node.stream.next if self.keeps_running else 0
        self._oldest = node.stream.view.oldest if self.keeps_running else NOTHING

    def go_on(self) -> None:
        node = self._node
        if node is None or self._under_way is not None:
            return
        assert node.keeper is not None
        work = node.keeper.take(self._broker.now)
        if work is None:
            return
        self._under_way = work
        self._begun = node.stream.placed
        life = self._broker.life

        def done() -> None:
            if self._broker.paused:
                self._world.clockwork.after(10 * MS, done)
            elif self._broker.life == life and self._node is node and self._broker.node is node:
                self._done(node, work)

        slowest_ns = self._world.plan.slowest_disk_ms * MS
        self._world.clockwork.after(self._chance.randint(0, slowest_ns), done)

    def stop(self, *, rots: bool = True) -> None:
        """A clean stop: everything is on disk before the process ends. `rots`: the disk may go wrong after it."""
        node = self._node
        assert node is not None
        assert node.keeper is not None
        if self._under_way is not None:
            self._done(node, self._under_way, quiet=True)
        work = node.keeper.end(self._broker.now)
        if work is not None:
            self._disk.perform(work)
        self._used_up = False
        self._promised = self._written = node.stream.placed
        self._oldest = node.stream.view.oldest
        self._node = None
        if rots:
            self._may_rot()

    @property
    def promises(self) -> bool:
        """Whether the data on disk is known to be whole by itself."""
        clean = self._broker.machine.stopped or self._fsync is Fsync.ALWAYS
        return clean and not self._unsure

    def crash(self, chance: random.Random, *, machine: bool = True) -> bool:
        """The process ends at once.

        With `machine` the machine may lose its power, and its disk data. Returns whether it did.
        """
        node, self._node = self._node, None
        if node is None:
            return False
        self._oldest = node.stream.view.oldest if self.keeps_running else NOTHING
        if self._under_way is not None:
            self._disk.begin_to_perform(self._under_way, self._chance)
        power_lost = machine and self._chance.random() < 0.5
        if power_lost:
            self._unsure = self._unsure or self._disk.has_unsure
            self._world.say(f"{self._broker.name} loses its power")
            self._world.counts["power loss"] += 1
            self._disk.lose_power(self._chance)
            if self._fsync is Fsync.OFF:
                self._promised, self._oldest = 0, NOTHING
        else:
            self._promised = max(self._promised, self._written)
        if self._fsync is Fsync.ALWAYS and node.stream.next > self._promised:
            raise Violation(
                f"journal: {self._broker.name} has accepted up to {node.stream.next}, on disk is {self._promised}"
            )
        if machine:
            self._may_rot()
        return power_lost

    def _may_rot(self) -> None:
        if self._chance.random() < 0.1:
            self._world.say(f"{self._broker.name} has a wrong bit on its disk")
            self._world.counts["wrong bit"] += 1
            self._disk.rot(self._chance)
            self._unsure = True
            self._promised, self._oldest = 0, NOTHING

    @property
    def keeps_running(self) -> bool:
        return self._fsync is not Fsync.SNAPSHOT

    def _done(self, node: Node, work: Work, *, quiet: bool = False) -> None:
        assert node.keeper is not None
        self._under_way = None
        self._disk.perform(work)
        self._written = self._begun
        if work.sync:
            self._promised = self._begun
        node.keeper.done(self._broker.now)
        if not quiet:
            self._broker.flush()

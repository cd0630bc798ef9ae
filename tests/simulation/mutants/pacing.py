"""Bugs in pacing: the readers that publishers wait for, the length of the wait, and the fate of waiting publishers."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant, Patch

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.pacing import Pace, Pacing


def _waiting_publishers_never_go_on() -> list[Patch]:
    """A waiting publisher is never asked again."""
    return [(Pace, "go_on", lambda self, now: None)]


def _declined_is_dropped() -> list[Patch]:
    def retry(self: Connection, now: Now) -> None:
        self._declined = None
        self._take_frames(now)
        self.wake()

    return [(Connection, "retry", retry)]


def _later_frames_overtake() -> list[Patch]:
    """Frames behind a declined frame are taken before it."""
    original = Connection._take_frames

    def take_frames(self: Connection, now: Now) -> None:
        original(self, now)
        if self._declined is not None:
            original(self, now)

    return [(Connection, "_take_frames", take_frames)]


def _evicts_while_it_waits() -> list[Patch]:
    """Room is made for a waiting batch as if it were in the ring."""
    original = Pacing.admits

    def admits(self: Pacing, appender: Connection, cost: tuple[int, int], now_ns: int) -> bool:
        admitted = original(self, appender, cost, now_ns)
        log: Log = self._log
        if not admitted and log.messages == log.max_messages:
            log._make_room(1, 0)
        return admitted

    return [(Pacing, "admits", admits)]


PACING = (
    Mutant("waiting publishers never go on", 40, _waiting_publishers_never_go_on),
    Mutant("declined frame dropped", 40, _declined_is_dropped),
    Mutant("later frames overtake", 100, _later_frames_overtake),
    Mutant("evicts while it waits", 100, _evicts_while_it_waits),
)

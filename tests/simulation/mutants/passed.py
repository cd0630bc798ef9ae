"""Bugs in the reports of passed places: a reader's position moves with them, and not only with its messages."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant, Patch

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.sessions.log_place import LogPlace
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_protocol.positions import Position


def _farewell_without_a_place() -> list[Patch]:
    """The answer to a close holds no passed places."""

    def farewell(self: SessionEnd, now: Now) -> None:
        """Sends no places."""

    return [(SessionEnd, "farewell", farewell)]


def _parts_without_its_sessions() -> list[Patch]:
    """A stopping broker tells its producers how far its sessions have come, and does not tell the sessions."""

    def part(self: Node, now: Now) -> None:
        self.peers.acknowledge(now)

    return [(Node, "part", part)]


def _parts_without_its_producers() -> list[Patch]:
    """A stopping broker tells its sessions how far they have come, and does not tell its producers."""
    return [(ConsumerEnd, "acknowledge", lambda self, now: None)]


def _told_too_late() -> list[Patch]:
    """Resting readers are told once a second, at any speed of the log."""
    return [
        (Log, "_remind", lambda self: None),
        (Log, "is_old", lambda self, index: False),
    ]


def _room_taken_for_reading() -> list[Patch]:
    """A reader without room to read on is taken to know all that its log holds."""
    original = Reading.pull

    def pull(self: Reading, choose: object, out: object) -> bool:
        more = original(self, choose, out)  # type: ignore[arg-type]
        cursor = self.bookmark.cursor
        if cursor is None or cursor.told == cursor.position.offset:
            self.told = self.source.log.end
        return more

    return [(Reading, "pull", pull)]


def _large_entry_reminds_no_reader() -> list[Patch]:
    """An entry that fills the log evicts the places that resting readers were told last, and the log does not look
    full.
    """

    def is_old(self: Log, index: int) -> bool:
        return 2 * index < self.begin + self.end and (
            2 * self.messages > self.max_messages or 2 * self.bytes > self.max_bytes
        )

    def remind(self: Log) -> None:
        if self.is_old(self.begin):
            self.interest.remind((self.begin + self.end + 1) // 2)
        self._remind_at = self.begin + self.end + max(1, (self.end - self.begin) // 2)

    return [(Log, "is_old", is_old), (Log, "_remind", remind)]


def _kept_stays_behind() -> list[Patch]:
    """The kept place of a named session is its last acknowledgement, without the messages that it passed since."""

    def kept(self: LogPlace) -> Position | None:
        return self.bookmark.acknowledged

    return [(LogPlace, "kept", property(kept))]


PASSED = (
    Mutant("close is not answered", 40, _farewell_without_a_place),
    Mutant("broker parts without its sessions", 200, _parts_without_its_sessions),
    Mutant("broker parts without its producers", 200, _parts_without_its_producers),
    Mutant("place told too late", 20, _told_too_late),
    Mutant("no room taken for nothing to read", 100, _room_taken_for_reading),
    Mutant("large entry reminds no reader", 100, _large_entry_reminds_no_reader),
    Mutant("kept place stays behind", 100, _kept_stays_behind),
)

"""Bugs in the journal: the data on disk, and the start of a node from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation.mutants.mutant import Mutant, Patch

import pubsubd_broker.core.journal.recovery as recovery
from pubsubd_broker.core.journal.journal import Create, Fsync, Journal, Work
from pubsubd_broker.core.journal.keeper import Keeper
from pubsubd_broker.core.journal.records import _HEAD, FIRST_BYTES, HEADER_BYTES
from pubsubd_broker.core.journal.recovery import Damage, Recovered
from pubsubd_broker.core.log.log import Segment
from pubsubd_broker.core.streams.publishers import Publishers
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Lineage, Losses, Position, StreamView


def _fsync_skipped() -> list[Patch]:
    """Work counts as done when it is written."""
    take = Journal.take

    def unsynced(self: Journal, oldest: int, now_ns: int, *, last: bool = False) -> Work | None:
        work = take(self, oldest, now_ns, last=last)
        if work is not None:
            work.sync = False
        return work

    return [(Journal, "take", unsynced)]


def _lineage_one_too_far() -> list[Patch]:
    lineage: Callable[[Recovered], Lineage] = vars(Recovered)["lineage"].fget

    def further(self: Recovered) -> Lineage:
        (epoch, end), *earlier = lineage(self)
        return ((epoch, end + 1), *earlier)

    return [(Recovered, "lineage", property(further))]


def _forwarded_before_durable() -> list[Patch]:
    keeps = Keeper.keeps

    def at_once(self: Keeper, entry: Entry, sequence: int) -> bool:
        keeps(self, entry, sequence)
        return True

    return [(Keeper, "keeps", at_once)]


def _checksum_not_compared() -> list[Patch]:
    def scan(segment: bytes, begin: int = len(FIRST_BYTES)) -> Iterator[tuple[int, bytes, int]]:
        while len(segment) - begin >= HEADER_BYTES:
            length, kind = _HEAD.unpack_from(segment, begin + 4)
            end = begin + HEADER_BYTES + length
            if end > len(segment):
                return
            yield kind, segment[begin + HEADER_BYTES : end], end
            begin = end

    return [(recovery, "scan", scan)]


def _publishers_forgotten() -> list[Patch]:
    return [(Publishers, "restore", lambda self, lasts, placed, *, partial=False: None)]


def _abandoned_tail_kept() -> list[Patch]:
    """The tail that an earlier recovery cut off is there again at the next one."""

    def continues(found: Recovered, offset: int, damage: list[Damage]) -> None:
        return None

    return [(recovery, "_continues_at", continues)]


def _snapshot_not_used_up() -> list[Patch]:
    begin = Journal.begin

    def keeps(self: Journal) -> Work:
        work = begin(self)
        if self.fsync is Fsync.SNAPSHOT:
            work.steps.clear()
        return work

    return [(Journal, "begin", keeps)]


def _rolled_without_sync() -> list[Patch]:
    """A new segment may survive, and the end of the segment before it not."""
    take = Journal.take

    def rolls(self: Journal, oldest: int, now_ns: int, *, last: bool = False) -> Work | None:
        due = self.fsync is Fsync.ALWAYS or last or now_ns - self._synced_ns >= self._interval_ns
        work = take(self, oldest, now_ns, last=last)
        if work is not None and any(isinstance(step, Create) for step in work.steps):
            work.sync = due
        return work

    return [(Journal, "take", rolls)]


def _segment_removed_too_early() -> list[Patch]:
    drop = Journal._drop_evicted

    def early(self: Journal, work: Work, oldest: int) -> None:
        drop(self, work, oldest + 1)

    return [(Journal, "_drop_evicted", early)]


def _every_life_takes_a_place() -> list[Patch]:
    """A life that placed no message takes a place, too; there are 31."""

    def succeeds(view: StreamView, *, lost: int | None) -> tuple[Lineage, Losses]:
        losses = view.losses if lost == 0 else ((view.epoch, lost), *view.losses)
        return ((view.epoch, view.next), *view.lineage)[:31], losses

    return [(recovery, "succeed", succeeds)]


def _named_by_the_present_epoch() -> list[Patch]:
    """A reader is told a place under an epoch that leaves no entry behind."""

    def end_position(self: Segment) -> Position:
        return Position(self.epoch, self.next)

    return [(Segment, "end_position", property(end_position))]


def _earlier_lives_thrown_away() -> list[Patch]:
    """A life takes over only the entries of the life before it."""
    original = recovery._forget_contradicted

    def forget(found: Recovered) -> None:
        original(found)
        own = [entry.epoch == found.state.epoch for entry in found.entries]
        if not all(own):
            begin = len(own) - own[::-1].index(False)
            del found.entries[:begin], found.sequences[:begin]

    return [(recovery, "_forget_contradicted", forget)]


def _clean_stop_keeps_nothing() -> list[Patch]:
    """Data that is not written as it comes is not written at the end either."""
    return [(Keeper, "_snapshot", lambda self: Work(True))]


def _clean_restart_begins_anew() -> list[Patch]:
    """The next life has the messages of a snapshot, and does not say that it continues their history."""
    lineage: Callable[[Recovered], Lineage] = vars(Recovered)["lineage"].fget

    def anew(self: Recovered) -> Lineage:
        return () if self.ended else lineage(self)

    return [(Recovered, "lineage", property(anew))]


JOURNAL = (
    Mutant("fsync skipped", 100, _fsync_skipped),
    Mutant("recovered lineage one too far", 600, _lineage_one_too_far),
    Mutant("forwarded before durable", 100, _forwarded_before_durable),
    Mutant("checksum not compared", 400, _checksum_not_compared),
    Mutant("publishers forgotten", 400, _publishers_forgotten),
    Mutant("abandoned tail kept", 400, _abandoned_tail_kept),
    Mutant("snapshot not used up", 400, _snapshot_not_used_up),
    Mutant("rolled without sync", 1000, _rolled_without_sync),
    Mutant("segment removed too early", 400, _segment_removed_too_early),
    Mutant("every life takes a place in the lineage", 200, _every_life_takes_a_place),
    Mutant("a place named by an epoch that placed nothing", 200, _named_by_the_present_epoch),
    Mutant("earlier lives thrown away", 200, _earlier_lives_thrown_away),
    Mutant("a clean stop keeps nothing", 200, _clean_stop_keeps_nothing),
    Mutant("a clean restart begins a history anew", 400, _clean_restart_begins_anew),
)

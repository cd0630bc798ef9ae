"""A journal's folder with any content: the recovered state is consistent, and a node can begin with it.

See `tests.fuzz.folders`.
"""

from __future__ import annotations

from itertools import pairwise

from tests.fuzz.folders import SEALED, parse, sealed
from tests.fuzz.scripts import Flag
from tests.fuzz.targets.rules import keeps_the_rules
from tests.fuzz.targets.site import EPOCH, NAME, Site
from tests.unit.core.journal.disk import by_its_own_word

from pubsubd_broker.core.journal.recovery import JournalError, Recovered, recover
from pubsubd_protocol.positions import MAX_LINEAGE, MAX_OFFSET, NO_EPOCH, StreamView


def check(data: bytes) -> None:
    """Raises only for a fault."""
    flags, segments = parse(data)
    if flags & SEALED:
        segments = {number: sealed(segment) for number, segment in segments.items()}
    try:
        found = recover(NAME, sorted(segments.items()), by_its_own_word)
    except JournalError:
        return
    if found is None:
        return
    _hangs_together(found, sum(map(len, segments.values())))
    _begins(found)


def _hangs_together(found: Recovered, size: int) -> None:
    assert found.first == (found.entries[0].first if found.entries else found.next)
    for before, after in pairwise(found.entries):
        assert before.next == after.first, f"a hole between {before.next} and {after.first}"
    assert not found.entries or found.entries[-1].next == found.next, "the end is not the end"
    assert len(found.sequences) == len(found.entries)
    assert sum(entry.size for entry in found.entries) <= size, "more than there was"
    assert found.ended == (found.lost == 0)
    assert found.ended or found.lineage[0] == (found.state.epoch, found.next)
    assert found.ended or found.losses[0] == (found.state.epoch, None), "a loss that is not told"
    branch = StreamView(NO_EPOCH, found.lineage, found.first, found.next, found.losses)
    assert {epoch for epoch, _ in found.losses} <= {epoch for epoch, _ in found.lineage}
    assert len(found.lineage) <= MAX_LINEAGE
    assert all(end <= found.next for _, end in found.lineage), "a lineage beyond the data"
    for entry in found.entries:
        keeps_the_rules(entry)
        assert entry.node == NAME, "an entry of another node"
        assert branch.covers(entry.epoch, entry.next), "an entry that no reader can place"
    for consumer in found.state.consumers.values():
        assert consumer.cursor.offset <= found.next, "a cursor beyond the stream"
    ends = [end for _, end in found.segments]
    assert ends == sorted(set(ends)), "segments out of order"
    assert all(number >= 0 for number, _ in found.segments)


def _begins(found: Recovered) -> None:
    if found.next > MAX_OFFSET - 1_000 or EPOCH in dict(found.lineage):
        # The stream is full; or an epoch was drawn twice, which only an invented journal can cause.
        return
    site = Site(Flag.JOURNAL, found)
    assert site.node.stream.next == found.next
    site.still_serves(site.session())

"""A replica takes only what follows on what it holds; everything else is a violation."""

from __future__ import annotations

import pytest
from tests.unit.core.builders import E1, E2, E3, MANY, Impatient, at, cost_of, entry, skip, view
from tests.unit.core.test_interest import Parked
from tests.unit.core.test_pacing import Reader

from pubsubd_broker.core.log.log import Gap
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.streams.fetching import LaggingReader
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import At, Claim, Expired, Reason, Resume
from pubsubd_protocol.entries import Entry, part_of
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Attached, CursorExpired, Skip
from pubsubd_protocol.positions import MAX_OFFSET, StreamView
from pubsubd_protocol.topics import Filter


def replica_at(
    offset: int = 0, held: StreamView | None = None, *, max_messages: int = 100
) -> Replica:
    attached = Attached(held or view(0, 10), Resume(offset), None)
    return Replica("a", "b", attached, Resume(offset), max_messages, MANY, Pace(0))


def expired(reason: Reason, now: StreamView) -> Attached:
    return Attached(now, reason, None)


# First contact.


def test_it_begins_where_the_producer_resumes() -> None:
    replica = replica_at(4)
    assert replica.registration == at(4)
    assert replica.log.view == view(4, 4)


def test_it_begins_at_next_when_the_attach_expired() -> None:
    answer = Expired(Reason.UNSEEN, 9, None)
    replica = Replica("a", "b", expired(Reason.UNSEEN, view(5, 9)), answer, 100, MANY, Pace(0))
    assert replica.registration == at(9)


@pytest.mark.parametrize(("registered", "origin"), [(None, 0), (0, 0), (7, 7)])
def test_an_early_session_stands_at_the_registered_cursor_or_at_0(
    registered: int | None, origin: int
) -> None:
    cursor = at(registered) if registered is not None else None
    attached = Attached(view(0, 10), Resume(8), cursor, {"s": at(3)})
    replica = Replica("a", "b", attached, Resume(8), 100, MANY, Pace(0))
    assert replica.origin == at(origin)
    assert replica.named == {"s": at(3)}


# Arriving entries.


def test_what_follows_is_held() -> None:
    replica = replica_at()
    for item in (entry(0, 3), skip(3, 5), entry(5, to="b")):
        replica.append(item)
    assert replica.registration == at(6)
    assert replica.log.view == view(0, 6)


@pytest.mark.parametrize(
    "item",
    [
        entry(4),  # a jump
        entry(2),  # an overlap
        entry(0, 3),  # all of it again
        entry(2, 4),  # begins before, ends after
        skip(4, 5),
        skip(2, 5),
        skip(0, 3),
    ],
)
def test_an_item_that_does_not_come_next_is_a_violation(item: Entry | Skip) -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    with pytest.raises(ProtocolError, match="what comes next is 3") as error:
        replica.append(item)
    assert error.value.kind == "offset"
    assert replica.log.view == view(0, 3)


@pytest.mark.parametrize("item", [entry(0, node="c"), skip(0, 1, node="c")])
def test_a_message_of_another_nodes_stream_is_a_violation(item: Entry | Skip) -> None:
    with pytest.raises(ProtocolError, match="a sent a message of c's stream") as error:
        replica_at().append(item)
    assert error.value.kind == "stream"


@pytest.mark.parametrize("item", [entry(0, epoch=E2), skip(0, 1, epoch=E2)])
def test_a_message_of_an_unknown_epoch_is_a_violation(item: Entry | Skip) -> None:
    with pytest.raises(ProtocolError, match=f"a sent epoch {E2.hex()} at 0") as error:
        replica_at().append(item)
    assert error.value.kind == "epoch"


def test_a_message_for_another_node_is_a_violation() -> None:
    with pytest.raises(ProtocolError, match="a sent a message for c") as error:
        replica_at().append(entry(0, to="c"))
    assert error.value.kind == "stream"


def test_a_part_of_an_entry_is_a_violation() -> None:
    part = part_of(entry(0, topics=["t", "u"]), lambda topic: topic == "t")
    assert part is not None
    with pytest.raises(ProtocolError, match=r"a sent 1 messages for 0\.\.2") as error:
        replica_at().append(part)
    assert error.value.kind == "offset"


def test_an_item_beyond_the_last_offset_is_a_violation() -> None:
    replica = replica_at(MAX_OFFSET - 1, held=view(0, MAX_OFFSET - 1))
    beyond = rf"a sent {MAX_OFFSET - 1}\.\.{MAX_OFFSET + 1}, beyond {MAX_OFFSET}"
    with pytest.raises(ProtocolError, match=beyond) as error:
        replica.append(entry(MAX_OFFSET - 1, 2))
    assert error.value.kind == "offset"
    replica.append(entry(MAX_OFFSET - 1))
    assert replica.registration == at(MAX_OFFSET)


@pytest.mark.parametrize(
    ("item", "taken"),
    [
        (entry(0, 5, epoch=E1), True),  # ends before the earlier epoch does
        (entry(0, 6, epoch=E1), True),  # ends exactly with it
        (entry(0, 7, epoch=E1), False),  # reaches beyond it
        (skip(0, 6, epoch=E1), True),
        (skip(0, 7, epoch=E1), False),
        (entry(0, 7, epoch=E2), True),
        (entry(0, 1, epoch=E3), False),
    ],
)
def test_an_earlier_epochs_entry_counts_exactly_up_to_its_end(
    item: Entry | Skip, taken: bool
) -> None:
    replica = replica_at(held=view(0, 10, E2, (E1, 6)))
    if taken:
        replica.append(item)
        assert replica.registration == at(item.next, item.epoch)
    else:
        with pytest.raises(ProtocolError, match="epoch"):
            replica.append(item)


def test_it_may_begin_inside_an_entry_but_only_inside_the_first() -> None:
    replica = replica_at(5)
    replica.append(entry(3, 4))
    assert replica.log.view == view(3, 7)
    with pytest.raises(ProtocolError, match="what comes next is 7"):
        replica.append(entry(6, 4))


@pytest.mark.parametrize("item", [entry(3, 2), skip(3, 5), entry(6)])
def test_the_first_entry_contains_the_place_where_it_begins(item: Entry | Skip) -> None:
    with pytest.raises(ProtocolError, match="what comes next is 5"):
        replica_at(5).append(item)


def test_an_entry_larger_than_the_replica_passes_through() -> None:
    replica = replica_at(max_messages=4)
    replica.append(entry(0, 2))
    replica.append(entry(2, 5))
    assert replica.log.view == view(7, 7)
    assert replica.registration == at(7)
    with pytest.raises(ProtocolError, match="what comes next is 7"):
        replica.append(entry(6, 3))
    replica.append(entry(7))
    assert replica.log.view == view(7, 8)


def test_a_full_replica_waits_unless_another_session_has_read_all() -> None:
    for level in (False, True):
        pace = Pace(1000)
        replica = Replica(
            "a", "b", Attached(view(0, 10), Resume(0), None), Resume(0), 2, MANY, pace
        )
        for item in (entry(0), entry(1)):
            replica.append(item)
        replica.pacing.enter(Reader(0))
        if level:
            replica.log.interest.park(Parked(">"), 2)
        assert replica.pacing.admits(Impatient(), cost_of(entry(2)), 0) is level
        assert list(pace.holding) == ([] if level else [replica.pacing])


# Attached again.


def test_it_goes_on_where_it_stood() -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    replica.attached(Attached(view(0, 10), Resume(3), at(3)))
    replica.append(entry(3))
    assert replica.log.view == view(0, 4)


@pytest.mark.parametrize("offset", [2, 4])
def test_a_resume_at_another_offset_than_presented_is_a_violation(offset: int) -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    with pytest.raises(
        ProtocolError, match=rf"a answered .*{offset}.* to .*3.*, it is .*3"
    ) as error:
        replica.attached(Attached(view(0, 10), Resume(offset), at(3)))
    assert error.value.kind == "attach"
    assert replica.registration == at(3)


def test_a_history_continued_under_a_new_epoch_leaves_no_gap() -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    replica.attached(Attached(view(0, 10, E2, (E1, 5)), Resume(3), None))
    assert replica.registration == at(3, E1)
    assert replica.log.view == view(0, 3, E2, (E1, 5))
    replica.append(entry(3, 2, epoch=E1))
    with pytest.raises(ProtocolError, match="epoch"):
        replica.append(entry(5, epoch=E1))
    replica.append(entry(5, epoch=E2))


def test_an_expired_registration_leaves_a_gap_at_its_place() -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    now = view(0, 2, E2)
    replica.attached(expired(Reason.STATE_LOST, now))
    assert replica.registration == at(2, E2)
    index = replica.log.locate(at(3))
    assert index is not None
    marker = replica.log[index]
    assert isinstance(marker, Gap)
    assert marker.view == now
    replica.append(entry(2, epoch=E2))
    with pytest.raises(ProtocolError, match="epoch"):
        replica.append(entry(3, epoch=E1))


def test_an_item_after_a_gap_begins_inside_an_entry_only_once() -> None:
    replica = replica_at()
    replica.attached(expired(Reason.STATE_LOST, view(0, 5, E2)))
    replica.append(entry(5, epoch=E2))
    with pytest.raises(ProtocolError, match="what comes next is 6"):
        replica.append(entry(5, 3, epoch=E2))


def test_a_waiting_session_is_woken_when_the_link_is_back() -> None:
    replica, calls = replica_at(), []
    replica.log.wait(lambda: calls.append(1))
    replica.attached(Attached(view(0, 10), Resume(0), None))
    assert calls == [1]


# Overrun on a live link.


def overrun(
    now: StreamView,
    node: str = "a",
    missed: int | None = None,
    reason: Reason = Reason.OVERWRITTEN,
) -> CursorExpired:
    return CursorExpired(node, reason, missed, now)


def test_an_overrun_leaves_a_gap() -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    replica.expired(overrun(view(8, 12), missed=9))
    assert replica.registration == at(12)
    replica.append(entry(12))
    assert replica.log.view == view(12, 13)


@pytest.mark.parametrize(
    ("notice", "kind", "says"),
    [
        (overrun(view(8, 12), node="c", missed=9), "offset", "a expired at 3, to go on at 12"),
        # Another history: only a new link can tell of it.
        (overrun(view(8, 12, E2), missed=9), "offset", "a expired at 3, to go on at 12"),
        (overrun(view(0, 2)), "offset", "a expired at 3, to go on at 2"),
        # It holds what comes next.
        (overrun(view(3, 12), missed=9), "attach", "a said overwritten, by its own view it is"),
        (overrun(view(3, 3), missed=0), "attach", "a said overwritten, by its own view it is"),
        (overrun(view(8, 12), missed=8), "attach", "a said overwritten, by its own view it is"),
        (overrun(view(8, 12), reason=Reason.STATE_LOST), "attach", "a said state_lost"),
        (
            overrun(view(8, MAX_OFFSET + 1), missed=MAX_OFFSET - 2),
            "offset",
            f"a says that it is at {MAX_OFFSET + 1}, beyond {MAX_OFFSET}",
        ),
    ],
)
def test_an_overrun_that_contradicts_what_is_held_is_a_violation(
    notice: CursorExpired, kind: str, says: str
) -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    with pytest.raises(ProtocolError, match=says) as error:
        replica.expired(notice)
    assert error.value.kind == kind
    assert replica.registration == at(3)


def test_an_overrun_up_to_the_last_offset_is_taken() -> None:
    replica = replica_at()
    replica.expired(overrun(view(8, MAX_OFFSET), missed=MAX_OFFSET))
    assert replica.registration == at(MAX_OFFSET)


# Questions of other parts.


class _Fetcher:
    """Takes down what is asked of the producer, and says whether it can be."""

    def __init__(self, *, can: bool) -> None:
        self.can = can
        self.asked: list[tuple[LaggingReader, Claim, int]] = []

    def __call__(self, reader: LaggingReader, claim: Claim, budget: int) -> bool:
        self.asked.append((reader, claim, budget))
        return self.can


def reading_of(replica: Replica) -> Reading:
    return Reading(replica, at(0), Filter((">",)), lambda: None)


def test_the_producer_is_asked_only_while_its_link_is_up() -> None:
    replica = replica_at()
    reading, claim = reading_of(replica), At(at(3))
    assert not replica.fetch(reading, claim, 100)
    replica.caught_up(reading, claim)
    for can in (True, False):
        replica.fetcher = fetcher = _Fetcher(can=can)
        assert replica.fetch(reading, claim, 100) is can
        replica.caught_up(reading, claim)
        assert fetcher.asked == [(reading, claim, 100), (reading, claim, 0)]


def test_only_a_replica_that_was_given_up_answers_for_its_producer() -> None:
    replica = replica_at()
    replica.append(entry(0, 3))
    assert replica.answer(At(at(1))) is None
    replica.give_up()
    assert replica.answer(At(at(3))) == (view(3, 3), Resume(3))
    assert replica.answer(At(at(1))) == (view(3, 3), Expired(Reason.OVERWRITTEN, 3, 2))


def test_the_unbroken_view_begins_behind_the_newest_runs_last_skip() -> None:
    replica = replica_at()
    assert replica.unbroken == view(0, 0)
    replica.append(entry(0, 3))
    assert replica.unbroken == view(0, 3)
    for item in (skip(3, 5), entry(5), skip(6, 8), entry(8), entry(9)):
        replica.append(item)
    assert replica.unbroken == view(8, 10)
    replica.attached(expired(Reason.STATE_LOST, view(0, 20, E3, (E2, 15))))
    assert replica.unbroken == view(20, 20, E3, (E2, 15))
    replica.append(entry(20, 2, epoch=E3))
    assert replica.unbroken == view(20, 22, E3, (E2, 15))


def test_what_was_evicted_does_not_stand_there() -> None:
    replica = replica_at(max_messages=2)
    for item in (skip(0, 3), entry(3), entry(4), entry(5)):
        replica.append(item)
    assert replica.unbroken == view(4, 6)


def test_an_entry_contradicts_another_one_in_its_place() -> None:
    replica = replica_at()
    replica.append(entry(0, 2))
    replica.append(entry(2))
    other = entry(0, 2, payload=b"other")
    assert replica.contradicts(other)
    assert not replica.contradicts(entry(0, 2))
    assert not replica.contradicts(entry(0, 2, payload=b"other", epoch=E2))
    assert not replica.contradicts(entry(1, payload=b"other")), "none begins there"
    assert not replica.contradicts(entry(3))

"""Which alarm is true: what a reader may be told of a loss, by what its producer held at that time."""

from __future__ import annotations

from tests.simulation.history import Lost
from tests.simulation.truth import Place, StreamTruth
from tests.simulation.violation import refuse
from tests.simulation.walk import Walk

from pubsubd_protocol.attach import Reason


def true_alarm(walk: Walk, lost: Lost) -> None:
    """Raises `Violation` unless the reader has lost something there, for this reason, and this much."""
    history, stream, node = walk.history, walk.truth[lost.node], lost.node
    at, place, oldest = walk.at.get(node), lost.place, lost.oldest
    held = lost.recalled is not None and (oldest is None or lost.recalled[1] >= oldest)
    if lost.reason is Reason.STATE_LOST and held:
        refuse("G4", history, node, f"{lost}, though its stream was recovered with that place")
    if lost.own and _own_loss(stream, lost, at):
        return
    if _remembered_loss(walk, lost, at):
        return
    if stream.views is not None and not _was_held(walk, lost, at):
        refuse("G4", history, node, f"expired by a ring of {oldest}..{place[1]}, which never was")
    if at is None:
        if lost.reason is not Reason.UNSEEN or lost.missed is not None:
            refuse("G4", history, node, f"{lost}, though it was told no place there")
        if oldest == 0 and stream.epochs[0] == place[0]:
            refuse("G4", history, node, "unseen, though the ring still held the first message")
    elif at[0] != place[0] and at[0] not in stream.lineages[place[0]]:
        if lost.reason is not Reason.STATE_LOST or lost.missed is not None:
            refuse("G4", history, node, f"{lost} across epochs, it stood at {at}")
    elif _joined_what_was_lost(stream, lost, at):
        if lost.missed is not None:
            refuse("G4", history, node, f"{lost}, it can't be known how many those are")
    elif not stream.connects(at, place[0]) or _went_too_far(stream, lost, at):
        if lost.reason is not Reason.AHEAD or lost.missed is not None:
            refuse("G4", history, node, f"{lost}, it stood at {at}, further than that history")
    else:
        _true_overrun(walk, lost, at)


def _was_held(walk: Walk, lost: Lost, at: Place | None) -> bool:
    """Whether the ring was ever what the notice says. A reader that asked for the earliest goes on at the oldest."""
    views = walk.truth[lost.node].views or set()
    epoch, begin = lost.place
    if walk.history.earliest and at is None and lost.oldest == begin:
        return any((epoch, begin) == (held, oldest) for held, oldest, _ in views)
    return (epoch, lost.oldest, begin) in views


def _own_loss(stream: StreamTruth, lost: Lost, at: Place | None) -> bool:
    """A named session that lived before its broker is told so, wherever it stands in the new history."""
    return (
        lost.reason is Reason.STATE_LOST
        and at is not None
        and stream.connects(at, lost.place[0])
        and at[1] <= lost.place[1]
    )


def _remembered_loss(walk: Walk, lost: Lost, at: Place | None) -> bool:
    """A name whose place producer and broker have forgotten may be told by what a third node remembers."""
    stream, before = walk.truth[lost.node], walk.stood_before.get(lost.node)
    stood = [place for place, _ in walk.third.get(lost.node, {}).values()]
    if before is not None:
        stood.append(before)
    # It may also have been placed, as if it were new, beyond where it stood in this very history.
    misses = any(
        not stream.connects(place, lost.place[0]) or place[1] < lost.place[1] for place in stood
    )
    return misses and _own_loss(stream, lost, at)


def _went_too_far(stream: StreamTruth, lost: Lost, at: Place) -> bool:
    """Whether `lost` can be two in one: overrun first, and then further than a later history reaches."""
    if lost.reason is not Reason.AHEAD or stream.views is None:
        return False
    return any(
        at[1] < oldest
        and stream.connects(at, epoch)
        and not stream.connects((epoch, end), lost.place[0])
        for epoch, oldest, end in stream.views
        if epoch == lost.place[0] or epoch in stream.lineages[lost.place[0]]
    )


def _joined_what_was_lost(stream: StreamTruth, lost: Lost, at: Place) -> bool:
    """Whether it may have come into a later history that was then lost as a whole, with what it had not read of it.

    It learns of a new name for its history only with what comes in that; and a notice that it has not read merges with
    the next. So where it stands is told by an older name, which a third history may continue as well.
    """
    if lost.reason is not Reason.STATE_LOST or stream.views is None:
        return False
    return any(
        stream.age(epoch) > stream.age(at[0])
        and epoch != lost.place[0]
        and epoch not in stream.lineages[lost.place[0]]
        for epoch in stream.epochs
    )


def _true_overrun(walk: Walk, lost: Lost, at: Place) -> None:
    history, stream, node = walk.history, walk.truth[lost.node], lost.node
    jump = lost.place[1] - at[1]
    if lost.oldest is not None and at[1] >= lost.oldest:
        what = f"{lost}, though the ring held {lost.oldest} on and it stood at {at[1]}"
        refuse("G4", history, node, what)
    if stream.capacity is not None and jump <= stream.capacity:
        what = f"{lost}, though the ring holds {stream.capacity} and it stood at {at[1]}"
        refuse("G4", history, node, what)
    # Notices that were merged leave out what was passed between them: what is not known to be for this reader.
    passed = jump - len(walk.wanted(node, lost.place[0], at[1], lost.place[1]))
    if lost.reason is not Reason.OVERWRITTEN or lost.missed not in range(jump - passed, jump + 1):
        refuse("G4", history, node, f"{lost}, it stood at {at[1]}")

"""The rules for true alarms: the losses that a reader may be told, by what its producer held at that time."""

from __future__ import annotations

from tests.simulation.history import Lost
from tests.simulation.truth import End, Place, StreamTruth
from tests.simulation.violation import refuse
from tests.simulation.walk import Walk

from pubsubd_protocol.attach import Reason


def true_alarm(walk: Walk, lost: Lost) -> None:
    """Raises `Violation` unless the reader lost messages there, for this reason, and as many."""
    history, stream, node = walk.history, walk.truth[lost.node], lost.node
    at, place, oldest = walk.at.get(node), lost.place, lost.oldest
    held = lost.recovered is not None and (oldest is None or lost.recovered[1] >= oldest)
    # A later place, in a life that no peer has heard of, counts more than the memory of peers.
    held = held and (at is None or stream.connects(at, place[0]))
    if lost.reason is Reason.STATE_LOST and held and not _comes_to_an_end(walk, lost, at):
        refuse("G4", history, node, f"{lost}, though its stream was recovered with that place")
    unplaced = lost.own and not walk.known
    if unplaced and _own_loss(stream, lost, at):
        return
    if _remembered_loss(walk, lost, at):
        return
    if stream.views is not None and not _was_held(walk, lost, at):
        refuse("G4", history, node, f"expired by a ring of {oldest}..{place[1]} that never existed")
    if at is None:
        if lost.reason is not Reason.UNSEEN or lost.missed is not None:
            refuse("G4", history, node, f"{lost}, though the reader has no place there")
        if oldest == 0 and stream.epochs[0] == place[0]:
            refuse("G4", history, node, "unseen, though the ring still held the first message")
    elif at[0] != place[0] and at[0] not in stream.lineages[place[0]]:
        if lost.reason is not Reason.STATE_LOST or lost.missed is not None:
            refuse("G4", history, node, f"{lost} across epochs, the reader stood at {at}")
    elif _joined_what_was_lost(walk, lost, at) and lost.missed is None:
        pass  # The number of these messages cannot be known.
    elif not stream.connects(at, place[0]) or _went_too_far(stream, lost, at):
        # The reader may have read on behind that place without a message for it, up to an end that it is told of as
        # well. Or it is still to be told that it was placed as if it were new.
        untold = _ends_behind(stream, at, place) or (unplaced and own_loss_before(walk, node, at))
        merged = lost.reason is Reason.STATE_LOST and untold
        if not (lost.reason is Reason.AHEAD or merged) or lost.missed is not None:
            refuse(
                "G4", history, node, f"{lost}, the reader stood at {at}, further than that history"
            )
    elif lost.reason is Reason.STATE_LOST:
        _true_end(walk, lost, at)
    else:
        _true_overrun(walk, lost, at)


def _was_held(walk: Walk, lost: Lost, at: Place | None) -> bool:
    """Whether the ring ever was as the notice says. A reader that asked for the earliest goes on at the oldest."""
    views = walk.truth[lost.node].views or set()
    epoch, begin = lost.place
    stream = walk.truth[lost.node]
    if any(_cut_at(stream, lost, view) for view in views):
        return True
    if walk.history.earliest and at is None and lost.oldest == begin:
        return any((epoch, begin) == (held, oldest) for held, oldest, _ in views)
    return (epoch, lost.oldest, begin) in views


def _cut_at(stream: StreamTruth, lost: Lost, view: tuple[str, int, int]) -> bool:
    """Whether the notice shows the ring as it was up to an end at which its history goes on."""
    (epoch, begin), (held, oldest, following) = lost.place, view
    ends = {held, *stream.lineages[held]}
    at_end = begin in {stream.starts[each] for each in ends} and following >= begin
    return at_end and epoch in ends and lost.oldest == min(oldest, begin)


def _ends(stream: StreamTruth, at: Place | None, to: Place) -> list[End]:
    """The ends between two places of which a reader may be told."""
    if at is None or not stream.connects(at, to[0]):
        return []
    return [end for end in stream.ends_between(at, to) if end.may_be_told]


def _comes_to_an_end(walk: Walk, lost: Lost, at: Place | None) -> bool:
    """Whether only an end lies between `at` and the place of the reader, or of its name as peers remember it."""
    stream, place = walk.truth[lost.node], lost.place
    for stood in (at, lost.recovered):
        if stood is None or not _ends(stream, stood, place):
            continue
        if not walk.wanted(lost.node, place[0], stood[1], place[1]):
            return True
    return False


def _ends_behind(stream: StreamTruth, at: Place, to: Place) -> bool:
    """Whether an end stands later than the history of `at`."""
    age = stream.age(at[0])
    later = (stream.ends[e] for e in (to[0], *stream.lineages[to[0]]) if e in stream.ends)
    return any(end.may_be_told and stream.age(end.place[0]) > age for end in later)


def _own_loss(stream: StreamTruth, lost: Lost, at: Place | None) -> bool:
    """A named session that lived before its broker is told so, at any place of the new history."""
    return (
        lost.reason is Reason.STATE_LOST
        and at is not None
        and stream.connects(at, lost.place[0])
        and at[1] <= lost.place[1]
    )


def _remembered_loss(walk: Walk, lost: Lost, at: Place | None) -> bool:
    """A name whose place producer and broker have forgotten may be told by the memory of a third node."""
    stream, before = walk.truth[lost.node], walk.stood_before.get(lost.node)
    stood = [place for place, _ in walk.third.get(lost.node, {}).values()]
    if before is not None:
        stood.append(before)
    misses = any(_misses(stream, place, lost.place) for place in stood)
    return misses and _own_loss(stream, lost, at)


def own_loss_before(walk: Walk, node: str, at: Place) -> bool:
    """Whether this notice may also tell a named session that its own node's earlier history ended.

    The name stood in that history in an earlier life, and has not been told of its end since.
    """
    before = walk.stood_before.get(node)
    if before is None or node in walk.told:
        return False
    return _misses(walk.truth[node], before, at)


def _misses(stream: StreamTruth, stood: Place, at: Place) -> bool:
    """Whether a name that stood at `stood` has lost messages before `at`.

    It may also have been placed beyond `stood` in this very history, as if it were new.
    """
    return not stream.connects(stood, at[0]) or stood[1] < at[1] or bool(_ends(stream, stood, at))


def _went_too_far(stream: StreamTruth, lost: Lost, at: Place) -> bool:
    """Whether `lost` can be two notices in one: an overrun, and then a place beyond the reach of a later history."""
    if lost.reason is not Reason.AHEAD or stream.views is None:
        return False
    return any(
        at[1] < oldest
        and stream.connects(at, epoch)
        and not stream.connects((epoch, end), lost.place[0])
        for epoch, oldest, end in stream.views
        if epoch == lost.place[0] or epoch in stream.lineages[lost.place[0]]
    )


def _joined_what_was_lost(walk: Walk, lost: Lost, at: Place) -> bool:
    """Whether the reader may have joined a later history that was then lost, in whole or in part, before it read all
    of it.

    A reader learns a new name of its history only with its messages, and an unread notice merges with the next one.
    So its place is told by an older name, which a third history may continue as well.
    """
    stream = walk.truth[lost.node]
    if lost.reason is not Reason.STATE_LOST or stream.views is None:
        return False
    return any(
        stream.age(at[0]) < stream.age(epoch) < stream.age(lost.place[0])
        and _came_too_far(walk, lost, at, epoch)
        for epoch in stream.epochs
    )


def _came_too_far(walk: Walk, lost: Lost, at: Place, epoch: str) -> bool:
    """Whether the reader may have passed more of `epoch` than the history of `lost` has, without a message for it."""
    stream = walk.truth[lost.node]
    reach = stream.lineages[lost.place[0]].get(epoch, -1)
    if stream.end_of(epoch) <= reach:
        return False
    if not stream.connects(at, epoch):
        return True
    overrun = any(held == epoch and at[1] < oldest for held, oldest, _ in stream.views or ())
    return overrun or not walk.wanted(lost.node, epoch, at[1], reach + 1)


def _true_end(walk: Walk, lost: Lost, at: Place) -> None:
    """A reader is told of an end that it reached: messages accepted beyond it are lost, or may be."""
    history, stream, node = walk.history, walk.truth[lost.node], lost.node
    ends = _ends(stream, at, lost.place)
    if not ends:
        refuse(
            "G4",
            history,
            node,
            f"{lost}, the reader stood at {at}, and no message behind it is lost",
        )
    branch = max(at[0], lost.place[0], key=stream.age)
    wanted = walk.wanted(node, branch, at[1], lost.place[1])
    if wanted and lost.oldest is not None and at[1] >= lost.oldest:
        what = f"{lost}, the reader stood at {at}, and {wanted[0]} was held"
        refuse("G4", history, node, what)
    jump, beyond = lost.place[1] - at[1], sum(len(end.lost) for end in ends)
    if lost.missed is None:
        # Told of two ends at once, the reader may have gone on behind the first one, beyond the place of the second.
        if len(ends) == 1 and ends[0].proven:
            what = f"{lost}, the reader stood at {at}, and {beyond} are known to be lost"
            refuse("G4", history, node, what)
    elif not len(wanted) + beyond <= lost.missed <= jump + beyond:
        refuse(
            "G4",
            history,
            node,
            f"{lost}, the reader stood at {at}, {beyond} are lost beyond its end",
        )


def _true_overrun(walk: Walk, lost: Lost, at: Place) -> None:
    history, stream, node = walk.history, walk.truth[lost.node], lost.node
    jump = lost.place[1] - at[1]
    if lost.reason is Reason.OVERWRITTEN and stream.loses(at, lost.place):
        what = f"{lost}, the reader stood at {at}, and more than that is lost on the way"
        refuse("G1", history, node, what)
    if lost.oldest is not None and at[1] >= lost.oldest:
        what = f"{lost}, though the ring held {lost.oldest} on and the reader stood at {at[1]}"
        refuse("G4", history, node, what)
    if stream.capacity is not None and jump <= stream.capacity:
        what = f"{lost}, though the ring holds {stream.capacity} and the reader stood at {at[1]}"
        refuse("G4", history, node, what)
    # Merged notices leave out messages passed between them that are not known to be for this reader.
    passed = jump - len(walk.wanted(node, lost.place[0], at[1], lost.place[1]))
    if lost.reason is not Reason.OVERWRITTEN or lost.missed not in range(jump - passed, jump + 1):
        refuse("G4", history, node, f"{lost}, the reader stood at {at[1]}")

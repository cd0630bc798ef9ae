"""The checks of a reader that begins a life: its first places, and a name that was dropped."""

from __future__ import annotations

from tests.simulation.alarms import own_loss_before
from tests.simulation.history import (
    Kept,
    Opened,
)
from tests.simulation.truth import NOWHERE, Place
from tests.simulation.violation import refuse
from tests.simulation.walk import Walk


def begins_in_place(walk: Walk, node: str, place: Place) -> None:
    stood = walk.stood(node)
    if stood is None:
        owed_nothing_before(walk, node, place)
    elif walk.truth[node].further(place, stood) and not _passed_only(walk, node, stood, place):
        what = f"its next life begins at {place}, the last one ended at {stood}"
        refuse("G1", walk.history, node, what)


def _passed_only(walk: Walk, node: str, begin: Place, end: Place) -> bool:
    """Whether no message between two places of one history is for the reader, so that it may have passed them.

    The topic of a lost message cannot be known: a loss is never passed in silence. Either place may have the later name
    of that history.
    """
    stream = walk.truth[node]
    if stream.age(end[0]) < stream.age(begin[0]) and stream.connects(end, begin[0]):
        end = begin[0], end[1]
    if not stream.connects(begin, end[0]) or stream.loses(begin, end):
        return False
    return not walk.wanted(node, end[0], begin[1], end[1])


def owed_nothing_before(walk: Walk, node: str, place: Place) -> None:
    history, stream = walk.history, walk.truth[node]
    before = walk.stood_before.get(node)
    if before is not None and node in walk.strictly and place != NOWHERE:
        _not_beyond(walk, node, place, before)
    # The reader's broker may have learned that place from a producer before the producer lost its memory.
    if before is not None and _went_no_further(walk, node, before, place):
        return
    # Or a producer came back with an older memory of the name.
    if any(_went_no_further(walk, node, left, place) for left in walk.left.get(node, ())):
        return
    kept = walk.remembered.get(node)
    # The reader may have passed messages for others before it was told a place.
    if kept is not None and (kept == NOWHERE or _went_no_further(walk, node, kept, place)):
        return
    # Or the broker learned it from a third node, before or after the producer had forgotten it.
    third = [stood for stood, _ in walk.third.get(node, {}).values()]
    if any(_went_no_further(walk, node, stood, place) for stood in third):
        return
    # Under a later epoch the producer may have lost its memory of consumers: then the reader is owed as much as a new
    # one.
    if kept is not None and kept[0] == place[0] and walk.surely:
        what = f"begins at {place}, its producer knew that it ended at {kept}"
        refuse("G1", history, node, what)
    if history.earliest:
        _all_that_was_held(walk, node, place)
    messages = stream.messages.get(place[0], {})
    for offset in walk.wanted(node, place[0], 0, place[1]):
        if messages[offset].time_ns > walk.born_ns:
            what = f"begins at {place}, the reader was owed {offset}, published after it subscribed"
            refuse("G1", history, node, what)
    _owed_no_loss_before(walk, node, place)


def _went_no_further(walk: Walk, node: str, before: Place, place: Place) -> bool:
    """Whether a reader at `place` has passed no message beyond those before `before`."""
    stream = walk.truth[node]
    if not {before[0], place[0]} <= set(stream.epochs):
        return False
    back = stream.connects(place, before[0]) and not stream.further(place, before)
    # A history that went on whole has a later name at the same place.
    return back or _passed_only(walk, node, before, place)


def _owed_no_loss_before(walk: Walk, node: str, place: Place) -> None:
    """A reader that existed when a message was published, and begins behind the place of its loss, is told."""
    stream = walk.truth[node]
    if place == NOWHERE:
        return
    for end in stream.loses((stream.epochs[0], -1), place):
        for epoch, offset in end.lost:
            late = stream.messages[epoch][offset].time_ns > walk.born_ns
            if late and walk.wants(node, (epoch, offset)):
                what = f"begins at {place}, the reader was owed {offset} of {epoch}, which was lost at {end.place} after it subscribed"
                refuse("G1", walk.history, node, what)


def _not_beyond(walk: Walk, node: str, place: Place, before: Place) -> None:
    """All messages behind its last place, as far as the history of `place` has them, reach the reader or are told as
    lost.
    """
    ends = {place[0]: before[1], **walk.truth[node].lineages[place[0]]}
    if before[0] in ends:
        missing = walk.wanted(node, place[0], min(before[1], ends[before[0]]), place[1])
        if missing:
            what = f"begins at {place}, the reader stood at {before}, and {missing[0]} is missing"
            refuse("G1", walk.history, node, what)
        if before[1] <= ends[before[0]] and walk.truth[node].loses(before, place):
            what = f"begins at {place}, the reader stood at {before}, and was not told of the loss between"
            refuse("G1", walk.history, node, what)


def _all_that_was_held(walk: Walk, node: str, place: Place) -> None:
    """A reader that asked for the earliest begins with the oldest offset of the ring at some moment."""
    stream = walk.truth[node]
    if stream.views is not None:
        begins = [
            oldest
            for epoch, oldest, _ in stream.views
            if oldest <= place[1] and stream.connects(place, epoch)
        ]
        missing = walk.wanted(node, place[0], max(begins), place[1]) if begins else []
        if missing:
            what = f"begins at {place}, the ring held {missing[0]}, and the reader asked for the earliest"
            refuse("G1", walk.history, node, what)


def forgotten_only_after_a_loss(walk: Walk, opened: Opened) -> None:
    """A name may be dropped if its next life would have been told of a loss."""
    for node in walk.truth:
        place, held = opened.acknowledged.get(node), opened.held.get(node)
        if place is None or held is None:
            return
        if not walk.truth[node].connects(place, held[0]) or place[1] < held[1]:
            return
        if _is_an_end(walk, node, place):
            return
    what = f"forgotten, though all that follows on {opened.acknowledged} is held"
    refuse("G4", walk.history, "every node", what)


def placeless_only_after_a_loss(walk: Walk, opened: Opened, told: set[str]) -> None:
    """A life without a place will be told of a loss.

    That loss must exist, or an earlier life was told of it and has not taken it in.
    """
    # If its broker has not kept its name, the session may learn late of its own node's earlier history, by the memory
    # of its producers.
    known = opened.kept is Kept.BROKER and walk.known
    excepted = told if known else told | {walk.history.node}
    for node, place in opened.places.items():
        at, held = walk.at.get(node), opened.held.get(node)
        if place != NOWHERE or at is None or held is None or node in excepted:
            continue
        # The last life had no place, and ended before it was told.
        if at == NOWHERE:
            continue
        if _is_an_end(walk, node, at):
            continue
        # The broker met the name as a new one, and heard later from a producer that it had lived before.
        if node == walk.history.node and own_loss_before(walk, node, at):
            continue
        if walk.truth[node].connects(at, held[0]) and at[1] >= held[1]:
            what = f"begins without a place, the reader stood at {at}, and {held} is held"
            refuse("G4", walk.history, node, what)


def _is_an_end(walk: Walk, node: str, at: Place) -> bool:
    """Whether a later history goes on right there, behind a loss, or behind a possible loss."""
    stream = walk.truth[node]
    return any(
        stream.connects(at, epoch)
        and any(end.may_be_told for end in stream.ends_between(at, (epoch, at[1])))
        for epoch in stream.epochs
    )

"""The attach rule: where a reader goes on in a stream, or why it can't.

One pure function for every reader and every hop: a peer that attaches, a session that catches up,
a session at a gap marker, a session on its own node's stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from pubsubd_protocol.positions import Position, StreamView, add_lost


class Reason(StrEnum):
    """Why a cursor expired."""

    OVERWRITTEN = "overwritten"
    """The ring moved past what the reader still needed."""
    STATE_LOST = "state_lost"
    """The producer does not continue the history that the reader read."""
    AHEAD = "ahead"
    """The reader saw more than the producer's present history contains."""
    UNSEEN = "unseen"
    """The reader was never told of this stream, and its beginning is gone."""


@dataclass(frozen=True, slots=True)
class At:
    """The reader needs this position: it has read everything before it."""

    position: Position


@dataclass(frozen=True, slots=True)
class FromStart:
    """The reader never saw this stream, and may have been owed it from its first message."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A node without memory: it goes on at the cursor that the producer registered for it.

    `waiting`: a session stood open before this contact, so without a registered cursor the node is
    owed the stream from its first message; otherwise it is a new consumer and begins at `next`.
    """

    waiting: bool


@dataclass(frozen=True, slots=True)
class Earliest:
    """The reader asks for all that the ring still holds.

    `owed`: the claim that the reader would have without that wish, for what was published since it subscribed.
    Where that can't be met, the reader is told so, and goes on at the oldest message. None: nothing is owed.
    """

    owed: At | FromStart | Remembered | None = None


Claim = At | FromStart | Earliest | Remembered


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on at `offset`; nothing is lost."""

    offset: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Messages are lost to this reader: say so with `reason`, then go on at `next`.

    `missed`: how many, None where that can't be known.
    """

    reason: Reason
    next: int
    missed: int | None


Answer = Resume | Expired


def asked(claim: Claim) -> Claim:
    """The part of a claim that travels: a producer gives what it holds, the reader's own broker knows what is owed."""
    return Earliest() if isinstance(claim, Earliest) else claim


def short(answer: Answer) -> Resume | Reason:
    """An answer as it travels beside the view that it was given on: the figures follow from that."""
    return answer if isinstance(answer, Resume) else answer.reason


LOSES_HISTORY: Final = (Reason.STATE_LOST, Reason.UNSEEN)
"""Reasons that may stand for the loss of a whole history: the second is graver, and may hold the first."""

_GRAVITY = (Reason.OVERWRITTEN, Reason.AHEAD, Reason.STATE_LOST, Reason.UNSEEN)


def merge(earlier: Expired, later: Expired) -> Expired:
    """Two expiries with nothing read between them are one, over the wider range: the graver reason counts."""
    missed = add_lost(earlier.missed, later.missed)
    return Expired(max(earlier.reason, later.reason, key=_GRAVITY.index), later.next, missed)


def resolve(claim: Claim, view: StreamView, registered: Position | None = None) -> Answer:
    """Where a reader that presents `claim` goes on reading the stream seen in `view`. Pure.

    `registered` is the cursor that the producer keeps for the reader's node, if it keeps one. An expiry goes on at the
    end of what the producer holds, or, where only the lost end of an earlier life lies before the reader, behind that.
    Source: DESIGN.md, Attach; the lineage rule is the one of Redis PSYNC2's second replication id.
    """
    match claim:
        case At(position):
            return _at(position, view)
        case FromStart():
            return _from_start(view)
        case Earliest(owed):
            if owed is None or isinstance(resolve(owed, view, registered), Resume):
                return Resume(view.oldest)
            return Expired(Reason.UNSEEN, view.oldest, None)
        case Remembered(waiting):
            if registered is not None:
                # By the same rule as a position: a cursor kept longer than the stream may be ahead of it.
                return _at(registered, view)
            return _from_start(view) if waiting else Resume(view.next)
    assert_never(claim)


def _from_start(view: StreamView) -> Answer:
    answer = _within(view.start, view)
    return answer if isinstance(answer, Resume) else Expired(Reason.UNSEEN, answer.next, None)


def _at(position: Position, view: StreamView) -> Answer:
    # The epoch before the offset: another history's numbers happen to fit, and mean nothing.
    reach = view.reach(position.epoch)
    if reach is None:
        return Expired(Reason.STATE_LOST, view.next, None)
    if position.offset > reach:
        return Expired(Reason.AHEAD, view.next, None)
    return _within(position, view)


def _within(position: Position, view: StreamView) -> Answer:
    """The answer to a reader whose history goes on here: it has lost what was evicted, and what is lost where it stands."""
    offset, gaps = position.offset, view.gaps(position.epoch)
    if offset < view.oldest:
        expired = Expired(Reason.OVERWRITTEN, view.next, view.next - offset)
    else:
        expired = Expired(Reason.STATE_LOST, offset, 0)
        gaps = [gap for gap in gaps if gap[0] == offset]
        if not gaps:
            return Resume(offset)
    for _, lost in gaps:
        expired = merge(expired, Expired(Reason.STATE_LOST, expired.next, lost))
    return expired

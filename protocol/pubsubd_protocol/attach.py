"""The attach rule: where a reader goes on in a stream, or why its cursor expired.

`resolve` is one pure function for every reader and every hop: a peer that attaches, a session that
catches up, a session at a gap marker, a session on its own node's stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from pubsubd_protocol.positions import Position, StreamView, add_lost


class Reason(StrEnum):
    """The reasons for which a cursor expires."""

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
    """The reader never saw this stream, and may need it from its first message on."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A consumer node without memory: it goes on at the cursor that the producer registered for it.

    `waiting`: a session was open before this contact. Without a registered cursor, a waiting node
    needs the stream from its first message on. Any other node is a new consumer and begins at `next`.
    """

    waiting: bool


@dataclass(frozen=True, slots=True)
class Earliest:
    """The reader asks for all that the ring still holds.

    `owed`: the claim of a reader that subscribed before this contact. It covers the messages published since then.
    If that claim expires, the reader gets the expiry and goes on at the oldest message. None: no such claim.
    """

    owed: At | FromStart | Remembered | None = None


Claim = At | FromStart | Earliest | Remembered


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on at `offset`; nothing is lost."""

    offset: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Messages are lost to this reader: send it `reason`, then go on at `next`.

    `missed`: the number of lost messages; None if the number is unknown.
    """

    reason: Reason
    next: int
    missed: int | None


Verdict = Resume | Expired


def asked(claim: Claim) -> Claim:
    """The part of a claim that travels to the producer. `owed` stays behind: the reader's own broker judges it."""
    return Earliest() if isinstance(claim, Earliest) else claim


def short(answer: Verdict) -> Resume | Reason:
    """An answer as it travels: of an expiry only the reason. The receiver computes the figures from the view beside it."""
    return answer if isinstance(answer, Resume) else answer.reason


LOSES_HISTORY: Final = (Reason.STATE_LOST, Reason.UNSEEN)
"""Reasons that may stand for the loss of a whole history. UNSEEN is the graver one, and may include STATE_LOST."""

_GRAVITY = (Reason.OVERWRITTEN, Reason.AHEAD, Reason.STATE_LOST, Reason.UNSEEN)


def merge(earlier: Expired, later: Expired) -> Expired:
    """Merge two expiries between which the reader got no message: wider range, graver reason."""
    missed = add_lost(earlier.missed, later.missed)
    return Expired(max(earlier.reason, later.reason, key=_GRAVITY.index), later.next, missed)


def resolve(claim: Claim, view: StreamView, registered: Position | None = None) -> Verdict:
    """The attach rule: the offset at which a reader with `claim` goes on in the stream of `view`, or an expiry. Pure.

    `registered` is the cursor that the producer keeps for the reader's node, if it keeps one. After an expiry the
    reader goes on at the producer's `next`. If only the lost end of an earlier life lies before the reader, the reader
    goes on behind that end.
    Source: docs/guarantees.md has the rule row by row; the lineage rule is that of the second replication id in Redis PSYNC2.
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
                # The rule for positions: a cursor that outlived the stream's history may be ahead of it.
                return _at(registered, view)
            return _from_start(view) if waiting else Resume(view.next)
    assert_never(claim)


def _from_start(view: StreamView) -> Verdict:
    answer = _within(view.start, view)
    return answer if isinstance(answer, Resume) else Expired(Reason.UNSEEN, answer.next, None)


def _at(position: Position, view: StreamView) -> Verdict:
    # Check the epoch before the offset: an offset of another history may fit by accident, and means nothing here.
    reach = view.reach(position.epoch)
    if reach is None:
        return Expired(Reason.STATE_LOST, view.next, None)
    if position.offset > reach:
        return Expired(Reason.AHEAD, view.next, None)
    return _within(position, view)


def _within(position: Position, view: StreamView) -> Verdict:
    """The answer to a reader whose history this stream continues.

    The reader has lost the messages that were evicted, and those of a lost end at its own offset.
    """
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

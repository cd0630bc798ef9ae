"""Start of a session in a stream that its broker knows, and the order of claims by how far back they reach."""

from __future__ import annotations

from pubsubd_broker.core.sessions.session import Session
from pubsubd_broker.core.sessions.source import Source
from pubsubd_protocol.attach import At, Claim, Earliest, FromStart, Remembered
from pubsubd_protocol.frames import Subscribe
from pubsubd_protocol.positions import Position


def start_in(source: Source, session: Session, subscribe: Subscribe) -> Position | Claim:
    """Beginning of a new `session` in `source`, by the positions that its application presents in `subscribe`."""
    if subscribe.positions is None:
        end = source.log.end_position
        return Earliest(At(end)) if subscribe.start == "earliest" else end
    position = subscribe.positions.get(source.node)
    if position is not None:
        return position
    # It was never told of this stream, but may have been open when its broker met it.
    owed = At(source.origin) if session.born_here else FromStart()
    return Earliest(owed) if session.start == "earliest" else owed


def depth(claim: Claim) -> tuple[int, int]:
    """Orders claims: the least one reaches furthest back."""
    match claim:
        case Earliest():
            return 0, 0
        case FromStart():
            return 1, 0
        case At(position):
            return 2, position.offset
        case Remembered(waiting):
            return 3, 0 if waiting else 1

"""Check of a client's acknowledgement: never beyond what the session was sent, never backwards."""

from __future__ import annotations

from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Ack
from pubsubd_protocol.positions import Position, StreamView


def check_ack(
    ack: Ack, stands: Position | None, before: Position | None, view: StreamView | None
) -> None:
    """Raises `ProtocolError` if the session cannot acknowledge `ack.position`.

    `stands`: the session's position in that stream. `before`: what it acknowledged last over this connection.
    `view`: the stream, if the broker knows it.
    """
    if stands is None:
        raise ProtocolError(
            "ack", f"acknowledged {ack.node}, of which the session has read nothing"
        )
    if _is_before(stands, ack.position, view) and _on_one_branch(ack.position, stands, view):
        raise ProtocolError(
            "ack", f"acknowledged {ack.position.offset} of {ack.node}, sent {stands.offset}"
        )
    if (
        before is not None
        and before.epoch == ack.position.epoch
        and ack.position.offset < before.offset
        and (view is None or view.contains(before))
    ):
        raise ProtocolError(
            "ack", f"acknowledged {ack.position.offset} of {ack.node} after {before.offset}"
        )


def _is_before(nearer: Position, further: Position, view: StreamView | None) -> bool:
    if view is None:
        return nearer.offset < further.offset
    return view.is_before(nearer, further)


def _on_one_branch(further: Position, nearer: Position, view: StreamView | None) -> bool:
    """Whether the offsets of two positions can be compared: one beyond a history's end stands on an abandoned branch."""
    if view is None:
        return further.epoch == nearer.epoch
    return view.contains(further) and view.contains(nearer)

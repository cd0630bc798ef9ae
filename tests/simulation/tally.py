"""Counts the rows of the attach rule, and the rare turns, that a run really took.

It sees decisions at the public methods of a node, and frames on the wires.
"""

from __future__ import annotations

from collections import Counter

from tests.unit.protocol.samples import KINDS

from pubsubd_broker.core.node import Node
from pubsubd_protocol.attach import At, Claim, Expired, Remembered, Resume, Verdict
from pubsubd_protocol.codec import decode
from pubsubd_protocol.frames import CursorExpired, Fetched
from pubsubd_protocol.positions import StreamView

ROWS = (
    "attach: position -> resume",
    "attach: position -> overwritten",
    "attach: position -> state_lost",
    "attach: position -> ahead",
    "attach: nothing, a cursor -> resume",
    "attach: nothing, a cursor -> overwritten",
    "attach: nothing, no cursor -> resume",
    "attach: from the start -> resume",
    "attach: from the start -> unseen",
    "fetch -> resume",
    "fetch -> overwritten",
    "fetch -> state_lost",
    "gap marker told",
    "gap marker passed in silence",
    "overrun while connected",
    "notices merged",
    "held by the ring",
    "held by a replica",
    "expired overwritten",
    "expired state_lost",
    "expired ahead",
    "expired unseen",
    "recovered",
    "recovered_from_peers",
    "power loss",
    "wrong bit",
    "closed",
)
"""Rows that all runs together must take at least once."""

_WATCHED = (KINDS["CursorExpired"], KINDS["Fetched"])


class Tally:
    """The counts of one run."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self._markers: set[tuple[str, str, str, int]] = set()
        self._told: set[tuple[str, str, str, int]] = set()

    def attached(self, claim: Claim, cursor: int | None, answer: Verdict) -> None:
        """A producer answered a node that attached. `cursor`: the cursor that it had registered for the node."""
        match claim:
            case At():
                presented = "position"
            case Remembered(waiting) if cursor is not None or not waiting:
                presented = "nothing, no cursor" if cursor is None else "nothing, a cursor"
            case _:
                presented = "from the start"
        outcome = "resume" if isinstance(answer, Resume) else str(answer.reason)
        self.counts[f"attach: {presented} -> {outcome}"] += 1

    def overrun(self, answer: Expired) -> None:
        self.counts["overrun while connected"] += 1

    def sent(self, node: Node, role: str | None, buffers: list[bytes]) -> None:
        """A connection wrote; `role` is the part of its own end."""
        for buffer in buffers:
            if len(buffer) > 5 and buffer[5] in _WATCHED:
                self._frame(node, role, buffer)

    def held(self, node: Node) -> None:
        """A publisher waits for readers."""
        for pacing in node.pace.holding:
            by_ring = pacing is node.stream.pacing
            self.counts["held by the ring" if by_ring else "held by a replica"] += 1

    def marked(self, node: Node, producer: str, view: StreamView) -> None:
        """A node's registration expired: its replica gets a marker now. Counts readers that already stand beyond it."""
        self._markers.add((node.name, producer, view.epoch.hex(), view.next))
        for session in node.sessions.list():
            position = session.positions.get(producer)
            if position is not None and session.connected:
                beyond = position.epoch == view.epoch and position.offset >= view.next
                # G4 refuses the run if such a session is told of the gap all the same.
                self.counts["gap marker passed in silence"] += beyond

    def finish(self) -> None:
        """The run is over."""
        self.counts["gap marker told"] += len(self._markers & self._told)

    def _frame(self, node: Node, role: str | None, buffer: bytes) -> None:
        match decode(memoryview(buffer)):
            case Fetched(answer=Resume()):
                self.counts["fetch -> resume"] += 1
            case Fetched(answer=reason):
                self.counts[f"fetch -> {reason}"] += 1
            case CursorExpired() as expired if role == "session" and expired.node != node.name:
                view = expired.view
                self._told.add((node.name, expired.node, view.epoch.hex(), view.next))

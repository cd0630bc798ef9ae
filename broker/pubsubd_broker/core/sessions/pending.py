"""Pending news: losses and the place of one stream, to be told to a session before it reads on there."""

from __future__ import annotations

from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.attach import Expired, merge
from pubsubd_protocol.frames import CursorExpired, Skip, StreamPosition
from pubsubd_protocol.positions import Position, StreamView


class Pending:
    """In this order: where it stands in a stream that is new to it, up to where nothing was for it, that its cursor
    expired.
    """

    __slots__ = ("_expired", "_node", "_passed", "_start", "waits")

    def __init__(self, node: str) -> None:
        self._node = node
        self._start: Position | None = None
        self._passed: Skip | None = None
        self._expired: CursorExpired | None = None
        self.waits = False
        """Whether there is something to tell."""

    @property
    def expired(self) -> bool:
        return self._expired is not None

    def begins(self, position: Position) -> None:
        self._start = position
        self.waits = True

    def take_start(self) -> Position | None:
        """The place in a new stream, if that waits here. The caller tells the session."""
        start, self._start = self._start, None
        self.waits = self._expired is not None
        return start

    def expires(self, expired: Expired, view: StreamView, passed: Skip | None) -> None:
        """A second expiry before the first was told becomes one notice with it, behind what was `passed` first."""
        earlier = self._expired
        if earlier is not None:
            expired = merge(Expired(earlier.reason, earlier.view.next, earlier.missed), expired)
        self._passed = self._passed or passed
        self._expired = CursorExpired(self._node, expired.reason, expired.missed, view)
        self.waits = True

    def tell(self, out: Outgoing) -> bool:
        """Returns whether an expiry was among it."""
        start = self.take_start()
        if start is not None:
            out.frame(StreamPosition(self._node, start))
        if self._expired is None:
            return False
        if self._passed is not None:
            out.frame(self._passed)
        out.frame(self._expired)
        self.clear()
        return True

    def clear(self) -> None:
        self._start = self._passed = self._expired = None
        self.waits = False

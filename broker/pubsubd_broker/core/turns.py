"""Turns: which connections may have something to send, and whose turn it is where more are ready than can be served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pubsubd_broker.core.connection import Connection

Lane = tuple[object, bool]
"""Whose connections they are, and whether they read: who has a thousand of them gets no more turns than who has one."""


def in_turns(ready: Iterable[Connection]) -> list[Connection]:
    """The same, one of each lane after the other: the lane that comes first begins, and within one nothing changes."""
    lanes: dict[Lane, deque[Connection]] = {}
    for connection in ready:
        lanes.setdefault(connection.lane, deque()).append(connection)
    waiting = deque(lanes.values())
    turns: list[Connection] = []
    while waiting:
        lane = waiting.popleft()
        turns.append(lane.popleft())
        if lane:
            waiting.append(lane)
    return turns


class Turns:
    """The connections that may have something to send, each once."""

    __slots__ = ("_crowded", "_ready")

    def __init__(self) -> None:
        self._ready: dict[Connection, None] = {}
        self._crowded = False

    def __bool__(self) -> bool:
        """Whether some connection may have something to send."""
        return bool(self._ready)

    def wake(self, connection: Connection) -> None:
        """`connection` may have something to send."""
        self._ready[connection] = None

    def take(self) -> list[Connection]:
        """All of them, in the order in which they woke; one of each lane after the other while there are too many."""
        ready = list(self._ready)
        self._ready.clear()
        if self._crowded:
            self._crowded = False
            return in_turns(ready)
        return ready

    def put_off(self, connections: list[Connection]) -> None:
        """Those of `take` whose turn did not come are first the next time."""
        self._ready = dict.fromkeys(connections) | self._ready
        self._crowded = bool(self._ready)

    def forget(self, connection: Connection) -> None:
        """`connection` is gone."""
        self._ready.pop(connection, None)

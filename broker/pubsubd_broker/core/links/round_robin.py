"""Turns: which connections may have something to send, and whose turn it is where more are ready than can be served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

C = TypeVar("C")
"""A connection. Turns need nothing of it but its lane."""

LaneOf = Callable[[C], Hashable]
"""Names the lane of a connection: all of one lane share its turns."""


def in_turns(ready: Iterable[C], lane_of: LaneOf[C]) -> list[C]:
    """The same, one of each lane after the other: the lane that comes first begins, and within one nothing changes."""
    lanes: dict[Hashable, deque[C]] = {}
    for connection in ready:
        lanes.setdefault(lane_of(connection), deque()).append(connection)
    waiting = deque(lanes.values())
    turns: list[C] = []
    while waiting:
        lane = waiting.popleft()
        turns.append(lane.popleft())
        if lane:
            waiting.append(lane)
    return turns


class Turns(Generic[C]):
    """The connections that may have something to send, each once."""

    __slots__ = ("_crowded", "_lane_of", "_ready")

    def __init__(self, lane_of: LaneOf[C]) -> None:
        self._lane_of = lane_of
        self._ready: dict[C, None] = {}
        self._crowded = False

    def __bool__(self) -> bool:
        """Whether some connection may have something to send."""
        return bool(self._ready)

    def wake(self, connection: C) -> None:
        """`connection` may have something to send."""
        self._ready[connection] = None

    def take(self) -> list[C]:
        """All of them, in the order in which they woke; one of each lane after the other while there are too many."""
        ready = list(self._ready)
        self._ready.clear()
        if self._crowded:
            self._crowded = False
            return in_turns(ready, self._lane_of)
        return ready

    def put_off(self, connections: list[C]) -> None:
        """Those of `take` whose turn did not come are first the next time."""
        self._ready = dict.fromkeys(connections) | self._ready
        self._crowded = bool(self._ready)

    def forget(self, connection: C) -> None:
        """`connection` is gone."""
        self._ready.pop(connection, None)

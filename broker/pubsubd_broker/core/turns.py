"""Whose turn it is, where more are ready than can be served at once."""

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

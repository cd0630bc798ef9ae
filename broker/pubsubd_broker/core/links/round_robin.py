"""Ready queue: the connections that may have something to send. Round robin by flow key where more are ready than can be served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

C = TypeVar("C")
"""A connection. The queue needs nothing of it but its flow key."""

FlowKeyOf = Callable[[C], Hashable]
"""Names the flow of a connection: all connections of one flow share its turns."""


def round_robin(ready: Iterable[C], key_of: FlowKeyOf[C]) -> list[C]:
    """`ready` in rounds, one connection of each flow a round. The flow that comes first begins; within a flow the order stays."""
    flows: dict[Hashable, deque[C]] = {}
    for connection in ready:
        flows.setdefault(key_of(connection), deque()).append(connection)
    waiting = deque(flows.values())
    turns: list[C] = []
    while waiting:
        flow = waiting.popleft()
        turns.append(flow.popleft())
        if flow:
            waiting.append(flow)
    return turns


class ReadyQueue(Generic[C]):
    """The connections that may have something to send, each once."""

    __slots__ = ("_crowded", "_key_of", "_ready", "wake")

    def __init__(self, key_of: FlowKeyOf[C]) -> None:
        self._key_of = key_of
        self._ready: dict[C, None] = {}
        self.wake: Callable[[C], None] = self._ready.setdefault
        """`wake(connection)`: it may have something to send. A method of the dictionary: this runs for every frame."""
        self._crowded = False

    def __bool__(self) -> bool:
        """Whether some connection may have something to send."""
        return bool(self._ready)

    def take(self) -> list[C]:
        """Empties the queue. The order is that of waking; after `put_off` it is round robin by flow key."""
        ready = list(self._ready)
        self._ready.clear()
        if self._crowded:
            self._crowded = False
            return round_robin(ready, self._key_of)
        return ready

    def put_off(self, connections: list[C]) -> None:
        """Puts back those of `take` whose turn did not come. They are first the next time."""
        woken = list(self._ready)
        self._ready.clear()
        self._ready.update(dict.fromkeys((*connections, *woken)))
        self._crowded = bool(self._ready)

    def forget(self, connection: C) -> None:
        """`connection` is gone."""
        self._ready.pop(connection, None)

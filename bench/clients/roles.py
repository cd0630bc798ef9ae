"""The tasks of a contestant's publisher and reader, in a worker's process on uvloop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from bench.feed import Value
from bench.workloads import Workload

Mode = Literal["fast", "bulk", "receipts"]
"""`receipts`: a message counts as published only when it is confirmed."""

Take = Callable[[list[Value]], None]

Messages = Iterable[tuple[str, Value]]
"""Topic and value of each message."""


class Publisher(Protocol):
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None: ...

    async def open(self) -> None: ...

    async def stream(self, messages: Messages) -> None:
        """Publish all as fast as the mode allows. Returns when the client has finished."""

    async def one(self, topic: str, value: Value) -> None:
        """Publish one message and wait until it is confirmed. Many such waits may run at once."""

    async def soon(self, topic: str, value: bytes) -> None:
        """Publish one message at once, confirmed or not."""


class Reader(Protocol):
    def __init__(self, at: str, workload: Workload) -> None: ...

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        """Subscribe. Returns when every message published from now on will arrive.

        `pattern` is a prefix: all topics below it. `earliest`: begin with the stored messages.
        """

    async def read(self, take: Take) -> None:
        """Hand over decoded values until cancelled. Raises if the client reports a loss."""


def as_json(workload: Workload) -> tuple[Callable[[Value], bytes], Callable[[bytes], Value]]:
    """To bytes and back, for a client without a codec: dicts as its users encode them, with `json`."""
    if workload.dicts:
        return _dump, json.loads
    return _same, _same


def _dump(value: Value) -> bytes:
    return json.dumps(value).encode()


def _same(value: Value) -> Value:
    return value

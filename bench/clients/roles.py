"""What a contestant's publisher and reader have to be able to do, in a worker's process on uvloop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from bench.feed import Value
from bench.workloads import Workload

Mode = Literal["fast", "bulk", "receipts"]
"""`receipts`: nothing counts as published before it was confirmed."""

Take = Callable[[list[Value]], None]

Messages = Iterable[tuple[str, Value]]
"""Topic and value of each."""


class Publisher(Protocol):
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None: ...

    async def open(self) -> None: ...

    async def stream(self, messages: Messages) -> None:
        """Publishes all as fast as the mode allows; returns when the client has nothing more to do."""

    async def one(self, topic: str, value: Value) -> None:
        """Publishes one and waits until it is confirmed; many may wait at once."""

    async def soon(self, topic: str, value: bytes) -> None:
        """Publishes one at once; whether it is confirmed does not matter."""


class Reader(Protocol):
    def __init__(self, at: str, workload: Workload) -> None: ...

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        """Subscribes; returns when nothing that is published from now on is missed.

        `pattern` is a prefix: all topics below it. `earliest`: begins with what is stored.
        """

    async def read(self, take: Take) -> None:
        """Hands over decoded values until it is cancelled. Raises if the client reports a loss."""


def as_json(workload: Workload) -> tuple[Callable[[Value], bytes], Callable[[bytes], Value]]:
    """To bytes and back, where the client has no codec: dicts as their users do it, with `json`."""
    if workload.dicts:
        return _dump, json.loads
    return _same, _same


def _dump(value: Value) -> bytes:
    return json.dumps(value).encode()


def _same(value: Value) -> Value:
    return value

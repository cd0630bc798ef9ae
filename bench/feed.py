"""The messages of a workload: their topics, their values, and their weight for the count at the reader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from bench.workloads import Workload

Value = Any
"""`bytes`, or a dict of five fields: the value that an application hands to its client."""

CYCLE: Final = 1000
"""The number of messages after which topics and values repeat."""

TOPIC_PREFIX: Final = "bench"
IDLE_PREFIX: Final = "idle"


def topics_of(workload: Workload) -> list[str]:
    return [f"{TOPIC_PREFIX}.room{i:04d}" for i in range(workload.topics)]


def values_of(workload: Workload) -> list[Value]:
    """The values of one cycle, made beforehand: making them is not measured."""
    if not workload.dicts:
        return [bytes(workload.payload_bytes)] * CYCLE
    return [
        {
            "id": i,
            "kind": "order.created",
            "customer": f"customer-{i:06d}",
            "amount": 1999.5 + i,
            "paid": i % 2 == 0,
        }
        for i in range(CYCLE)
    ]


def weight_of(value: Value) -> int:
    """The number that the reader adds up: the length of bytes, or a field of a dict."""
    return value["id"] if isinstance(value, dict) else len(value)


class Feed:
    """Gives the messages out, in one endless order."""

    def __init__(self, workload: Workload) -> None:
        topics = topics_of(workload)
        values = values_of(workload)
        self._weights = [0, *itertools.accumulate(map(weight_of, values))]
        self._pairs = itertools.cycle(
            [(topics[i % len(topics)], value) for i, value in enumerate(values)]
        )
        self._given = 0

    def take(self, count: int) -> Iterator[tuple[str, Value]]:
        """The next `count` messages as (topic, value)."""
        self._given += count
        return itertools.islice(self._pairs, count)

    def weight(self, count: int) -> int:
        """The weight of the last `count` messages together."""
        return self._until(self._given) - self._until(self._given - count)

    def _until(self, index: int) -> int:
        cycles, rest = divmod(index, CYCLE)
        return cycles * self._weights[-1] + self._weights[rest]

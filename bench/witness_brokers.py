"""CPU cost of the life file in whole brokers: two of them take the same publishes by turns, and only one records.

The client waits for each receipt, so each message is a batch: the dearest case of a cost for each batch. Times are
CPU time of the broker's process, user and system.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import pubsubd
from bench.processes import Child
from bench.procfs import cpu_seconds
from bench.servers.base import Command
from bench.witness import IN_MEMORY

BLOCK: Final = 2000
"""Publishes of one turn: some hundred milliseconds, as the kernel counts in ticks of 10."""

SIDES: Final = {"witnessed": "pubsubd_cli", "without": "bench.unwitnessed"}
"""The module that starts the broker."""


class Side:
    """A broker, and a client that publishes there."""

    def __init__(self, python: Command, module: str, folder: Path) -> None:
        self._socket = folder / f"{module}.sock"
        options = ["--node", "a", "--socket", str(self._socket), "--no-listen", "--no-http"]
        command = [*python, "-m", module, "start", *options, "--log-format", "json"]
        self.broker = Child(module, command, folder)
        self._client: pubsubd.Client | None = None

    async def open(self) -> None:
        self.broker.wait(lambda: '"broker.started"' in self.broker.said(), "broker.started")
        self._client = await pubsubd.connect(str(self._socket), codec=pubsubd.RAW)

    async def block_us(self, payload: bytes) -> float:
        """Publish a block. Returns the broker's microseconds for each."""
        assert self._client is not None
        publish = self._client.publish
        began_s = cpu_seconds(self.broker.pid)
        for _ in range(BLOCK):
            await publish("topic", payload)
        return (cpu_seconds(self.broker.pid) - began_s) / BLOCK * 1e6

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
        self.broker.end()


async def _measured(
    python: Command, payload: bytes, window_s: float, folder: Path
) -> dict[str, float]:
    sides = {name: Side(python, module, folder) for name, module in SIDES.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    try:
        for side in sides.values():
            await side.open()
            await side.block_us(payload)
        ends_s = time.perf_counter() + window_s
        order = list(sides)
        while time.perf_counter() < ends_s or not taken["without"]:
            for name in order:
                taken[name].append(await sides[name].block_us(payload))
            order.reverse()
    finally:
        for side in sides.values():
            await side.close()
    without, witnessed = (statistics.fmean(taken[name]) for name in ("without", "witnessed"))
    return {
        "broker_us.without": without,
        "broker_us.witnessed": witnessed,
        "witness_broker_ratio": witnessed / without,
    }


def measure(python: Command, payload_bytes: int, window_s: float) -> dict[str, float]:
    """`python` runs the brokers. Raises `Broken`."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as folder:
        return asyncio.run(_measured(python, bytes(payload_bytes), window_s, Path(folder)))

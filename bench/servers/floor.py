"""Bare relays in the place of brokers."""

from __future__ import annotations

from pathlib import Path

from bench.processes import free_port
from bench.servers.base import Command, Servers
from bench.workloads import Workload


class FloorServers(Servers):
    """publisher -> Unix socket -> relay a -> TCP -> relay b -> Unix socket -> reader; or without TCP and relay b."""

    def __init__(self, folder: Path, workload: Workload, python: Command) -> None:
        super().__init__(folder, workload, python)
        self._between = [f"127.0.0.1:{free_port()}" for _ in range(workload.nodes - 1)]

    def start(self) -> None:
        # As with brokers, the reading side dials.
        sources = [self.publish_at, *(f"dial:{each}" for each in self._between)]
        sinks = [*((each, 1) for each in self._between), (self.read_at, self.workload.sessions)]
        for name, source, (sink, count) in zip("ab", sources, sinks, strict=False):
            self._relay(f"relay-{name}", source, sink, count)

    @property
    def publish_at(self) -> str:
        return str(self.folder / "publish.sock")

    @property
    def read_at(self) -> str:
        return str(self.folder / "read.sock")

    def _relay(self, name: str, source: str, sink: str, sinks: int) -> None:
        command = [*self.python, "-m", "bench.floor.relay", source, sink, str(sinks)]
        relay = self.run(name, command)
        relay.wait(lambda: "ready" in relay.said(), "its sockets")

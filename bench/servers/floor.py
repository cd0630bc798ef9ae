"""Two bare relays in the place of two brokers."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.processes import free_port
from bench.servers.base import Servers
from bench.workloads import Workload


class FloorServers(Servers):
    """publisher -> Unix socket -> relay a -> TCP -> relay b -> Unix socket -> reader."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        super().__init__(folder, workload)
        self._port = free_port()

    def start(self) -> None:
        between = f"127.0.0.1:{self._port}"
        self._relay("relay-a", self.publish_at, between)
        # As with brokers, the reading side dials.
        self._relay("relay-b", f"dial:{between}", self.read_at)

    @property
    def publish_at(self) -> str:
        return str(self.folder / "publish.sock")

    @property
    def read_at(self) -> str:
        return str(self.folder / "read.sock")

    def _relay(self, name: str, source: str, sink: str) -> None:
        relay = self.run(name, [sys.executable, "-m", "bench.floor.relay", source, sink])
        relay.wait(lambda: "ready" in relay.said(), "its sockets")

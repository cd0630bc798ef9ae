"""A Redis server that keeps nothing on disk, or writes each command before its answer."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.processes import answers, free_port
from bench.servers.base import Command, Servers
from bench.workloads import Workload


def redis_server() -> str | None:
    return shutil.which("redis-server")


class RedisServers(Servers):
    """Defaults, but for persistence, which is off, and for the limit at which a slow subscriber is cut off."""

    def __init__(
        self, folder: Path, workload: Workload, python: Command, *, durable: bool = False
    ) -> None:
        super().__init__(folder, workload, python)
        self._durable = durable
        self._port = free_port()

    def start(self) -> None:
        binary = redis_server()
        assert binary is not None
        server = self.run(
            "redis-server",
            [
                binary,
                *("--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self.folder)),
                *("--save", "", "--appendonly", "yes" if self._durable else "no"),
                *("--appendfsync", "always"),
                *("--client-output-buffer-limit", "pubsub", "0", "0", "0"),
            ],
        )
        server.wait(lambda: answers(self._port), "connection")

    @property
    def publish_at(self) -> str:
        return f"redis://127.0.0.1:{self._port}"

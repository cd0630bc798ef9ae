"""A NATS server, with or without JetStream."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from bench.processes import answers, free_port
from bench.servers.base import Command, Servers
from bench.workloads import Workload

NATS_PENDING_BYTES = 1024**3
"""Bytes that the server holds for a slow reader before it cuts the reader off; the default is 64 MiB."""


def nats_server() -> str | None:
    """The server's program: beside this Python, as the package brings it, or on the path."""
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsServers(Servers):
    def __init__(
        self,
        folder: Path,
        workload: Workload,
        python: Command,
        *,
        jetstream: bool = False,
        durable: bool = False,
    ) -> None:
        super().__init__(folder, workload, python)
        self._port = free_port()
        self._jetstream = jetstream
        self._durable = durable

    def start(self) -> None:
        binary = nats_server()
        assert binary is not None
        settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self._port,
            "max_pending": NATS_PENDING_BYTES,
        }
        if self._jetstream:
            settings["jetstream"] = {"store_dir": str(self.folder / "jetstream")}
            if self._durable:
                settings["jetstream"]["sync_interval"] = "always"
        # The server's own format takes JSON as well.
        file = self.folder / "nats.conf"
        file.write_text(json.dumps(settings))
        server = self.run("nats-server", [binary, "--config", str(file)])
        server.wait(lambda: answers(self._port), "connection")

    @property
    def publish_at(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

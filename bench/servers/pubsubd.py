"""The publisher's broker `a` and the reader's `b` with TCP between them, or one broker for both."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

from bench.processes import Child, free_port
from bench.servers.base import Command, Servers
from bench.workloads import MIB, Workload


def settings_of(workload: Workload) -> dict[str, str]:
    """The settings that differ from the defaults of `pubsubd start`.

    They belong to the results: they matter if more is read back than ring and replica hold.
    """
    if workload.keep_bytes:
        return {"ring-bytes": f"{workload.keep_bytes // MIB}MiB"}
    if workload.fill_messages:
        return {
            "ring-messages": str(workload.fill_messages),
            "replica-messages": str(workload.fill_messages),
            "replica-bytes": "64MiB",
        }
    return {}


NODES: Final = ("a", "b")


class PubsubdServers(Servers):
    """Brokers on free ports, with the defaults of `pubsubd start` beside `settings_of`."""

    def __init__(
        self, folder: Path, workload: Workload, python: Command, *, fsync: str | None = None
    ) -> None:
        super().__init__(folder, workload, python)
        self._fsync = fsync
        self._nodes = NODES[: workload.nodes]
        self._ports = {node: free_port() for node in self._nodes}

    def start(self) -> None:
        publishing = self._start(self._nodes[0])
        if self.workload.kind != "catchup":
            self.start_reading_side()
            for _ in self._nodes[1:]:
                self._wait_log(publishing, "peer.attached")

    def start_reading_side(self) -> None:
        for node in self._nodes[1:]:
            self._wait_log(self._start(node), "peer.attached")

    def pause_reading_side(self) -> None:
        self.children["broker-b"].process.send_signal(signal.SIGSTOP)

    def resume_reading_side(self) -> None:
        self.children["broker-b"].process.send_signal(signal.SIGCONT)

    @property
    def publish_at(self) -> str:
        return self._socket(self._nodes[0])

    @property
    def read_at(self) -> str:
        return self._socket(self._nodes[-1])

    def _socket(self, node: str) -> str:
        return str(self.folder / f"{node}.sock")

    def _start(self, node: str) -> Child:
        options = {
            "node": node,
            "socket": self._socket(node),
            "listen": f"127.0.0.1:{self._ports[node]}",
            "http": "127.0.0.1:0",
            "log-format": "json",
            **settings_of(self.workload),
        }
        for peer in self._ports.keys() - {node}:
            options["peer"] = f"127.0.0.1:{self._ports[peer]}"
        if self._fsync is not None:
            options |= {"journal": str(self.folder / f"{node}.journal"), "fsync": self._fsync}
        flags = [each for name, value in options.items() for each in (f"--{name}", value)]
        broker = self.run(f"broker-{node}", [*self.python, "-m", "pubsubd_cli", "start", *flags])
        self._wait_log(broker, "broker.started")
        return broker

    def _wait_log(self, broker: Child, event: str) -> None:
        broker.wait(lambda: f'"{event}"' in broker.said(), event)

"""The common part of every contestant's servers."""

from __future__ import annotations

import signal
from pathlib import Path

from bench.processes import Child
from bench.workloads import Workload

Command = tuple[str, ...]
"""The beginning of a command that runs Python; `-m MODULE` can follow."""


class Servers:
    """The servers of one contestant in one round. `close` ends all that was started."""

    def __init__(self, folder: Path, workload: Workload, python: Command) -> None:
        self.folder = folder
        self.workload = workload
        self.python = python
        self.children: dict[str, Child] = {}

    def start(self) -> None:
        """Returns when a publisher and a reader can connect."""

    def start_reading_side(self) -> None:
        """Start the servers that, for catching up, must start only when all is stored."""

    def pause_reading_side(self) -> None:
        """Stop the reader's broker, as under a stopped virtual machine."""
        raise NotImplementedError

    def resume_reading_side(self) -> None:
        raise NotImplementedError

    @property
    def publish_at(self) -> str:
        """The publisher's address, as its client takes it."""
        return ""

    @property
    def read_at(self) -> str:
        return self.publish_at

    def run(self, name: str, command: list[str]) -> Child:
        child = self.children[name] = Child(name, command, self.folder)
        return child

    def close(self, how: signal.Signals = signal.SIGKILL) -> None:
        for child in self.children.values():
            child.end(how)


class NoServers(Servers):
    """No server: the contestant's publisher and reader talk to each other."""

    @property
    def publish_at(self) -> str:
        return str(self.folder / "direct.sock")

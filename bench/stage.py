"""All processes of one round of one contestant: its servers, a publisher, a reader. The stage ends all of them."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench import procfs
from bench.contestants import Contestant
from bench.feed import IDLE_PREFIX, TOPIC_PREFIX
from bench.processes import Answer, Child, Worker
from bench.workloads import Workload

STALL_S = 4.0
"""Seconds without a message after which missing ones count as lost."""

WINDOW_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Passed:
    """Messages that went all the way. `void`: the reason why their figures do not count; None if they do."""

    published: Answer
    seen: Answer
    void: str | None


class Stage:
    """`with Stage(contestant, workload) as stage`: the servers run, publisher and reader are connected.

    With `connect=False` the servers only; `connect_publisher` and `connect_reader` do the rest.
    """

    def __init__(self, contestant: Contestant, workload: Workload, *, connect: bool = True) -> None:
        self.contestant = contestant
        self.workload = workload
        self._connect = connect
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        try:
            # Keep it short: a socket's path has to fit into 107 bytes.
            folder = Path(tempfile.mkdtemp(prefix="bench-"))
            self._closing.callback(shutil.rmtree, folder, ignore_errors=True)
            self.folder = folder
            self.servers = self.contestant.servers(folder, self.workload, self.contestant.python)
            self._closing.callback(self.servers.close)
            # The workers import while the servers start.
            self.publisher = self._worker("publisher")
            self.reader = self._worker("reader")
            self.servers.start()
            if self._connect:
                if self.workload.idle_sessions:
                    self.open_idle_sessions()
                self.connect_reader()
                self.connect_publisher()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def connect_publisher(self) -> None:
        self.publisher.ask("open", at=self.servers.publish_at)

    def connect_reader(self, *, earliest: bool = False) -> None:
        self._subscribe(self.reader, TOPIC_PREFIX, self.workload.sessions, earliest=earliest)

    def open_idle_sessions(self) -> None:
        """Subscriptions to topics without messages, in a process of their own."""
        idler = self._worker("idler")
        self._subscribe(idler, IDLE_PREFIX, self.workload.idle_sessions)

    def pass_through(self, count: int, do: str = "publish") -> Passed:
        """Publish `count` messages and wait until the reader has them in all its sessions."""
        expected = count * self.workload.sessions
        self.reader.ask("expect", count=expected)
        self.reader.tell("window", stall_s=STALL_S)
        published = self.publisher.ask(do, timeout_s=WINDOW_TIMEOUT_S, count=count)
        seen = self.reader.hear(WINDOW_TIMEOUT_S)
        weight = published["weight"] * self.workload.sessions
        return Passed(published, seen, verdict(expected, weight, seen))

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds of each process, since it started."""
        return {name: procfs.cpu_seconds(each.pid) for name, each in self.processes().items()}

    def server_memory(self) -> dict[str, int]:
        """Resident bytes of each server."""
        return {
            name: procfs.resident_bytes(child.pid) for name, child in self.servers.children.items()
        }

    def processes(self) -> dict[str, Child]:
        """Publisher, servers and reader, in the order in which a message passes them."""
        return {"publisher": self.publisher, **self.servers.children, "reader": self.reader}

    def _worker(self, name: str) -> Worker:
        role = "publisher" if name == "publisher" else "reader"
        arguments = [role, self.contestant.name, self.workload.name]
        worker = Worker(name, self.contestant.python, arguments, self.folder)
        self._closing.callback(worker.end)
        return worker

    def _subscribe(
        self, worker: Worker, pattern: str, sessions: int, *, earliest: bool = False
    ) -> None:
        worker.ask(
            "open",
            at=self.servers.read_at,
            pattern=pattern,
            sessions=sessions,
            earliest=earliest,
            timeout_s=WINDOW_TIMEOUT_S,
        )


def verdict(expected: int, weight: float, seen: Answer) -> str | None:
    """The reason why a window is void: every message must arrive, once, at the reader."""
    count = int(seen["count"])
    if count < expected:
        return f"{expected - count:,} of {expected:,} messages did not arrive"
    if count > expected or seen["surplus"]:
        return f"{count - expected + int(seen['surplus']):,} messages arrived more than once"
    if seen["weight"] != weight:
        return "what arrived is not what was published"
    return None

"""What each broker holds, looked at again and again while it is under load."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.integration.cluster import Broker
from tests.integration.proc import descriptors, memory_kib
from tests.soak.trend import Bound

Sample = dict[str, float]
"""Figure by its name in `BOUNDS`."""

BOUNDS: Final[dict[str, Bound]] = {
    "memory MiB": Bound(share=0.05, least=3.0),
    "descriptors": Bound(share=0.0, least=2.0),
    "threads": Bound(share=0.0, least=1.0),
    "tasks": Bound(share=0.0, least=2.0),
    "sessions": Bound(share=0.0, least=2.0),
    "connections": Bound(share=0.0, least=2.0),
    "journal MiB": Bound(share=0.05, least=4.0),
}
"""How much each may grow over a run. Whatever is counted may not grow, give or take one or two that come and go; memory
may by what an allocator does, which is 3 MiB over millions of messages and thousands of connections: far less than a
byte for one of the former, some hundred bytes for one of the latter. The journal goes up and down by its segments."""

GIVEN_BACK: Final = ("descriptors", "tasks", "sessions", "connections")
"""What is as it was before, once everybody has left. Memory is not, as the rings are full; nor are threads, as a pool
keeps those that it once needed."""


def look(broker: Broker) -> Sample:
    """Raises `OSError` or `LookupError` while it is not there."""
    status = broker.status()
    pid = broker.pid
    sample = {
        "memory MiB": memory_kib(pid) / 1024,
        "descriptors": descriptors(pid),
        "threads": _threads(pid),
        "tasks": status["tasks"],
        "sessions": sum(1 for session in status["sessions"] if session["connected"]),
        "connections": status["connections"],
    }
    folder = broker.options.get("journal")
    if folder is not None:
        sample["journal MiB"] = _folder_bytes(Path(folder)) / 2**20
    return sample


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _folder_bytes(folder: Path) -> int:
    size = 0
    for file in folder.iterdir():
        # A segment may just have been dropped.
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


class Samples:
    """Takes them in a thread of its own, from `start()` to `stop()`."""

    def __init__(self, brokers: Iterable[Broker], every_s: float) -> None:
        self.series: dict[str, dict[int, list[tuple[float, Sample]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        """Of each broker and each of its processes, with the seconds since this one was first seen."""
        self.missed = 0
        """How often a broker was not there, or too busy to answer."""
        self._brokers = list(brokers)
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._began: dict[int, float] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def longest_life(self, node: str, warm_up_s: float) -> list[tuple[float, Sample]]:
        """What was sampled of the process of this broker that lived longest, its first moments left out."""
        lives = self.series[node].values()
        life = max(lives, key=lambda samples: samples[-1][0], default=[])
        return [(at_s, sample) for at_s, sample in life if at_s >= warm_up_s]

    def most(self, node: str, figure: str) -> float:
        """Over all its lives."""
        lives = self.series[node].values()
        return max((sample[figure] for life in lives for _, sample in life), default=0.0)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            for broker in self._brokers:
                self._take(broker)

    def _take(self, broker: Broker) -> None:
        try:
            pid = broker.pid
            sample = look(broker)
        except (OSError, LookupError, RuntimeError):
            self.missed += 1
            return
        now = time.monotonic()
        at_s = now - self._began.setdefault(pid, now)
        self.series[broker.node][pid].append((at_s, sample))

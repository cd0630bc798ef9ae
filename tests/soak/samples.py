"""The figures of each broker, sampled again and again while it is under load."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.integration.broker import Broker
from tests.integration.proc import descriptors, memory_kib
from tests.soak.trend import Bound

Sample = dict[str, float]
"""Values by the figure's name in `BOUNDS`."""

BOUNDS: Final[dict[str, Bound]] = {
    "memory MiB": Bound(share=0.05, least=3.0),
    "descriptors": Bound(share=0.0, least=2.0),
    "threads": Bound(share=0.0, least=1.0),
    "tasks": Bound(share=0.0, least=2.0),
    "sessions": Bound(share=0.0, least=2.0),
    "connections": Bound(share=0.0, least=2.0),
    "journal MiB": Bound(share=0.05, least=4.0),
}
"""AllowedUsers growth of each figure over a run.

Counted things may not grow, but for one or two that come and go. Memory may grow by 3 MiB, the work of an allocator
over millions of messages and thousands of connections: less than a byte a message, some hundred bytes a connection.
The journal goes up and down by its segments.
"""

GIVEN_BACK: Final = ("descriptors", "tasks", "sessions", "connections")
"""Figures that fall back once all applications have left.

Memory does not, as the rings are full. Threads do not, as a pool keeps its threads.
"""


def look(broker: Broker) -> Sample:
    """The figures of one broker now. Raises `OSError` or `LookupError` while the broker is away."""
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
        # The broker may just have dropped a segment.
        with contextlib.suppress(FileNotFoundError):
            size += file.stat().st_size
    return size


class Samples:
    """Takes samples in a thread of its own, from `start()` to `stop()`."""

    def __init__(self, brokers: Iterable[Broker], every_s: float) -> None:
        self.series: dict[str, dict[int, list[tuple[float, Sample]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        """The series of each broker and each of its processes, with the seconds since the process was first seen."""
        self.missed = 0
        """Samples that failed, as a broker was away or too busy to answer."""
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
        """The series of the longest life of this broker, without its first moments."""
        lives = self.series[node].values()
        life = max(lives, key=lambda samples: samples[-1][0], default=[])
        return [(at_s, sample) for at_s, sample in life if at_s >= warm_up_s]

    def most(self, node: str, figure: str) -> float:
        """The largest value over all lives."""
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

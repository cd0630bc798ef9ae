"""CPU cost of the life file for a publish. `python -m bench.witness BYTES SECONDS` prints the figures as one JSON
object.

Two streams in one process take the same batches by turns, a short block each. One stream records in a mapped file how
far it has accepted, as a broker does; the other does not. A slow moment of the process slows both, so the ratio of
two neighbouring blocks says more than either time. Times are CPU time of this process, without garbage collection.
Sockets are left out: a whole broker spends more on a publish.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Final

from bench.processes import ROOT, Broken
from bench.servers.base import Command
from pubsubd_broker.core.limits import PUBLISH_WINDOW, Now
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.streams.publishers import PublisherRecord
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_broker.journal.life_record import DiskRecord
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.positions import EPOCH_BYTES, Epoch

BLOCK: Final = 100
"""Publishes in one block: a millisecond or two, which is seldom interrupted."""

RING_MESSAGES: Final = 10_000
"""Small, so that the ring has come round before the first measured block."""

PUBLISHER: Final = bytes(16)
EPOCH: Final = Epoch(b"\x01" * EPOCH_BYTES)
NOW: Final = Now(1, 1)
IN_MEMORY: Final = "/dev/shm"
"""Memory, like /run, where most sockets lie."""


def unnoted(following: int) -> None:
    """Records nothing."""


class Unheld:
    """Brings batches to a stream that never holds a publisher."""

    def retry(self, now: Now) -> None:
        raise AssertionError("it was never held")


class Side:
    """Either of the two streams, and the publisher whose batches of one message it takes."""

    def __init__(self, payload_bytes: int, accepted: Callable[[int], None]) -> None:
        self.stream = Stream(
            "a",
            EPOCH,
            ring_messages=RING_MESSAGES,
            ring_bytes=2**30,
            max_message=2**20,
            pace=Pace(0),
            accepted=accepted,
        )
        self._publisher = PublisherRecord(PUBLISH_WINDOW)
        self._unheld = Unheld()
        self._payload = bytes(payload_bytes)
        self._length = payload_bytes.to_bytes(4, "little")
        self._sequence = 0

    def block_us(self) -> float:
        """Publish a block. Returns the microseconds for each."""
        batches = [
            Batch(number, False, None, "topic", b"", self._length, self._payload)
            for number in range(self._sequence + 1, self._sequence + BLOCK + 1)
        ]
        self._sequence += BLOCK
        publish, publisher, unheld = self.stream.publish, self._publisher, self._unheld
        began_ns = time.thread_time_ns()
        for batch in batches:
            publish(batch, publisher, PUBLISHER, NOW, unheld)
        return (time.thread_time_ns() - began_ns) / BLOCK / 1000


def measured(payload_bytes: int, window_s: float) -> dict[str, float]:
    """The figures of this process. See `measure`."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as folder:
        record = DiskRecord(os.path.join(folder, "socket"), "a")
        record.begin(EPOCH, None, None)
        without, witnessed = Side(payload_bytes, unnoted), Side(payload_bytes, record.accepted)
        for _ in range(2 * RING_MESSAGES // BLOCK):
            without.block_us()
            witnessed.block_us()
        gc.collect()
        gc.disable()
        pairs: list[tuple[float, float]] = []
        ends_s = time.perf_counter() + window_s
        while time.perf_counter() < ends_s or not pairs:
            # Alternate the order within a pair, too: the second stream finds warmer caches.
            first, second = (without, witnessed) if len(pairs) % 2 else (witnessed, without)
            taken = {first: first.block_us(), second: second.block_us()}
            pairs.append((taken[without], taken[witnessed]))
    return {
        "publish_us.without": statistics.median(pair[0] for pair in pairs),
        "publish_us.witnessed": statistics.median(pair[1] for pair in pairs),
        "witness_us": statistics.median(pair[1] - pair[0] for pair in pairs),
        "witness_ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
    }


def measure(python: Command, payload_bytes: int, window_s: float) -> dict[str, float]:
    """`measured`, in a fresh process of `python`. Raises `Broken`."""
    command = [*python, "-m", "bench.witness", str(payload_bytes), str(window_s)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"bench.witness: {done.stderr.strip().rpartition(chr(10))[2]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), float(sys.argv[2]))))

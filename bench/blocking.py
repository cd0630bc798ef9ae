"""The blocking client beside redis-py's, in one run: `python -m bench.blocking`.

Each publishes 100 B and waits for the answer, with 1 and with 8 threads on one client, by turns. The broker of pubsubd
stands beside one redis-server, both without a disk. Printed: messages a second, and the p50 and p99 of a publish in µs, the
median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import redis

import pubsubd.sync

PAYLOAD: Final = b"x" * 100
WINDOW_S: Final = 2.0
THREADS: Final = (1, 8)

Publish = Callable[[], object]


@contextmanager
def started(command: list[str], socket: Path) -> Iterator[None]:
    """A server that has made its socket."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not socket.exists():
                if server.poll() is not None:
                    raise SystemExit(f"{command[0]} ended with {server.returncode}")
                time.sleep(0.01)
            yield
        finally:
            server.terminate()


def measured(publish: Publish, threads: int, window_s: float) -> tuple[float, list[float]]:
    """Calls a second of all threads together, and the seconds of each call."""
    took: list[list[float]] = [[] for _ in range(threads)]
    go = threading.Barrier(threads + 1)
    ends_s = [0.0]

    def run(mine: list[float]) -> None:
        go.wait()
        clock = time.perf_counter
        while (began_s := clock()) < ends_s[0]:
            publish()
            mine.append(clock() - began_s)

    workers = [threading.Thread(target=run, args=(mine,)) for mine in took]
    for worker in workers:
        worker.start()
    ends_s[0] = time.perf_counter() + window_s
    go.wait()
    for worker in workers:
        worker.join()
    every = [each for mine in took for each in mine]
    return len(every) / window_s, every


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.blocking", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default=sys.executable, help="the Python of the broker")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker, server = folder / "pubsubd.sock", folder / "redis.sock"
        stack.enter_context(
            started(
                [
                    *(options.python, "-m", "pubsubd_cli", "start", "--node", "a"),
                    *("--no-listen", "--no-http", "--socket", str(broker)),
                ],
                broker,
            )
        )
        stack.enter_context(
            started(
                [
                    *("redis-server", "--port", "0", "--unixsocket", str(server)),
                    *("--save", "", "--appendonly", "no"),
                ],
                server,
            )
        )
        client = stack.enter_context(
            pubsubd.sync.connect(broker, codec=pubsubd.RAW, publish_timeout_s=60)
        )
        peer = redis.Redis(unix_socket_path=str(server))
        ways: dict[str, Publish] = {
            "pubsubd.sync publish": lambda: client.publish("t", PAYLOAD),
            "redis-py xadd": lambda: peer.xadd("t", {"p": PAYLOAD}, maxlen=100_000),
        }
        for threads in THREADS:
            rates: dict[str, list[float]] = {name: [] for name in ways}
            p50s: dict[str, list[float]] = {name: [] for name in ways}
            p99s: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, publish in ways.items():
                    measured(publish, threads, WINDOW_S / 10)
                    rate, took = measured(publish, threads, WINDOW_S)
                    rates[name].append(rate)
                    cuts = statistics.quantiles(took, n=100)
                    p50s[name].append(cuts[49] * 1e6)
                    p99s[name].append(cuts[98] * 1e6)
            for name in ways:
                print(
                    f"{name:22} {threads} threads: {statistics.median(rates[name]):8,.0f}/s  "
                    f"p50 {statistics.median(p50s[name]):6,.0f} µs  p99 {statistics.median(p99s[name]):6,.0f} µs"
                )
        began_s = time.perf_counter()
        count = 0
        while time.perf_counter() - began_s < WINDOW_S:
            client.send("t", PAYLOAD)
            count += 1
        client.flush()
        print(
            f"{'pubsubd.sync send':22} 1 threads: {count / (time.perf_counter() - began_s):8,.0f}/s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

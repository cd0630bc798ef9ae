"""Calls at a broker's doors that are not applications: strangers that vanish, slow callers, hostile bytes.

    python -m tests.soak.noise '{"seed": 1, "unix": ["/…"], "tcp": ["127.0.0.1:7420"], "http": […]}'

Runs until its standard input ends, then prints what it did, as JSON. It reads the addresses anew for each call. A
line of input with such an object replaces the first one, for a broker that was restarted at other addresses.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.integration import hostile
from tests.integration.hostile import RawConnection, hello
from tests.integration.relay import Address
from tests.integration.strangers import (
    ENDLESS_GREETING,
    ENDLESS_REQUEST,
    STAGES,
    SlowLoris,
    come,
    vanish,
)

CALLERS: Final = 3
PAUSE_S: Final = 0.03
SLOW_AT_ONCE: Final = 24
"""Slow calls at once, at all doors of all brokers. The admin HTTP server alone takes 64."""

DRIP_S: Final = 0.3
LARGEST: Final = 100_000
"""Bytes of the largest attack. Longer ones have tests of their own: here they would only use up processor time."""

_BY_ROLE: Final[tuple[tuple[str, str | None, dict[str, bytes]], ...]] = (
    ("unix", None, hostile.INSTEAD_OF_A_GREETING),
    ("unix", "publisher", hostile.AS_A_PUBLISHER),
    ("unix", "session", hostile.AS_A_SESSION),
    ("tcp", None, hostile.INSTEAD_OF_A_GREETING),
    ("tcp", "peer", hostile.AS_A_PEER),
    ("http", None, hostile.INSTEAD_OF_A_GREETING),
)

ATTACKS: Final[dict[str, list[tuple[str | None, bytes]]]] = {
    door: [
        (role, data)
        for at, role, attacks in _BY_ROLE
        if at == door
        for data in attacks.values()
        if len(data) <= LARGEST
    ]
    for door in ("unix", "tcp", "http")
}
"""Attacks by door: the role of the greeting, if there is a greeting, and the bytes after it."""


class Noise:
    """Threads that make the noise, from `start()` to `stop()`."""

    def __init__(self, doors: dict[str, list[str]], seed: int) -> None:
        self.doors = doors
        """The doors' addresses, by kind: "unix", "tcp" and "http"."""
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        turns: list[Callable[[random.Random], None]] = [self._call] * CALLERS
        self._threads = [
            threading.Thread(target=self._repeat, args=(turn, PAUSE_S, i), daemon=True)
            for i, turn in enumerate(turns)
        ]
        self._waiting: set[RawConnection] = set()
        self._slow: list[SlowLoris] = []
        self._threads.append(
            threading.Thread(target=self._repeat, args=(self._drip, DRIP_S, CALLERS), daemon=True)
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
            # Some doors keep a caller for half a minute.
            for raw in self._waiting:
                _hang_up(raw)
        for thread in self._threads:
            thread.join()
        for slow in self._slow:
            slow.close()

    def _repeat(self, turn: Callable[[random.Random], None], pause_s: float, which: int) -> None:
        chance = random.Random(f"{self._seed} {which}")
        while not self._stopping.wait(pause_s):
            # A refused or cut connection is what these calls are made for.
            with suppress(OSError):
                turn(chance)

    def _call(self, chance: random.Random) -> None:
        door, address = self._door(chance)
        match chance.choice(["vanish", "vanish", "attack"]):
            case "vanish" if door != "http":
                raw = come(address, chance.choice(STAGES))
                vanish(raw, reset=chance.random() < 0.5)
                self._count("strangers that vanished")
            case "vanish":
                with RawConnection(address) as raw:
                    raw.send(ENDLESS_REQUEST[: chance.randrange(60)])
                    self._count("strangers that vanished")
            case _:
                role, data = chance.choice(ATTACKS[door])
                with self._waits(address) as raw:
                    self._count(f"attacks on {address_text(address)}")
                    if role is not None:
                        raw.send(hello(role, name="stranger" if role == "peer" else ""))
                        raw.frame()
                    raw.send(data)
                    raw.ended()

    @contextmanager
    def _waits(self, address: Address) -> Iterator[RawConnection]:
        """A connection on which a thread waits for the broker: until the broker ends it, or `stop` does."""
        with RawConnection(address) as raw:
            with self._lock:
                self._waiting.add(raw)
                if self._stopping.is_set():
                    _hang_up(raw)
            try:
                yield raw
            finally:
                with self._lock:
                    self._waiting.discard(raw)

    def _drip(self, chance: random.Random) -> None:
        alive = [slow for slow in self._slow if slow.drip()]
        for slow in self._slow:
            if slow not in alive:
                slow.close()
        self._count("slow callers that were cut off", len(self._slow) - len(alive))
        self._slow = alive
        while len(self._slow) < SLOW_AT_ONCE:
            door, address = self._door(chance)
            text = ENDLESS_REQUEST if door == "http" else ENDLESS_GREETING
            self._slow.append(SlowLoris(address, text))

    def _door(self, chance: random.Random) -> tuple[str, Address]:
        door = chance.choice(["unix", "tcp", "http"])
        text = chance.choice(self.doors[door])
        host, _, port = text.rpartition(":")
        return door, text if door == "unix" else (host, int(port))

    def _count(self, what: str, more: int = 1) -> None:
        with self._lock:
            self.counts[what] += more


def _hang_up(raw: RawConnection) -> None:
    # The broker may have been first.
    with suppress(OSError):
        raw.socket.shutdown(socket.SHUT_RDWR)


def address_text(address: Address) -> str:
    return address if isinstance(address, str) else "{}:{}".format(*address)


def main() -> None:
    settings = json.loads(sys.argv[1])
    noise = Noise(settings, settings["seed"])
    noise.start()
    for line in sys.stdin:
        noise.doors = json.loads(line)
    noise.stop()
    sys.stdout.write(json.dumps(noise.counts) + "\n")


if __name__ == "__main__":
    main()

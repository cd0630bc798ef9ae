"""The process that makes the noise of a soak (`noise.py`), as the soak starts, tells and ends it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

from tests.faults.processes import ROOT
from tests.integration.broker import Broker
from tests.soak.ledger import Broken


class NoiseProcess:
    """Strangers at the doors of `brokers`, until `hush`."""

    def __init__(self, seed: int, brokers: Iterable[Broker]) -> None:
        self._seed = seed
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.noise", self._doors(brokers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def tell(self, brokers: Iterable[Broker]) -> None:
        """Say where the brokers listen by now."""
        assert self._process.stdin is not None
        self._process.stdin.write(self._doors(brokers).encode() + b"\n")
        self._process.stdin.flush()

    def hush(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def made(self) -> dict[str, int]:
        """The numbers of what was done, once the noise has ended. Raises `Broken`."""
        assert self._process.stdout is not None
        with self._process.stdout as said:
            made: dict[str, int] = json.loads(said.read())
        if self._process.wait():
            raise Broken("the noise ended by itself")
        return made

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _doors(self, brokers: Iterable[Broker]) -> str:
        at = list(brokers)
        doors = {
            "seed": self._seed,
            "unix": [broker.socket for broker in at],
            "tcp": [broker.listen for broker in at],
            "http": [broker.http for broker in at],
        }
        return json.dumps(doors)

"""An application's process, started and stopped by the run that plays the faults."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.faults.application import Settings
from tests.faults.logbook import Follower
from tests.integration.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]


class Process:
    """An application over its lives. `prefix`: a command that runs the command; `module`: the module to run."""

    def __init__(
        self,
        settings: Settings,
        *,
        prefix: tuple[str, ...] = (),
        module: str = "tests.faults.application",
    ) -> None:
        self.settings = settings
        self.lives = 0
        self.stopped = False
        self.errors = Path(settings.log).with_suffix(".err")
        """The file of its standard error."""
        self.follower = Follower(Path(settings.log))
        self._prefix = prefix
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        settings = dataclasses.replace(self.settings, life=self.lives)
        command = [sys.executable, "-m", self._module]
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [*self._prefix, *command, json.dumps(dataclasses.asdict(settings))],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                cwd=ROOT,
            )
        self.lives += 1
        self.stopped = False

    def kill(self) -> None:
        """Send SIGKILL, if the process runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close_input()
            self._process = None

    def stop(self) -> None:
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGSTOP)
            self.stopped = True

    def go_on(self) -> None:
        if self._process is not None and self.stopped:
            self._process.send_signal(signal.SIGCONT)
            self.stopped = False

    def peace(self) -> None:
        """Order: no more pauses, and no new batches."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def end(self, timeout_s: float) -> None:
        """Order the process to end, and wait. Raises if it does not end, or ends with an error."""
        if self._process is not None:
            self._close_input()
            self.ended(timeout_s)

    def ended(self, timeout_s: float) -> None:
        """Wait until the process has ended."""
        process = self._process
        assert process is not None
        wait_until(
            lambda: process.poll() is not None, timeout_s, f"the end of {self.settings.name}"
        )
        self._close_input()
        self.raise_if_failed()
        self._process = None

    def raise_if_failed(self) -> None:
        """Raises if the process has ended with an error."""
        if self._process is not None and self._process.poll():
            raise AssertionError(
                f"{self.settings.name} ended with {self._process.returncode}: "
                f"{self.errors.read_text()[-3000:]}"
            )

    def _close_input(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

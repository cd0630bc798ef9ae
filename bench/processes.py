"""Processes that are started and ended here: servers, and workers that take commands."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
START_TIMEOUT_S: Final = 20.0
END_TIMEOUT_S: Final = 3.0
_LOOK_S: Final = 0.01
_TAIL_CHARACTERS: Final = 1500

Answer = dict[str, Any]


class Broken(Exception):
    """A process did not do what it was asked to. The text names the process, and ends with its last output."""


class Child:
    """A process, and the file of its standard error. `end` ends it at the latest."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, *, stdin: int = subprocess.DEVNULL
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        # Settings in this environment must not reach the measured processes.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PUBSUBD_")}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE if stdin == subprocess.PIPE else log,
                stderr=log,
                cwd=ROOT,
                env=environment,
                # Ctrl-C goes to the benchmark, which then ends its processes.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        """All of its standard error until now."""
        return self._log.read_text(errors="replace")

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Returns when `reached`. Raises `Broken` if it takes too long or the process has ended."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not reached():
            if self.process.poll() is not None:
                raise self.broken(f"ended with {self.process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.broken(f"no {what} within {START_TIMEOUT_S:g} s")
            time.sleep(_LOOK_S)

    def broken(self, why: str) -> Broken:
        return Broken(f"{self.name}: {why}\n{self.said()[-_TAIL_CHARACTERS:]}".rstrip())

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it by its id, and for good. Harmless to repeat."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Worker(Child):
    """A `bench.worker`: takes a command a line and gives an answer a line."""

    def __init__(
        self, name: str, python: Sequence[str], arguments: Sequence[str], folder: Path
    ) -> None:
        command = [*python, "-m", "bench.worker", *arguments]
        super().__init__(name, command, folder, stdin=subprocess.PIPE)
        assert self.process.stdout is not None
        self._unread = b""
        self._ready = selectors.DefaultSelector()
        self._ready.register(self.process.stdout, selectors.EVENT_READ)

    def tell(self, do: str, **arguments: Any) -> None:
        """Give a command; `hear` brings its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise self.broken(f"can't be told to {do} ({error})") from None

    def hear(self, timeout_s: float) -> Answer:
        """The answer to the oldest command without one. Raises `Broken` if it is an error, or late."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            if not self._ready.select(max(0.0, deadline - time.monotonic())):
                raise self.broken(f"no answer within {timeout_s:g} s")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                raise self.broken("ended without an answer")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise Broken(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, do: str, timeout_s: float = START_TIMEOUT_S, **arguments: Any) -> Answer:
        self.tell(do, **arguments)
        return self.hear(timeout_s)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it at once: a worker that has answered has no more to do."""
        super().end(how)
        self._ready.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def free_port() -> int:
    """A free TCP port of loopback. Another process could take it before it is used; in practice none does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether a server accepts on that port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False

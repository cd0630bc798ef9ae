"""`pubsubd` as its users run it: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from tests.integration.broker import PUBSUBD
from tests.integration.loaded import AVAILABLE, loaded
from tests.integration.waiting import wait_until

TIMEOUT_S: Final = 90.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the tests without any setting, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PUBSUBD_")}
    return kept | dict(more or {})


def pubsubd(
    *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end; forked, if it has neither input nor an environment of its own."""
    if AVAILABLE and stdin is None and env is None:
        return loaded().run(arguments, environment(), TIMEOUT_S)
    return subprocess.run(
        [*PUBSUBD, *arguments],
        input=b"" if stdin is None else stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=environment(env),
        check=False,
    )


def ok(*arguments: str, stdin: bytes | None = None) -> str:
    """Run one command that must succeed without a word on standard error. Returns its output."""
    done = pubsubd(*arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    assert not done.stderr
    return done.stdout.decode()


def error_of(*arguments: str, code: int, stdin: bytes | None = None) -> str:
    """Run one command that must fail with `code`. Returns its one line on standard error."""
    done = pubsubd(*arguments, stdin=stdin)
    assert done.returncode == code, done.stderr.decode()
    assert not done.stdout
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("pubsubd: ")
    return line


class Running:
    """A command that goes on, and its output until now."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = PUBSUBD,
    ) -> None:
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self.process.stdout, self.lines),
                (self.process.stderr, self.errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def wait_lines(self, count: int) -> list[str]:
        """The first `count` lines, as soon as they are there."""
        wait_until(lambda: len(self.lines) >= count, TIMEOUT_S, f"line {count}, {self.errors}")
        return self.lines[:count]

    def wait_objects(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.wait_lines(count)]

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal. Returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join(TIMEOUT_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.wait()

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines += [line.decode().rstrip("\n")]


def holds(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, with this module's time limit."""
    wait_until(condition, TIMEOUT_S, what)

"""The command as a process, and a broker for it to talk to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LIMIT_S = 60


def environment(**more: str) -> dict[str, str]:
    """The environment of the test run, without its PUBSUBD_* variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PUBSUBD_")}
    return kept | more


def command(*arguments: str) -> list[str]:
    program = "import sys; from pubsubd_cli.main import main; sys.argv[0] = 'pubsubd'; main()"
    return [sys.executable, "-c", program, *arguments]


def pubsubd(
    *arguments: str, given: bytes | None = None, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    return subprocess.run(
        command(*arguments),
        input=given,
        capture_output=True,
        env=environment(**more),
        timeout=LIMIT_S,
        check=False,
    )


@contextmanager
def piped(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """Run it beside the test, which reads its output and its errors."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield process, process.stdout, process.stderr


def objects(output: bytes) -> list[Any]:
    """The JSON objects of an output, a line each."""
    return [json.loads(line) for line in output.splitlines()]


@contextmanager
def a_folder_for_sockets() -> Iterator[Path]:
    # pytest's own folders are too long for the path of a socket.
    path = Path(tempfile.mkdtemp(prefix="ps-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def a_broker(*options: str) -> Iterator[str]:
    """A single node that serves; its socket's path."""
    with a_folder_for_sockets() as folder:
        socket = str(folder / "s")
        fixed = ["--node", "a", "--no-listen", "--no-http", "--log-format", "json"]
        with subprocess.Popen(
            command("start", "--socket", socket, *fixed, *options),
            stderr=subprocess.PIPE,
            env=environment(),
        ) as broker:
            try:
                assert broker.stderr is not None
                log: list[bytes] = []
                while not log or json.loads(log[-1])["event"] != "broker.started":
                    line = broker.stderr.readline()
                    assert line, f"the broker has ended: {log}"
                    log.append(line)
                yield socket
            finally:
                broker.send_signal(signal.SIGTERM)
                broker.communicate(timeout=LIMIT_S)
        assert broker.returncode == 0

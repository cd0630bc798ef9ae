"""The command as a process, and a broker for it to talk to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.integration.broker import Broker
from tests.integration.loaded import AVAILABLE, loaded

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
    """Run it to its end; forked, if it has neither input nor an environment of its own."""
    if AVAILABLE and given is None and not more:
        return loaded().run(arguments, environment(), LIMIT_S)
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
def a_broker(**options: Any) -> Iterator[str]:
    """A single node that serves; its socket's path."""
    with a_folder_for_sockets() as folder:
        socket = str(folder / "s")
        fixed: dict[str, Any] = {"listen": False, "http": False, "socket": socket}
        with Broker(folder, "a", **fixed, **options) as broker:
            yield socket
            assert broker.stop() == 0

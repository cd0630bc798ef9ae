"""The command as a process, and a broker for it to talk to."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.integration import commands
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import environment


def command(*arguments: str) -> list[str]:
    return [*PUBSUBD, *arguments]


def pubsubd(
    *arguments: str, given: bytes | None = None, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end. `more`: variables of its environment."""
    return commands.pubsubd(*arguments, stdin=given, env=more or None)


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

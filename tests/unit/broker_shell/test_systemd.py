from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubsubd_broker.process.systemd import Systemd


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and what NOTIFY_SOCKET says."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has abstract addresses")
    with (
        tempfile.TemporaryDirectory(prefix="ps-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        listener.settimeout(10)
        if request.param == "file":
            path = str(Path(folder) / "notify")
            listener.bind(path)
            yield listener, path
        else:
            name = f"pubsubd-test-{os.getpid()}"
            listener.bind("\0" + name)
            yield listener, "@" + name


def test_it_tells_the_manager_how_it_is(manager: tuple[socket.socket, str]) -> None:
    listener, path = manager
    systemd = Systemd({"NOTIFY_SOCKET": path}, pid=1)
    assert systemd.ready()
    assert systemd.watchdog()
    assert systemd.stopping()
    heard = [listener.recv(100) for _ in range(3)]
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_without_a_manager_it_says_nothing() -> None:
    systemd = Systemd({"WATCHDOG_USEC": "1000000"}, pid=1)
    assert not systemd.ready()
    assert systemd.watchdog_s is None


def test_a_manager_that_is_gone_is_no_error() -> None:
    assert not Systemd({"NOTIFY_SOCKET": "/nonexistent/notify"}, pid=1).ready()
    assert not Systemd({"NOTIFY_SOCKET": "/" + "x" * 200}, pid=1).ready()


@pytest.mark.parametrize(
    ("environment", "every_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_wants_half_of_what_the_manager_waits(
    environment: dict[str, str], every_s: float | None
) -> None:
    assert Systemd({"NOTIFY_SOCKET": "/x", **environment}, pid=7).watchdog_s == every_s

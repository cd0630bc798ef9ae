"""Stops at any moment of a start, and the state that survives them; and a log that is not read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import ok
from tests.integration.waiting import wait_until

KEPT = 3
"""Messages of an earlier life."""


@contextlib.contextmanager
def left_by_an_earlier_life(folder: Path, **options: Any) -> Iterator[Broker]:
    broker = Broker(folder, "a", **options)
    with contextlib.closing(broker):
        broker.start()
        ok("publish", "t", *map(str, range(KEPT)), "--socket", broker.socket)
        assert broker.stop() == 0
        yield broker


@contextlib.contextmanager
def accepting() -> Iterator[str]:
    """The address of a peer that accepts every connection and sends no byte."""
    taken: list[socket.socket] = []

    def take() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(listening.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=take, daemon=True).start()
        host, port = listening.getsockname()
        yield f"{host}:{port}"
        # Wakes the thread out of its accept.
        listening.shutdown(socket.SHUT_RDWR)
    for each in taken:
        each.close()


def next_life_has_everything(broker: Broker) -> None:
    broker.start()
    ring = broker.status()["ring"]
    assert (ring["oldest_offset"], ring["next_offset"]) == (0, KEPT)
    assert broker.stop() == 0


@pytest.mark.parametrize(
    ("kept", "parts"), [("beside the socket", (0, 2, 4)), ("journal", (0, 1, 3))]
)
def test_a_stop_at_any_moment_of_a_start_keeps_everything(
    tmp_path: Path, kept: str, parts: tuple[int, ...]
) -> None:
    """`parts`: tenths of a whole start."""
    options = {"journal": tmp_path / "j", "fsync": "snapshot"} if kept == "journal" else {}
    with (
        accepting() as peer,
        left_by_an_earlier_life(tmp_path, command=PUBSUBD, **options) as broker,
    ):
        broker.peers = [peer]
        began_s = time.monotonic()
        broker.start()
        whole_s = time.monotonic() - began_s
        assert broker.stop() == 0
        # Begin where signals are handled; before that, Python itself is being loaded. Spread by time, as most of a
        # start is the loading of modules, which sends no sign.
        for part in parts:
            broker.start(wait=False)
            wait_until(lambda: heeds_signals(broker.pid), what="the first moment")
            time.sleep(whole_s * part / 10)
            assert broker.stop() == 0, broker.tail()
            assert not [line for line in broker.logs if line["event"] is None], broker.logs[-20:]
        broker.peers = []
        next_life_has_everything(broker)


def heeds_signals(pid: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) & (1 << (signal.SIGTERM - 1)))
    return False


def test_a_stop_while_redialling_a_silent_peer_loses_nothing(tmp_path: Path) -> None:
    with (
        accepting() as peer,
        left_by_an_earlier_life(tmp_path, handshake_timeout="300ms") as broker,
    ):
        broker.peers = [peer]
        for _ in range(4):
            mark = broker.mark()
            broker.start()
            broker.wait_log("connection.refused", code="handshake_timeout", since=mark)
            assert broker.stop() == 0
        broker.peers = []
        next_life_has_everything(broker)


def run_with_log(broker: Broker, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PUBSUBD, "start", *broker.arguments(), "--log-level", "debug"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )


def accepts_a_message(broker: Broker) -> None:
    """Wait for the start of a broker whose log is not read."""
    wait_until(lambda: os.path.exists(broker.socket), 20, "the start")
    ok("publish", "t", "x", "--socket", broker.socket)


def chatter(address: str, times: int) -> None:
    """`times` lines in the log: a peer's port gets bytes that are not a greeting."""
    host, _, port = address.rpartition(":")
    for _ in range(times):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as caller:
            caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
            caller.recv(1)


def test_an_unread_log_delays_nothing_and_counts_its_losses(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    # A page: sooner full than what a pipe holds by default.
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    broker = Broker(tmp_path, "a", log_format="json")
    process = run_with_log(broker, writing)
    os.close(writing)
    with contextlib.closing(broker), open(reading, "rb") as log:
        started = next(line for line in map(json.loads, log) if line["event"] == "broker.started")
        broker.http = started["http"]
        # From here on the log is not read, and fills up.
        while broker.metric("log_lines_dropped_total") == 0:
            chatter(started["listen"], 200)
        ok("publish", "t", "x", "--socket", broker.socket)
        assert broker.ready()
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in log]
        assert process.wait(20) == 0
    missing = [line["dropped"] for line in lines if line["event"] == "log.resumed"]
    assert sum(missing) > 0
    assert lines[-1]["event"] == "broker.stopped"


def test_a_broker_with_an_unread_log_ends_within_seconds(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(1 << 16))
    os.set_blocking(writing, True)
    broker = Broker(tmp_path, "a")
    with contextlib.closing(broker):
        process = run_with_log(broker, writing)
        accepts_a_message(broker)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_broker_without_standard_descriptors_ends_with_0(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    broker = Broker(tmp_path, "a")
    shut = " ".join(f"{each}{'<' if each == 0 else '>'}&-" for each in closed)
    with contextlib.closing(broker):
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" {shut}', "sh", *PUBSUBD, "start", *broker.arguments()],
            stderr=subprocess.DEVNULL,
        )
        accepts_a_message(broker)
        for each in closed:
            assert os.readlink(f"/proc/{process.pid}/fd/{each}") == "/dev/null"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    broker = Broker(tmp_path, "a")
    with contextlib.closing(broker):
        process = run_with_log(broker, full)
        accepts_a_message(broker)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    os.close(full)

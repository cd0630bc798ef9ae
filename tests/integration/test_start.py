"""Starting and stopping: the socket's file, signals, notices to systemd, ports."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import error_of, ok
from tests.integration.hostile import RawConnection, refused_and_violating
from tests.integration.steps import StartBroker, StartCluster, address_of
from tests.integration.waiting import wait_until

from pubsubd_protocol.frames import Welcome

ALONE = ("--no-listen", "--no-http", "--node", "second")


def test_a_second_broker_on_a_live_socket_is_refused(start_broker: StartBroker) -> None:
    a = start_broker("a")
    line = error_of("start", "--socket", a.socket, *ALONE, code=2)
    assert a.socket in line
    assert "a broker is running there" in line
    ok("publish", "t", "x", "--socket", a.socket)
    assert a.status()["ring"]["next_offset"] == 1


def test_only_one_of_two_brokers_started_at_once_serves(tmp_path: Path) -> None:
    brokers = [Broker(tmp_path, name, command=PUBSUBD) for name in "ab"]
    brokers[1].socket = brokers[0].socket
    try:
        for broker in brokers:
            broker.start(wait=False)
        wait_until(lambda: [b.exit_code for b in brokers].count(2) == 1, what="the refusal")
        (winner,) = [broker for broker in brokers if broker.alive]
        winner.wait_started()
        ok("publish", "t", "x", "--socket", winner.socket)
    finally:
        for broker in brokers:
            broker.close()


def test_the_socket_of_a_killed_broker_is_replaced(start_broker: StartBroker) -> None:
    a = start_broker("a", command=PUBSUBD)
    mode = os.stat(a.socket).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    a.kill()
    assert os.path.exists(a.socket)
    a.start()
    ok("publish", "t", "x", "--socket", a.socket)
    a.stop()
    assert not os.path.exists(a.socket)


def test_a_symbolic_link_is_refused_and_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "s"
    link.symlink_to(tmp_path / "elsewhere")
    line = error_of("start", "--socket", str(link), *ALONE, code=2)
    assert "symbolic link" in line
    assert link.is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_sockets_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_text("precious")
    assert "not a socket" in error_of("start", "--socket", str(file), *ALONE, code=2)
    assert file.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_refused_with_figures(tmp_path: Path) -> None:
    path = str(tmp_path / "s").ljust(108, "s")
    line = error_of("start", "--socket", path, *ALONE, code=2)
    assert "107" in line
    assert str(len(path)) in line


def test_a_port_in_use_is_refused_by_its_name(start_broker: StartBroker, tmp_path: Path) -> None:
    a = start_broker("a")
    options = ("--socket", str(tmp_path / "s"), "--node", "b")
    line = error_of("start", *options, "--listen", a.listen, "--no-http", code=2)
    assert f"--listen {a.listen}" in line
    line = error_of("start", *options, "--http", a.http, "--no-listen", code=2)
    assert f"--http {a.http}" in line


def test_port_0_picks_a_port_and_logs_it(start_broker: StartBroker) -> None:
    a, b = start_broker("a"), start_broker("b")
    taken = {a.listen, a.http, b.listen, b.http}
    assert len(taken) == 4
    assert not any(address.endswith(":0") for address in taken)
    addresses = a.status()["addresses"]
    assert (addresses["listen"], addresses["http"]) == (a.listen, a.http)


def test_a_broker_without_peers_does_not_listen(start_broker: StartBroker) -> None:
    a = start_broker("a", listen=None, http=None, no_listen=True, no_http=True)
    assert (a.listen, a.http) == ("", "")
    ok("publish", "t", "x", "--socket", a.socket)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_a_broker_with_0(
    start_broker: StartBroker, number: signal.Signals
) -> None:
    a = start_broker("a")
    with RawConnection(a.socket) as idle:
        assert isinstance(idle.greet("publisher"), Welcome)
        os.kill(a.pid, number)
        wait_until(lambda: a.exit_code is not None, what="the end")
        assert a.exit_code == 0
        assert idle.ended()
    assert a.wait_log("broker.stopping")["signal"] == number.name
    assert a.wait_log("broker.stopped")["drained"] is True
    assert not os.path.exists(a.socket)


def test_a_second_signal_ends_a_broker_without_losses(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, peer_timeout="60s")
    a, b = cluster["a"], cluster["b"]
    # A consumer that stands still keeps the drain waiting.
    b.pause()
    ok("publish", "t", "x", "--socket", a.socket)
    os.kill(a.pid, signal.SIGTERM)
    a.wait_log("broker.stopping")
    os.kill(a.pid, signal.SIGINT)
    wait_until(lambda: a.exit_code is not None, what="the end")
    assert a.exit_code == 0
    assert a.wait_log("drain.skipped")["signal"] == "SIGINT"
    assert a.wait_log("broker.stopped")["drained"] is False
    a.start()
    assert a.wait_log("journal.recovered")["next"] == 1


def test_two_signals_in_the_same_moment_lose_nothing(start_broker: StartBroker) -> None:
    a = start_broker("a")
    ok("publish", "t", "x", "--socket", a.socket)
    os.kill(a.pid, signal.SIGSTOP)
    os.kill(a.pid, signal.SIGINT)
    os.kill(a.pid, signal.SIGTERM)
    os.kill(a.pid, signal.SIGCONT)
    wait_until(lambda: a.exit_code is not None, what="the end")
    assert a.exit_code == 0
    a.start()
    assert a.wait_log("journal.recovered")["next"] == 1


def test_a_hangup_does_not_end_a_broker(start_broker: StartBroker) -> None:
    a = start_broker("a")
    for _ in range(3):
        mark = a.mark()
        os.kill(a.pid, signal.SIGHUP)
        a.wait_log("signal.ignored", since=mark)
    ok("publish", "t", "x", "--socket", a.socket)
    assert a.stop() == 0


def test_systemd_is_told_when_it_serves_and_when_it_stops(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        # The watchdog is fed at half of its period.
        told = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "100000"}
        a = start_broker("a", environment=told)
        assert manager.recv(100) == b"READY=1"
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert a.stop() == 0
        while (state := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert state == b"STOPPING=1"


def test_every_log_event_is_a_constant_dotted_name(start_cluster: StartCluster) -> None:
    """Through the events of a life: peers come and go, a consumer expires, strangers are refused."""
    cluster = start_cluster(2, ring_messages=10)
    a, b = cluster["a"], cluster["b"]
    refused_and_violating(address_of(a))
    for _ in range(2):
        b.kill()
        ok("publish", "t", *"123456789", "--socket", a.socket)
        b.start()
        both_linked(a, b)
    a.restart(signal.SIGKILL)
    both_linked(a, b)
    assert a.stop() == b.stop() == 0
    for line in (*a.logs, *b.logs):
        event = line["event"]
        assert event is not None, line
        assert event.count(".") == 1
        assert event.replace(".", "").replace("_", "").isalpha()
        assert event == event.lower()
        assert {"timestamp", "level"} <= line.keys()
    events = {line["event"] for line in (*a.logs, *b.logs)}
    assert {
        "broker.started",
        "broker.stopping",
        "broker.stopped",
        "peer.attached",
        "peer.lost",
        "consumer.attached",
        "consumer.lost",
        "connection.refused",
        "protocol.violated",
        "cursor.expired",
    } <= events


def both_linked(a: Broker, b: Broker) -> None:
    wait_until(
        lambda: (
            a.metric("peer_connected", peer="b") == 1 and b.metric("peer_connected", peer="a") == 1
        ),
        what="both links",
    )

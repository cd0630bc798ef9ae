"""The harness's handling of processes, against a stand-in that logs and serves as a broker does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.feeding import feed
from tests.integration import hostile
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.cluster import Cluster
from tests.integration.commands import environment
from tests.integration.loaded import AVAILABLE, loaded
from tests.integration.waiting import NotReached, wait_until

from pubsubd_protocol.codec import decode
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.framing import FrameReader

STAND_IN = """
import http.server, json, os, signal, socket, sys, threading

arguments = sys.argv[2:]
options = {}
for i, each in enumerate(arguments):
    if each.startswith("--"):
        options.setdefault(each[2:], []).append((arguments + ["--"])[i + 1])
if "fail" in options:
    print("pubsubd: no such thing", file=sys.stderr)
    sys.exit(2)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in options else lambda *_: os._exit(0))

def log(event, **fields):
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)

class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = self.path != "/readyz" or "unready" not in options
        body = {
            "/metrics": 'pubsubd_x{peer="b"} 1\\npubsubd_x{peer="c",y="z"} 2.5\\npubsubd_xy 7\\n',
        }.get(self.path, json.dumps({"node": options["node"][0], "arguments": arguments}))
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *_):
        pass

port = int(options["listen"][0].rpartition(":")[2])
listener = socket.create_server(("127.0.0.1", port))
admin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Admin)
print("not json", file=sys.stderr, flush=True)
log("broker.started", listen="127.0.0.1:%d" % listener.getsockname()[1],
    http="127.0.0.1:%d" % admin.server_port, socket=options["socket"][0])

def answer():
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(options["node"][0].encode())
        log("peer.came", node=options["node"][0])
threading.Thread(target=answer, daemon=True).start()
admin.serve_forever()
"""


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return sys.executable, str(script)


@pytest.fixture
def broker_of(tmp_path: Path, command: tuple[str, ...]) -> Iterator[Callable[..., Broker]]:
    brokers: list[Broker] = []

    def make(**options: Any) -> Broker:
        brokers.append(Broker(tmp_path, f"n{len(brokers)}", command=command, **options))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


def address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def test_a_started_broker_is_known_by_what_it_logged(broker_of: Callable[..., Broker]) -> None:
    with broker_of() as broker:
        assert broker.alive
        assert broker.pid > 0
        assert address(broker.listen)[1] > 0
        assert broker.status()["node"] == "n0"
        assert broker.ready()
        assert {"event": None, "text": "not json"} in broker.logs
    assert not broker.alive


def test_options_become_arguments(broker_of: Callable[..., Broker]) -> None:
    broker = broker_of(
        peers=["h:1", "h:2"],
        ring_messages=100,
        pace="0ms",
        gossip=False,
        allow_uid=[1, 2],
        heartbeat=None,
        start_fast=True,
    )
    arguments = " ".join(broker.arguments())
    assert "--ring-messages 100 --pace 0ms --no-gossip --allow-uid 1 --allow-uid 2" in arguments
    assert "--peer-timeout 1s" in arguments
    assert arguments.endswith("--start-fast --peer h:1 --peer h:2")
    assert "--heartbeat" not in arguments


def test_the_socket_has_a_short_path(broker_of: Callable[..., Broker]) -> None:
    assert len(broker_of().socket) < 60


def test_metrics_are_summed_over_the_labels_asked_for(broker_of: Callable[..., Broker]) -> None:
    with broker_of() as broker:
        assert broker.metric("x") == 3.5
        assert broker.metric("pubsubd_x", peer="c") == 2.5
        assert broker.metric("x", peer="absent") == 0


def test_stop_ends_a_broker_cleanly_and_kill_does_not(broker_of: Callable[..., Broker]) -> None:
    with broker_of() as broker:
        assert broker.stop() == 0
        broker.start()
        broker.kill()
        assert broker.exit_code == -signal.SIGKILL


def test_a_broker_that_does_not_stop_is_reported_and_reaped(
    broker_of: Callable[..., Broker],
) -> None:
    with broker_of(deaf=True) as broker:
        with pytest.raises(NotReached, match=r"did not end 0\.1 s after SIGTERM"):
            broker.stop(timeout_s=0.1)
        assert broker.alive
    assert not broker.alive


def test_a_restarted_broker_has_its_port_and_a_new_process(
    broker_of: Callable[..., Broker],
) -> None:
    with broker_of() as broker:
        listen, pid = broker.listen, broker.pid
        broker.restart(signal.SIGKILL)
        assert broker.listen == listen
        assert broker.pid != pid


def test_a_paused_broker_does_not_answer_until_it_is_resumed(
    broker_of: Callable[..., Broker],
) -> None:
    with broker_of() as broker:
        mark = broker.mark()
        broker.pause()
        with hostile.RawConnection(address(broker.listen), timeout_s=0.1) as raw:
            with pytest.raises(TimeoutError):
                raw.socket.recv(1)
            broker.resume()
            raw.socket.settimeout(10)
            assert raw.socket.recv(10) == b"n0"
        broker.wait_log("peer.came", since=mark, node="n0")


def test_a_paused_broker_is_reaped(broker_of: Callable[..., Broker]) -> None:
    with broker_of() as broker:
        broker.pause()
    assert not broker.alive


def test_a_broker_that_fails_to_start_shows_its_last_lines(
    broker_of: Callable[..., Broker],
) -> None:
    with pytest.raises(NotReached, match="no such thing"), broker_of(fail=True):
        pass


def test_waiting_for_a_log_line_that_does_not_come_ends(broker_of: Callable[..., Broker]) -> None:
    with (
        broker_of() as broker,
        pytest.raises(NotReached, match=r"logged no peer\.lost peer='b'"),
    ):
        broker.wait_log("peer.lost", peer="b", timeout_s=0.05)


def test_a_log_line_of_an_earlier_life_does_not_count(broker_of: Callable[..., Broker]) -> None:
    with broker_of() as broker:
        hostile.RawConnection(address(broker.listen)).close()
        broker.wait_log("peer.came")
        broker.restart()
        with pytest.raises(NotReached):
            broker.wait_log("peer.came", timeout_s=0.05)
        assert broker.wait_log("peer.came", since=0)["node"] == "n0"


forks = pytest.mark.skipif(not AVAILABLE, reason="no process handles here")


@forks
@pytest.mark.parametrize("arguments", [["--version"], ["config"], ["status", "--socket", "/no/s"]])
def test_a_forked_command_is_like_one_that_was_started(arguments: list[str]) -> None:
    forked = loaded().run(arguments, environment(), 60)
    started = subprocess.run(
        [*PUBSUBD, *arguments], capture_output=True, env=environment(), check=False
    )
    for part in ("returncode", "stdout", "stderr"):
        assert getattr(forked, part) == getattr(started, part)


@forks
def test_a_forked_command_that_does_not_end_is_reported_and_ended() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ps-") as folder,
        socket.socket(socket.AF_UNIX) as caller,
    ):
        path = f"{folder}/s"
        broker = ["start", "--socket", path, "--no-listen", "--no-http"]
        with pytest.raises(subprocess.TimeoutExpired):
            loaded().run(broker, environment(), 1.0)
        # A killed broker leaves its socket, and accepts no connection there.
        with pytest.raises(ConnectionRefusedError):
            caller.connect(path)


def test_waiting_takes_an_oserror_for_not_yet() -> None:
    answers = iter([OSError("refused"), None, "there"])

    def ask() -> str | None:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert wait_until(ask) == "there"
    with pytest.raises(NotReached, match=r"the moon was not reached in 0\.03 s; last: False"):
        wait_until(lambda: False, 0.03, "the moon")


def test_a_cluster_leads_every_link_through_its_own_relay(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with Cluster(tmp_path, 3, command=command) as cluster:
        assert [broker.node for broker in cluster] == ["a", "b", "c"]
        for consumer in "abc":
            for producer in set("abc") - {consumer}:
                link = cluster.link(consumer, producer)
                assert link.endpoint in cluster[consumer].peers
                assert not isinstance(link.address, str)
                with hostile.RawConnection(link.address) as raw:
                    assert raw.socket.recv(10) == producer.encode()
                assert link.accepted == 1


def test_a_cluster_finds_a_restarted_broker_at_its_new_address(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with Cluster(tmp_path, 2, command=command) as cluster:
        cluster["a"].restart(signal.SIGKILL)
        with hostile.RawConnection(cluster.link("b", "a").address) as raw:
            assert raw.socket.recv(10) == b"a"


def test_a_partition_cuts_between_groups_only(tmp_path: Path, command: tuple[str, ...]) -> None:
    with Cluster(tmp_path, 3, command=command) as cluster:
        cluster.partition("ab", "c")
        with hostile.RawConnection(cluster.link("b", "a").address) as raw:
            assert raw.socket.recv(10) == b"a"
        with pytest.raises(ConnectionRefusedError):
            hostile.RawConnection(cluster.link("c", "a").address)
        cluster.heal()
        with hostile.RawConnection(cluster.link("c", "a").address) as raw:
            assert raw.socket.recv(10) == b"a"


def test_a_cluster_whose_broker_fails_leaves_no_process(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    cluster = Cluster(tmp_path, 2, command=command, per_node={"b": {"fail": True}})
    with pytest.raises(NotReached, match="broker b"), cluster:
        pass
    assert not any(broker.alive for broker in cluster)


def test_a_cluster_of_real_brokers_connects_and_heals(
    start_cluster: Callable[..., Cluster],
) -> None:
    cluster = start_cluster(2)
    b, link = cluster["b"], cluster.link("b", "a")
    cluster.wait_connected("b", "a")
    mark = b.mark()
    link.hold()
    b.wait_log("peer.lost", peer="a", since=mark)
    link.release()
    cluster.wait_connected("b", "a")
    cluster["a"].kill()
    cluster["a"].start()
    cluster.wait_connected("b", "a")
    assert [broker.stop() for broker in cluster] == [0, 0]


def _frames(data: bytes) -> list[object]:
    return [decode(frame) for frame in feed(FrameReader(hostile.MAX_FRAME), data)]


@pytest.mark.parametrize(
    "name", ["a length of four GiB", "noise", "a tree of empty arrays", "numbers for text"]
)
def test_hostile_bytes_are_hostile(name: str) -> None:
    with pytest.raises(ProtocolError):
        _frames(hostile.INSTEAD_OF_A_GREETING[name])


def test_fixtures_end_what_they_started(
    start_broker: Callable[..., Broker],
    start_cluster: Callable[..., Cluster],
    command: tuple[str, ...],
) -> None:
    assert start_broker("alone", command=command).alive
    assert [broker.node for broker in start_cluster(2, command=command)] == ["a", "b"]


def test_honest_bytes_are_honest() -> None:
    honest = [hostile.hello(), hostile.publish(), hostile.subscribe(), hostile.status()]
    assert len(_frames(b"".join(honest))) == 4

"""Files that are removed or replaced while the broker runs: it restores them, or reports the loss of their guarantee."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.certificates import Authority, write
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import error_of, ok, pubsubd
from tests.integration.steps import StartBroker, in_thread, payloads_to, subscribed
from tests.integration.test_journal_failures import why_not_ready
from tests.integration.test_system_calls import can_trace
from tests.integration.waiting import wait_until

import pubsubd as sdk

SLOW_S = 2
SECRET = b"0123456789abcdef0123456789abcdef"


def replace(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir(0o700)


def told_as_lost(broker: Broker, place: str, since: int, reason: str) -> None:
    """`broker` reports why it has lost `place`: in the log, at `/readyz` and in the metric."""
    assert reason in broker.wait_log("place.lost", what=place, since=since)["reason"]
    assert reason in why_not_ready(broker)
    assert broker.metric("place_lost", place=place) == 1


def told_as_restored(broker: Broker, place: str, since: int) -> None:
    broker.wait_log("place.restored", what=place, since=since)
    assert broker.ready()
    assert broker.metric("place_lost", place=place) == 0


@pytest.mark.parametrize("lose", [shutil.rmtree, replace])
def test_a_journal_whose_folder_is_lost_fails(
    start_broker: StartBroker, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    a = start_broker("a", journal=tmp_path / "j", fsync="always")
    ok("publish", "t", "x", "--socket", a.socket)
    lose(tmp_path / "j")
    a.wait_log("journal.failed")
    assert str(tmp_path / "j") in why_not_ready(a)
    refused = pubsubd("publish", "t", "x", "--socket", a.socket, "--timeout", "1s")
    assert refused.returncode != 0
    assert a.stop() == 1
    assert not (tmp_path / "j").exists() or not list((tmp_path / "j").iterdir())


@async_test
async def test_a_removed_socket_is_restored_before_a_second_broker(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = start_broker("a", socket=tmp_path / "run" / "s")
    path = Path(a.socket)
    async with subscribed(a) as reader:
        for number, removed in enumerate((path, path.parent)):
            mark = a.mark()
            path.unlink() if removed == path else shutil.rmtree(removed)
            await in_thread(partial(a.wait_log, "place.put_back", what="socket", since=mark))
            async with sdk.connect(path) as client:
                await client.publish("t", number)
            assert await payloads_to(reader, number) == [number]
        second = ("start", "--node", "b", "--socket", a.socket, "--no-http", "--no-listen")
        assert "a broker is running there" in error_of(*second, code=2)
    assert a.ready()
    assert await in_thread(a.stop) == 0
    assert not path.exists()


def test_a_socket_replaced_by_a_live_one_is_reported(start_broker: StartBroker) -> None:
    a = start_broker("a")
    mark = a.mark()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{a.socket}.other")
        other.listen()
        os.rename(f"{a.socket}.other", a.socket)
        told_as_lost(a, "socket", mark, f"socket {a.socket}: a broker is running there: stop it")
    told_as_restored(a, "socket", mark)
    ok("publish", "t", "x", "--socket", a.socket)


@async_test
async def test_a_folder_for_the_stop_is_watched_from_the_start(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "j"
    a = await in_thread(lambda: start_broker("a", journal=folder, fsync="snapshot"))
    async with sdk.connect(a.socket) as client, subscribed(a) as reader:
        await client.publish("t", "before")
        assert await payloads_to(reader, "before") == ["before"]
        mark = a.mark()
        shutil.rmtree(folder)
        await in_thread(lambda: a.wait_log("place.put_back", what="journal", since=mark))
        # Another journal in its place is neither overwritten nor continued.
        mark = a.mark()
        replace(folder)
        foreign = folder / "0000000000000009.journal"
        foreign.write_bytes(b"of another history")
        await in_thread(told_as_lost, a, "journal", mark, f"journal {folder} cannot be used any")
        foreign.unlink()
        await in_thread(told_as_restored, a, "journal", mark)
        await in_thread(a.restart)
        await client.publish("t", "after")
        assert await payloads_to(reader, "after") == ["after"]


def test_a_removed_certificate_or_secret_is_reported(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    authority, secret, theirs = Authority(tmp_path), tmp_path / "secret", tmp_path / "new"
    for path, content in ((secret, SECRET), (theirs, SECRET[::-1])):
        write(str(path), content)

    def options_of(node: str, secret: Path) -> dict[str, Any]:
        files = authority.certificate(node)
        options = {"tls_cert": files.cert, "tls_key": files.key, "tls_ca": files.ca}
        return options | {"cluster_secret_file": secret}

    a = start_broker("a", **options_of("a", secret))
    for place, file in (("certificate", a.options["tls_ca"]), ("secret", str(secret))):
        mark = a.mark()
        os.rename(file, f"{file}.away")
        told_as_lost(a, place, mark, file)
        os.rename(f"{file}.away", file)
        told_as_restored(a, place, mark)
    mark = a.mark()
    shutil.copy(theirs, secret)
    a.wait_log("secret.reloaded", path=str(secret), since=mark)
    b = start_broker("b", peers=[a.listen], **options_of("b", theirs))
    wait_until(lambda: b.metric("peer_connected", peer="a") == 1)


@pytest.mark.skipif(not can_trace(), reason="needs strace, and to be allowed to trace")
def test_a_file_system_that_does_not_answer_delays_no_publisher(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """As on a network file system whose server is slow: each look at the socket takes `SLOW_S`."""
    path = tmp_path / "s"
    strace = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", str(path))
    looks = "lstat,newfstatat,statx"
    delay = ("-e", f"trace={looks}", "-e", f"inject={looks}:delay_enter={SLOW_S}s")
    a = start_broker("a", socket=path, command=(*strace, *delay, *PUBSUBD))

    async def publish_for(seconds: float) -> list[float]:
        """The duration of each publish."""
        taken: list[float] = []
        async with sdk.connect(a.socket) as client:
            while sum(taken) < seconds:
                began = time.monotonic()
                await client.publish("t", "x")
                taken.append(time.monotonic() - began)
        return taken

    assert max(asyncio.run(publish_for(1.5 * SLOW_S))) < SLOW_S / 2

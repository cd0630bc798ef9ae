"""A disk fails under a running broker: it accepts no more, readers go on, and no accepted message is lost."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.steps import (
    DEADLINE_S,
    StartBroker,
    StartCluster,
    attached,
    in_thread,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import BrokerUnavailable, Client, PublishUnknown

SIZE = 4000
MOST = 200
"""More messages than the disk has room for."""
GIVE_UP_S = 0.3
"""Seconds that a publisher tries; a refused one is sent away until then."""


def payload_of(number: int) -> str:
    return f"{number} ".ljust(SIZE, ".")


async def publish_until_refused(client: Client) -> list[str]:
    """The messages accepted before the first refused one."""
    accepted: list[str] = []
    for number in range(MOST):
        try:
            receipt = await client.publish("x", payload_of(number), timeout=GIVE_UP_S * 5)
        except PublishUnknown:
            return accepted
        assert receipt.offset == number
        accepted.append(payload_of(number))
    raise AssertionError(f"{MOST} were accepted, and the disk has not failed")


async def is_refused(broker: Broker, reason: str) -> None:
    """A new publisher is sent away with the reason."""
    async with pubsubd.connect(broker.socket, publish_timeout_s=5 * GIVE_UP_S) as client:
        with pytest.raises((PublishUnknown, BrokerUnavailable)) as refused:
            await client.publish("x", "too late")
    assert f"the journal failed: {reason}" in str(refused.value)


def why_not_ready(broker: Broker) -> str:
    with pytest.raises(urllib.error.HTTPError) as refused:
        broker.get("/readyz")
    with refused.value as answer:
        assert answer.code == 503
        return answer.read().decode()


async def accepts_until_the_disk_fails(broker: Broker, problem: str, remedy: str) -> list[str]:
    """Publish until the journal fails, and check all that shows it. Returns the accepted messages."""
    reason = f"{broker.options['journal']} cannot be written: {problem}: {remedy}, then restart"
    async with subscribed(broker) as reader:
        async with pubsubd.connect(broker.socket) as client:
            accepted = await publish_until_refused(client)
        assert reason in broker.wait_log("journal.failed")["reason"]
        assert reason in why_not_ready(broker)
        assert reason in broker.status()["journal"]["failed"]
        await is_refused(broker, reason)
        assert await payloads_to(reader, accepted[-1]) == accepted
    async with subscribed(broker, start="earliest") as late:
        assert await payloads_to(late, accepted[-1]) == accepted
    assert broker.status()["ring"]["next_offset"] == len(accepted)
    assert len(broker.logged("journal.failed")) == 1
    return accepted


async def holds_all(broker: Broker, accepted: list[str]) -> None:
    """After a restart all accepted messages stand before new ones."""
    async with (
        pubsubd.connect(broker.socket) as client,
        subscribed(broker, start="earliest") as reader,
    ):
        await client.publish("x", "room again")
        came = await payloads_to(reader, "room again")
    assert came[: len(accepted)] == accepted
    # A message whose publisher got no answer may be there, once.
    unknown = came[len(accepted) : -1]
    assert unknown in ([], [payload_of(len(accepted))])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs to be allowed to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@async_test
async def test_a_full_disk_ends_publishing_until_there_is_room(
    small_disk: Path, start_broker: StartBroker
) -> None:
    broker = start_broker("a", journal=small_disk / "journal", fsync="always")
    accepted = await accepts_until_the_disk_fails(
        broker, "No space left on device", "make room there"
    )
    assert len(accepted) > 10
    assert await in_thread(broker.stop) == 1
    broker.start(wait=False)
    await wait_until_async(lambda: not broker.alive, DEADLINE_S, "the refusal to start")
    assert broker.exit_code == 2
    await in_thread(remount_larger, small_disk)
    await in_thread(broker.start)
    await holds_all(broker, accepted)
    assert broker.ready()


@async_test
async def test_a_snapshot_without_room_is_not_a_clean_stop(
    small_disk: Path, start_broker: StartBroker
) -> None:
    broker = start_broker("a", journal=small_disk / "journal", fsync="snapshot")
    async with pubsubd.connect(broker.socket) as client:
        for number in range(MOST):
            await client.send("x", payload_of(number))
        await client.flush()
    assert await in_thread(broker.stop) == 1
    reason = broker.wait_log("journal.failed")["reason"]
    assert (
        reason
        == f"{small_disk}/journal cannot be written: No space left on device: make room there"
    )


@async_test
async def test_a_limit_on_the_size_of_files_is_named_with_its_remedy(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    limited = ("sh", "-c", 'ulimit -f 128; exec "$@"', "sh")
    journal = {"journal": tmp_path / "journal", "fsync": "always"}
    broker = start_broker("a", **journal, command=(*limited, *PUBSUBD))
    accepted = await accepts_until_the_disk_fails(
        broker, "File too large", "raise the limit on the size of files (ulimit -f, LimitFSIZE=)"
    )
    assert len(accepted) > 10


def remount_larger(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)


def can_inject() -> bool:
    if shutil.which("strace") is None:
        return False
    tracing = ["strace", "-qq", "-e", "trace=none", "-e", "inject=sync:error=EIO", "true"]
    return subprocess.run(tracing, check=False).returncode == 0


@pytest.mark.skipif(not can_inject(), reason="needs strace, and to be allowed to trace")
@async_test
async def test_one_failed_sync_is_final_though_the_disk_works_again(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    # The first one is of the journal's beginning.
    failing = "fdatasync:error=EIO:when=11"
    strace = ["strace", "-D", "-f", "-qq", "-o", str(tmp_path / "calls")]
    strace += ["-e", "trace=fdatasync", "-e", f"inject={failing}"]
    traced = start_broker("a", journal=folder, fsync="always", command=(*strace, *PUBSUBD))
    accepted = await accepts_until_the_disk_fails(traced, "Input/output error", "look at its disk")
    assert len(accepted) == 9
    traced.kill()
    await holds_all(await in_thread(lambda: start_broker("a", journal=folder)), accepted)


@async_test
async def test_a_crash_with_snapshots_only_is_told_to_all_readers(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    journal = {"journal": tmp_path / "journal", "fsync": "snapshot"}
    cluster = start_cluster(2, per_node={"a": journal})
    a, b = cluster["a"], cluster["b"]
    lost = ("a", "state_lost", None)
    async with (
        subscribed(a) as on_a,
        subscribed(b) as on_b,
        subscribed(b, name="projector") as named,
    ):
        readers = (on_a, on_b, named)
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(20))
            await in_thread(a.restart)
            await publish(client, range(20, 40))
            for reader in readers:
                assert await payloads_to(reader, 39) == [*range(40)]
        a.kill()
        assert not [*(tmp_path / "journal").glob("*.journal")], "it was used up"
        await in_thread(a.start)
        for reader in readers:
            assert told([await next_event(reader)]) == [lost]
        await attached(cluster, "b", "a")
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(100, 110))
        for reader in readers:
            assert await payloads_to(reader, 109) == [*range(100, 110)]

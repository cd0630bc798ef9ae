"""A broker with default settings that is stopped cleanly and started again goes on with its history."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.cluster import Broker, wait_until_async
from tests.integration.steps import (
    DEADLINE_S,
    StartBroker,
    StartCluster,
    attached,
    behind_a_relay,
    consumer,
    in_thread,
    level,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
    within,
)

import pubsubd
from pubsubd import Client

LOST = ("a", "state_lost", None)


def state_of(broker: Broker, node: str = "a") -> Path:
    return Path(f"{broker.socket}.state") / node


def snapshots(broker: Broker, node: str = "a") -> list[str]:
    return sorted(each.name for each in state_of(broker, node).glob("*.journal"))


def logged(broker: Broker, event: str) -> list[dict[str, Any]]:
    return [line for line in broker.logs if line["event"] == event]


async def told_of_a_loss(broker: Broker, client: Client, lose: Callable[[], object]) -> None:
    """A reader that has everything is told that the history of `broker` ended with `lose`."""
    async with subscribed(broker) as reader:
        await client.publish("x", "before")
        assert await payloads_to(reader, "before")
        await in_thread(lose)
        assert told([await next_event(reader)]) == [LOST]


@async_test
async def test_readers_of_every_kind_go_on_without_a_notice(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    async with (
        pubsubd.connect(a.socket) as client,
        subscribed(a) as on_a,
        subscribed(b) as on_b,
    ):
        async with subscribed(a, name="at a") as at_a, subscribed(b, name="at b") as at_b:
            await publish(client, range(20))
            for reader in (on_a, on_b, at_a, at_b):
                assert await payloads_to(reader, 19) == [*range(20)]
            stored = json.dumps(on_a.position)
        await level(cluster, "b", "a")
        await wait_until_async(lambda: consumer(a, "b")["cursor"] == 20, DEADLINE_S, "the ack")
        for _ in range(2):
            for broker in (a, b):
                assert await in_thread(broker.stop) == 0
                await in_thread(broker.start)
        await attached(cluster, "b", "a")
        await publish(client, range(20, 30))
        for reader in (on_a, on_b):
            assert await payloads_to(reader, 29) == [*range(20, 30)]
        async with (
            subscribed(a, position=json.loads(stored)) as from_position,
            subscribed(a, name="at a") as at_a,
            subscribed(b, name="at b") as at_b,
        ):
            assert at_a.resumed
            assert at_b.resumed
            assert await payloads_to(from_position, 29) == [*range(20, 30)]
            # The last message is not acknowledged, as no next one was asked for: it comes again.
            assert await payloads_to(at_a, 29) == [*range(19, 30)]
            assert await payloads_to(at_b, 29) == [*range(19, 30)]


@async_test
async def test_unread_messages_come_from_the_next_life(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, peer_timeout="60s")
    a, b = cluster["a"], cluster["b"]
    async with pubsubd.connect(a.socket) as client, subscribed(b) as on_b:
        await in_thread(b.pause)
        await publish(client, range(2000))
        assert await in_thread(a.stop) == 0
        assert not a.wait_log("broker.stopped")["drained"]
        await in_thread(b.resume)
        await in_thread(a.start)
        assert await payloads_to(on_b, 1999) == [*range(2000)]


@async_test
async def test_a_retry_across_a_clean_restart_is_placed_once(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    async with behind_a_relay(broker) as (relay, client), subscribed(broker) as reader:
        relay.hold("from_target")
        publishing = asyncio.create_task(client.publish("x", "answer lost"))
        assert await payloads_to(reader, "answer lost") == ["answer lost"]
        relay.cut()
        assert await in_thread(broker.stop) == 0
        await in_thread(broker.start)
        relay.heal()
        assert (await within(publishing, "the receipt")).offset == 0
        await client.publish("x", "end")
        assert await payloads_to(reader, "end") == ["end"]


@pytest.mark.parametrize("how", ["SIGKILL", "a crash after a clean restart"])
@async_test
async def test_a_crash_after_a_clean_stop_is_a_loss_by_default(
    how: str, start_broker: StartBroker
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client:
        await publish(client, range(10))
        if how != "SIGKILL":
            assert await in_thread(broker.stop) == 0
            assert snapshots(broker)
            await in_thread(broker.start)
        # It is used up once it has been read: it lacks the messages that this life accepts.
        assert not snapshots(broker)
        await told_of_a_loss(broker, client, lambda: broker.restart(signal.SIGKILL))


@pytest.mark.parametrize("between", [{"no_journal": True}, {"journal": "elsewhere"}])
@async_test
async def test_no_life_continues_a_history_left_by_another_life(
    between: dict[str, Any], start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client:
        await publish(client, range(10))
        async with subscribed(broker) as away:
            position = away.position
        assert await in_thread(broker.stop) == 0
        broker.options |= {
            key: str(tmp_path / value) if isinstance(value, str) else value
            for key, value in between.items()
        }
        await in_thread(broker.start)
        assert not snapshots(broker)
        assert broker.wait_log("snapshot.discarded")["folder"] == str(state_of(broker))
        await client.publish("x", "in between")
        assert await in_thread(broker.stop) == 0
        assert not snapshots(broker)
        for key in between:
            del broker.options[key]
        await in_thread(broker.start)
        async with subscribed(broker, position=position) as reader:
            assert told([await next_event(reader)]) == [LOST]


@async_test
async def test_nothing_is_kept_without_a_journal_if_asked(start_broker: StartBroker) -> None:
    broker = start_broker("a", no_journal=True)
    assert broker.status()["journal"] is None
    async with pubsubd.connect(broker.socket) as client:
        await told_of_a_loss(broker, client, broker.restart)
    assert not Path(f"{broker.socket}.state").exists()


def test_the_status_names_the_snapshots_folder(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    journal = broker.status()["journal"]
    assert (journal["folder"], journal["fsync"]) == (str(state_of(broker)), "snapshot")


def test_only_the_brokers_own_user_can_read_the_snapshot(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    assert broker.stop() == 0
    for path in (state_of(broker).parent, state_of(broker)):
        assert path.stat().st_mode & 0o777 == 0o700
    (snapshot,) = snapshots(broker)
    assert (state_of(broker) / snapshot).stat().st_mode & 0o777 == 0o600


@async_test
async def test_a_second_broker_leaves_the_first_ones_snapshot_alone(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker("a")
    # The snapshot, while the first broker writes it, and before that broker lets go of the socket.
    (state_of(broker) / f"{1:016}.journal").write_bytes(b"a snapshot")
    for node in ("a", "b"):
        second = Broker(tmp_path, node)
        second.socket = broker.socket
        second.start(wait=False)
        await wait_until_async(lambda second=second: second.exit_code is not None)  # type: ignore[misc]
        assert second.exit_code == 2
        second.close()
    assert snapshots(broker)


@async_test
async def test_another_node_at_the_socket_leaves_the_snapshot_alone(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await publish(client, range(10))
        assert await payloads_to(reader, 9) == [*range(10)]
        for node in ("b", "a"):
            assert await in_thread(broker.stop) == 0
            broker.node = node
            await in_thread(broker.start)
        await client.publish("x", "again")
        assert await payloads_to(reader, "again") == ["again"]


def test_nodes_with_ever_new_names_fill_no_disk(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    for number in range(4):
        assert broker.stop() == 0
        broker.node = f"container-{number}"
        broker.start()
    kept = {each.name for each in state_of(broker).parent.iterdir()}
    assert kept == {"container-2", "container-3"}
    removed = [Path(line["folder"]).name for line in logged(broker, "snapshot.removed")]
    assert removed == ["a", "container-0", "container-1"]


def spoil_format(snapshot: Path) -> None:
    from pubsubd_broker.core.journal.records import FORMAT, first_line

    data = snapshot.read_bytes()
    snapshot.write_bytes(data.replace(first_line(FORMAT), first_line(FORMAT + 1)))


def spoil_everything(snapshot: Path) -> None:
    snapshot.write_bytes(b"\0" * snapshot.stat().st_size)


def put_another_nodes(snapshot: Path) -> None:
    from pubsubd_broker.core.journal.checkpoint import decode_checkpoint, encode_checkpoint
    from pubsubd_broker.core.journal.records import FIRST_BYTES, Kind, record, scan

    _, body, end = next(scan(data := snapshot.read_bytes()))
    state = decode_checkpoint(body)
    state.node = "another"
    head = b"".join([FIRST_BYTES, *record(Kind.CHECKPOINT, encode_checkpoint(state))])
    snapshot.write_bytes(head + data[end:])


@pytest.mark.parametrize("spoil", [spoil_format, spoil_everything, put_another_nodes])
@async_test
async def test_an_unusable_snapshot_is_a_loss_and_the_broker_starts(
    spoil: Callable[[Path], None], start_broker: StartBroker
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await publish(client, range(10))
        assert await payloads_to(reader, 9) == [*range(10)]
        assert await in_thread(broker.stop) == 0
        (snapshot,) = snapshots(broker)
        spoil(state_of(broker) / snapshot)
        await in_thread(broker.start)
        warned = [
            line
            for line in broker.logs
            if line["event"] in ("snapshot.unusable", "journal.damaged")
        ]
        assert [line["level"] for line in warned] == ["warning"]
        assert told([await next_event(reader)]) == [LOST]
        # And the next clean stop leaves a good snapshot.
        assert not snapshots(broker)
        await in_thread(broker.restart)
        await client.publish("x", "again")
        assert await payloads_to(reader, "again") == ["again"]


@contextlib.contextmanager
def in_the_way(broker: Broker) -> Iterator[None]:
    """A file stands where snapshots go. (Root may write everywhere: a mode would not stop it.)"""
    place = Path(f"{broker.socket}.state")
    place.write_text("in the way")
    yield
    place.unlink()


@async_test
async def test_an_unusable_folder_is_logged_and_the_broker_runs(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "a")
    with contextlib.closing(broker), in_the_way(broker):
        await in_thread(broker.start)
        warning = broker.wait_log("snapshot.unavailable")
        assert warning["level"] == "warning"
        assert warning["folder"] == str(state_of(broker))
        assert "Not a directory" in warning["reason"]
        assert warning["consequence"] == "readers are told state_lost after a restart"
        assert broker.status()["journal"] is None
        async with pubsubd.connect(broker.socket) as client:
            await told_of_a_loss(broker, client, broker.restart)
        assert await in_thread(broker.stop) == 0


@async_test
async def test_a_stop_without_a_snapshot_is_logged_and_ends_with_0(
    start_broker: StartBroker,
) -> None:
    """No setting has asked for the snapshot: a service manager has nothing to repair."""
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await client.publish("x", "before")
        assert await payloads_to(reader, "before")
        await in_thread(lambda: shutil_rmtree(state_of(broker).parent))
        with in_the_way(broker):
            assert await in_thread(broker.stop) == 0
        assert broker.wait_log("snapshot.failed")["level"] == "warning"
        await in_thread(broker.start)
        assert told([await next_event(reader)]) == [LOST]


def shutil_rmtree(path: Path) -> None:
    import shutil

    shutil.rmtree(path)


@async_test
async def test_a_removed_snapshot_folder_is_made_anew_at_the_stop(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await client.publish("x", 1)
        await in_thread(lambda: shutil_rmtree(state_of(broker).parent))
        assert await in_thread(broker.stop) == 0
        await in_thread(broker.start)
        await client.publish("x", 2)
        assert await payloads_to(reader, 2) == [1, 2]


@async_test
async def test_a_failed_start_leaves_the_snapshot_as_it_is(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await client.publish("x", 1)
        assert await payloads_to(reader, 1) == [1]
        assert await in_thread(broker.stop) == 0
        listen = broker.options["listen"]
        broker.options["listen"], broker.listen = "192.0.2.1:7420", ""
        broker.options["insecure"] = True
        broker.start(wait=False)
        await wait_until_async(lambda: broker.exit_code is not None, DEADLINE_S, "its end")
        assert broker.exit_code == 2
        assert snapshots(broker)
        broker.options["listen"] = listen
        await in_thread(broker.start)
        await client.publish("x", 2)
        assert await payloads_to(reader, 2) == [2]


@async_test
async def test_a_snapshot_counts_before_the_copies_of_peers(start_cluster: StartCluster) -> None:
    """The snapshot is whole; the peers' copies may be shorter. A crash leaves no snapshot, and then peers are asked."""
    cluster = start_cluster(
        2, per_node={"a": {"recover_from_peers": True}}, replica_messages=5, peer_timeout="2s"
    )
    a, b = cluster["a"], cluster["b"]
    async with pubsubd.connect(a.socket) as client, subscribed(b) as on_b:
        await publish(client, range(20))
        assert await payloads_to(on_b, 19) == [*range(20)]
        await in_thread(a.restart)
        assert a.wait_log("journal.recovered")["messages"] == 20
        await client.publish("x", 20)
        assert await payloads_to(on_b, 20) == [20]
        await in_thread(a.restart, signal.SIGKILL)
        assert a.wait_log("stream.recalled")["next"] == 21
        await client.publish("x", 21)
        assert await payloads_to(on_b, 21) == [21]


@async_test
async def test_a_stop_before_peers_answer_leaves_no_empty_history(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(
        2, per_node={"a": {"recover_from_peers": True}}, peer_timeout="20s", heartbeat="1s"
    )
    a, b = cluster["a"], cluster["b"]
    async with pubsubd.connect(a.socket) as client, subscribed(b) as on_b:
        await publish(client, range(20))
        assert await payloads_to(on_b, 19) == [*range(20)]
        a.kill()
        cluster.link("a", "b").cut()
        await in_thread(a.start)
        assert await in_thread(a.stop) == 0
        assert not snapshots(a)
        cluster.link("a", "b").heal()
        await in_thread(a.start)
        a.wait_log("stream.recalled", next=20)
        await client.publish("x", 20)
        assert await payloads_to(on_b, 20) == [20]


@async_test
async def test_the_default_socket_has_the_snapshot_beside_it(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        broker = Broker(tmp_path, "a", socket=None)
        stack.callback(broker.close)
        runtime = Path(broker.socket).parent / "run"
        runtime.mkdir(0o700)
        broker._environment["XDG_RUNTIME_DIR"] = str(runtime)
        await in_thread(broker.start)
        assert broker.socket == f"{runtime}/pubsubd/pubsubd.sock"
        async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
            await client.publish("x", 1)
            assert await payloads_to(reader, 1) == [1]
            assert await in_thread(broker.stop) == 0
            assert os.listdir(f"{runtime}/pubsubd/pubsubd.sock.state") == ["a"]
            await in_thread(broker.start)
            await client.publish("x", 2)
            assert await payloads_to(reader, 2) == [2]

"""The folder of the snapshot: its owner and neighbours, and what stands in its way."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.snapshots import LOST, snapshots, state_of, told_of_a_loss
from tests.integration.steps import (
    StartBroker,
    in_thread,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
)
from tests.integration.waiting import wait_until_async

import pubsubd


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
    removed = [Path(line["folder"]).name for line in broker.logged("snapshot.removed")]
    assert removed == ["a", "container-0", "container-1"]


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
        await in_thread(lambda: shutil.rmtree(state_of(broker).parent))
        with in_the_way(broker):
            assert await in_thread(broker.stop) == 0
        assert broker.wait_log("snapshot.failed")["level"] == "warning"
        await in_thread(broker.start)
        assert told([await next_event(reader)]) == [LOST]


@async_test
async def test_a_removed_snapshot_folder_is_made_anew_at_the_stop(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await client.publish("x", 1)
        await in_thread(lambda: shutil.rmtree(state_of(broker).parent))
        assert await in_thread(broker.stop) == 0
        await in_thread(broker.start)
        await client.publish("x", 2)
        assert await payloads_to(reader, 2) == [1, 2]


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

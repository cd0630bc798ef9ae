"""A broker with default settings that is stopped cleanly and started again goes on with its history."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.snapshots import LOST, snapshots, state_of, told_of_a_loss
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
from tests.integration.waiting import wait_until_async

import pubsubd


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

"""Subscribing through the asyncio shell, against a scripted broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import (
    EPOCH,
    OTHER_EPOCH,
    FakeBroker,
    Peer,
    entry,
    raw_entry,
    subscribed_in,
)

import pubsubd
from pubsubd_protocol import codec
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.frames import (
    Ack,
    CursorExpired,
    Frame,
    Health,
    Heartbeat,
    Refused,
    SetFilter,
    Skip,
    StreamPosition,
    Subscribe,
    Subscribed,
)
from pubsubd_protocol.positions import Position, StreamView


def gap(next_offset: int, missed: int | None = 3, reason: Reason = Reason.OVERWRITTEN) -> Frame:
    return CursorExpired("a", reason, missed, StreamView(EPOCH, (), next_offset, next_offset))


def acks(peer: Peer) -> list[int]:
    return [frame.position.offset for frame in peer.frames if isinstance(frame, Ack)]


@async_test
async def test_messages_arrive_in_order_with_their_place(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path, "t", "u") as (broker, subscription):
        broker.sessions[0].send(entry(0, "x", "y", topics=("t", "u")), entry(2, {"z": 1}))
        got = [await anext(subscription) for _ in range(3)]
    assert [(m.topic, m.offset, m.payload) for m in got] == [
        ("t", 0, "x"),
        ("u", 1, "y"),
        ("t", 2, {"z": 1}),
    ]
    assert (got[0].node, got[0].epoch, got[0].time) == ("a", EPOCH.hex(), 1_700_000_000.0)


@async_test
async def test_a_position_is_set_at_once_and_moves_with_yielded_messages(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.next = 7
        subscription = await client.subscribe(">")
        assert subscription.position == {"a": [EPOCH.hex(), 7]}
        broker.sessions[0].send(
            entry(7, 0, 1), Skip("a", EPOCH, 9, 20), StreamPosition("b", Position(OTHER_EPOCH, 5))
        )
        await anext(subscription)
        assert json.loads(json.dumps(subscription.position))["a"][1] == 8
        await anext(subscription)
        assert subscription.position == {"a": [EPOCH.hex(), 20], "b": [OTHER_EPOCH.hex(), 5]}
        await subscription.close()


@async_test
async def test_a_position_has_no_more_nodes_than_may_be_presented_again(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        stored = {f"gone-{n}": [EPOCH.hex(), n] for n in range(MAX_STREAMS - 1)}
        subscription = await client.subscribe(">", position=stored)
        lost = {node: 10_000 - n for n, node in enumerate(stored)}
        places = (StreamPosition(f"new-{n}", Position(EPOCH, n)) for n in range(3))
        broker.sessions[0].send(Health(lost), *places, entry(0, 0))
        await anext(subscription)
        position = subscription.position
        assert len(position) == MAX_STREAMS
        assert {"a", "new-0", "new-1", "new-2"} < position.keys()
        assert not {"gone-0", "gone-1", "gone-2"} & position.keys()
        await subscription.close()
        await (await client.subscribe(">", position=position)).close()


@async_test
async def test_a_stored_position_is_presented(tmp_path: Path) -> None:
    stored = {"a": [EPOCH.hex(), 3], "b": [OTHER_EPOCH.hex(), 4]}
    async with subscribed_in(tmp_path, position=stored, start="earliest", echo=False) as (
        broker,
        subscription,
    ):
        assert subscription.position == stored
    (asked,) = broker.subscribes
    assert asked.positions == {"a": Position(EPOCH, 3), "b": Position(OTHER_EPOCH, 4)}
    assert (asked.born, asked.start, asked.echo) == (None, "earliest", False)


@async_test
async def test_a_reconnect_presents_received_messages_and_repeats_none(
    tmp_path: Path,
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.sessions[0].send(entry(0, 0, 1, 2))
        assert (await anext(subscription)).payload == 0
        await broker.restart()
        await broker.until(lambda: len(broker.subscribes) == 2)
        # The application was handed one message, three were received: the rest is not asked for again.
        assert broker.subscribes[1].positions == {"a": Position(EPOCH, 3)}
        assert broker.subscribes[1].born == EPOCH
        broker.sessions[1].send(entry(2, 2, 3))
        assert [(await anext(subscription)).payload for _ in range(3)] == [1, 2, 3]


@async_test
async def test_a_cut_in_the_middle_of_a_frame_loses_nothing(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        session = broker.sessions[0]
        session.send(entry(0, 0))
        session.writer.write(codec.encode(entry(1, 1))[:-1])
        assert (await anext(subscription)).payload == 0
        session.writer.close()
        await broker.until(lambda: len(broker.subscribes) == 2)
        assert broker.subscribes[1].positions == {"a": Position(EPOCH, 1)}
        broker.sessions[1].send(entry(1, 1))
        assert (await anext(subscription)).payload == 1


@async_test
async def test_a_hole_ends_the_connection_and_nothing_behind_it_is_delivered(
    tmp_path: Path,
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.sessions[0].send(entry(0, 0), entry(5, 5))
        await broker.until(lambda: len(broker.subscribes) == 2)
        assert broker.subscribes[1].positions == {"a": Position(EPOCH, 1)}
        broker.sessions[1].send(entry(1, 1))
        assert [(await anext(subscription)).payload for _ in range(2)] == [0, 1]


@async_test
async def test_a_broker_that_only_breaks_the_protocol_is_reported(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t")

        def broken(frame: Subscribe) -> Frame:
            return StreamPosition("a", Position(EPOCH, 99))

        broker.on_subscribe = broken
        broker.sessions[0].send(entry(5, 5))
        with pytest.raises(pubsubd.ProtocolError):
            await anext(subscription)
        await subscription.close()


@async_test
async def test_iterating_raises_at_the_gap_and_goes_on_behind_it(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.sessions[0].send(entry(0, 0), gap(4), entry(4, 4))
        assert (await anext(subscription)).payload == 0
        with pytest.raises(pubsubd.CursorExpired) as caught:
            await anext(subscription)
        assert subscription.position["a"] == [EPOCH.hex(), 4]
        assert (await anext(subscription)).payload == 4
    told = caught.value
    assert (told.node, told.reason, told.missed, told.next, told.epoch) == (
        "a",
        pubsubd.Reason.OVERWRITTEN,
        3,
        4,
        EPOCH.hex(),
    )


@async_test
async def test_on_expired_is_awaited_between_the_messages_around_the_gap(tmp_path: Path) -> None:
    seen: list[object] = []

    async def reload(expired: pubsubd.CursorExpired) -> None:
        await asyncio.sleep(0)
        seen.append(expired.next)

    async with subscribed_in(tmp_path, on_expired=reload) as (broker, subscription):
        broker.sessions[0].send(entry(0, "before"), gap(4), entry(4, "behind"))
        async for message in subscription:
            seen.append(message.payload)
            if message.offset == 4:
                break
    assert seen == ["before", 4, "behind"]


@async_test
async def test_a_reload_that_failed_is_called_again(tmp_path: Path) -> None:
    calls = 0

    def reload(expired: pubsubd.CursorExpired) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("database away")

    async with subscribed_in(tmp_path, on_expired=reload) as (broker, subscription):
        broker.sessions[0].send(gap(4), entry(4, 4))
        with pytest.raises(OSError, match="database away"):
            await anext(subscription)
        assert subscription.position["a"] == [EPOCH.hex(), 0]
        assert (await anext(subscription)).payload == 4
        assert calls == 2


@async_test
async def test_events_yield_messages_and_gaps_alike(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.sessions[0].send(entry(0, 0, 1), gap(4), entry(4, 4))
        events = subscription.events()
        kinds = [type(await anext(events)).__name__ for _ in range(4)]
    assert kinds == ["Message", "Message", "CursorExpired", "Message"]


@async_test
async def test_batches_come_as_they_were_published_and_raise_at_a_gap(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.sessions[0].send(entry(0, 0, 1), entry(2, 2), gap(9), entry(9, 9))
        batches = subscription.batches()
        assert [m.payload for m in await anext(batches)] == [0, 1]
        assert [m.payload for m in await anext(batches)] == [2]
        assert subscription.position["a"][1] == 3
        with pytest.raises(pubsubd.CursorExpired):
            await anext(batches)
        assert [m.payload for m in await anext(subscription.batches())] == [9]


@async_test
async def test_a_payload_that_is_none_fails_alone(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.sessions[0].send(raw_entry(0, b"\xc1", b"\x07"))
        bad, good = await anext(subscription), await anext(subscription)
        with pytest.raises(pubsubd.DecodeError) as caught:
            _ = bad.payload
        assert (caught.value.topic, caught.value.node, caught.value.offset) == ("t", "a", 0)
        assert bad.raw == b"\xc1"
        assert good.payload == 7


@async_test
async def test_a_slow_reader_stops_reading_its_socket_and_misses_nothing(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path, codec=pubsubd.RAW) as (broker, subscription):
        session, count = broker.sessions[0], 200
        sending = asyncio.create_task(_send_slowly(session, count))
        # 200 entries of 100 kB don't fit the socket's buffers and the queue's bound.
        await broker.until(lambda: len(session.frames) == 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not sending.done()
        assert [(await anext(subscription)).offset for _ in range(count)] == list(range(count))
        await sending


async def _send_slowly(session: Peer, count: int) -> None:
    for i in range(count):
        session.send(raw_entry(i, b"x" * 100_000))
        await session.writer.drain()


@async_test
async def test_add_and_remove_state_from_where_they_count(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        assert await subscription.add("u", "v.>") == {"a": [EPOCH.hex(), 0]}
        await subscription.remove("t")
        assert [f.patterns for f in broker.sessions[0].frames if isinstance(f, SetFilter)] == [
            ("t", "u", "v.>"),
            ("u", "v.>"),
        ]
        with pytest.raises(pubsubd.InvalidTopic):
            await subscription.remove("u", "v.>")
        with pytest.raises(pubsubd.InvalidTopic):
            await subscription.add("no good")
        assert subscription.patterns == ("u", "v.>")
        await broker.restart()
        await broker.until(lambda: len(broker.subscribes) == 2)
        assert broker.subscribes[1].patterns == ("u", "v.>")


@async_test
async def test_a_filter_can_be_changed_while_messages_wait(
    tmp_path: Path,
) -> None:
    """The answer stands behind messages that the application will not ask for before it has it."""
    async with subscribed_in(tmp_path, codec=pubsubd.RAW) as (broker, subscription):
        sending = asyncio.create_task(_send_slowly(broker.sessions[0], 200))
        assert (await anext(subscription)).offset == 0
        for _ in range(50):
            await asyncio.sleep(0)
        assert not sending.done()
        async with asyncio.timeout(5):
            await subscription.add("u")
        assert [(await anext(subscription)).offset for _ in range(199)] == list(range(1, 200))
        await sending


@async_test
async def test_closing_fails_every_change_of_the_filter_that_waits(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t")
        broker.sessions[0].writer.transport.pause_reading()  # type: ignore[attr-defined]
        changes = [asyncio.create_task(subscription.add(f"u{i}")) for i in range(3)]
        await asyncio.sleep(0)
        await subscription.close()
        results = await asyncio.gather(*changes, return_exceptions=True)
        assert [type(result) for result in results] == [pubsubd.ClientClosed] * 3


@async_test
async def test_an_entry_may_be_longer_than_what_the_broker_takes_itself(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.max_frame = 64 * 1024
        async with (
            pubsubd.connect(broker.path) as client,
            client.subscribe("t", codec=pubsubd.RAW) as subscription,
        ):
            broker.sessions[0].send(raw_entry(0, b"x" * 1_000_000))
            assert len((await anext(subscription)).raw) == 1_000_000


@async_test
async def test_a_filter_changed_without_a_broker_counts_from_the_reconnect(
    tmp_path: Path,
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        await broker.stop()
        change = asyncio.create_task(subscription.add("u"))
        await asyncio.sleep(0)
        await broker.start()
        assert await change == {"a": [EPOCH.hex(), 0]}
        assert broker.subscribes[1].patterns == ("t", "u")


@async_test
@pytest.mark.parametrize("away", [False, True], ids=["while connected", "while the broker is away"])
async def test_a_filter_that_is_refused_leaves_the_session_as_it_was(
    tmp_path: Path, away: bool
) -> None:
    async with subscribed_in(tmp_path, codec=pubsubd.RAW) as (broker, subscription):
        refusal = Refused("not_allowed", "not this one")
        broker.on_subscribe = lambda frame: (
            refusal if "secret" in frame.patterns else broker.subscribed(frame)
        )
        broker.on_filter = lambda frame: (
            refusal if "secret" in frame.patterns else broker.filter_set(frame)
        )
        if away:
            await broker.stop()
        change = asyncio.create_task(subscription.add("secret"))
        if away:
            await asyncio.sleep(0)
            await broker.start()
        with pytest.raises(pubsubd.ConnectionRefused, match="not this one"):
            await change
        assert list(subscription.patterns) == ["t"]
        asked = [("t",), ("t", "secret"), ("t",)] if away else [("t",), ("t",)]
        await broker.until(lambda: [s.patterns for s in broker.subscribes] == asked)
        broker.sessions[-1].send(raw_entry(0, b"goes on"))
        assert (await anext(subscription)).raw == b"goes on"
        # A change that is allowed is one afterwards.
        await subscription.add("u")
        assert set(subscription.patterns) == {"t", "u"}


@async_test
async def test_what_is_refused_while_no_change_waits_ends_the_session(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        await subscription.add("u")
        broker.sessions[0].send(Refused("not_allowed", "not any more"))
        with pytest.raises(pubsubd.ConnectionRefused, match="not any more"):
            await anext(subscription)


@async_test
async def test_asking_for_the_next_message_acknowledges_the_one_before(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector")
        assert broker.subscribes[0].name == "projector"
        session = broker.sessions[0]
        session.send(entry(0, 0, 1, 2))
        await anext(subscription)
        await anext(subscription)
        await broker.until(lambda: acks(session) != [])
        # The second one may still be being worked on.
        assert acks(session)[-1] == 1
        await subscription.close()
        assert acks(session)[-1] == 1


@async_test
async def test_acknowledgements_of_one_turn_are_one_frame(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector")
        session = broker.sessions[0]
        session.send(entry(0, *range(100)))
        for _ in range(100):
            await anext(subscription)
        last = asyncio.create_task(anext(subscription))
        await broker.until(lambda: acks(session)[-1:] == [100])
        assert len(acks(session)) <= 2
        last.cancel()


@async_test
async def test_a_manual_ack_goes_as_far_as_the_application_says(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector", ack="manual")
        session = broker.sessions[0]
        session.send(entry(0, 0, 1, 2))
        first, second, third = [await anext(subscription) for _ in range(3)]
        await subscription.ack(second)
        await broker.until(lambda: acks(session) == [2])
        await subscription.ack(first)
        await subscription.ack(third)
        await broker.until(lambda: acks(session) == [2, 3])
        await subscription.close()


@async_test
async def test_what_was_acknowledged_is_said_again_after_a_reconnect(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector")
        broker.sessions[0].send(entry(0, 0, 1))
        await anext(subscription)
        await anext(subscription)
        await broker.restart()
        await broker.until(lambda: len(broker.sessions) == 2)
        await broker.until(lambda: acks(broker.sessions[1]) == [1])
        await subscription.close()


@async_test
@pytest.mark.parametrize("ack", ["auto", "manual"])
async def test_resuming_does_not_acknowledge_messages_not_yet_yielded(
    tmp_path: Path, ack: Literal["auto", "manual"]
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector", ack=ack)
        broker.sessions[0].send(
            *(entry(0, 0, 1), entry(2, 2, 3), StreamPosition("b", Position(OTHER_EPOCH, 5))),
            entry(5, 5, 6, node="b", epoch=OTHER_EPOCH),
        )
        await anext(subscription)
        # The broker that has forgotten everything never answers: the application may die before it does.
        broker.on_subscribe = lambda frame: Heartbeat()
        await broker.restart()
        await broker.until(lambda: len(broker.sessions) == 2 and len(broker.sessions[1].frames) > 0)
        (presented,) = broker.sessions[1].frames
        assert isinstance(presented, Subscribe)
        assert presented.positions == {"a": Position(EPOCH, 4), "b": Position(OTHER_EPOCH, 7)}
        assert presented.acknowledged == {"a": Position(EPOCH, 0), "b": Position(OTHER_EPOCH, 5)}
        await subscription.close()


@async_test
async def test_a_node_not_met_again_has_only_earlier_acknowledgements(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector")
        broker.sessions[0].send(
            StreamPosition("b", Position(OTHER_EPOCH, 0)),
            entry(0, 0, 1, node="b", epoch=OTHER_EPOCH),
        )
        await anext(subscription)
        broker.on_subscribe = lambda frame: Subscribed({"a": Position(EPOCH, 0)}, EPOCH, True)
        await broker.restart()
        await broker.until(lambda: len(broker.sessions) == 2)
        session = broker.sessions[1]
        await anext(subscription)
        presented = session.frames[0]
        assert isinstance(presented, Subscribe)
        assert presented.acknowledged == {"a": Position(EPOCH, 0), "b": Position(OTHER_EPOCH, 0)}
        await broker.until(
            lambda: any(isinstance(f, Ack) and f.node == "a" for f in session.frames)
        )
        assert [f for f in session.frames if isinstance(f, Ack) and f.node == "b"] == []
        await subscription.close()


@async_test
async def test_a_name_in_use_is_refused_at_once(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.on_subscribe = lambda frame: Refused("name_in_use", "taken")
        with pytest.raises(pubsubd.NameInUse) as caught:
            await client.subscribe("t", name="projector")
        assert caught.value.name == "projector"


@async_test
async def test_a_standby_waits_on_over_restarts_of_its_broker(tmp_path: Path) -> None:
    timeout_s = 0.5
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path, connect_timeout_s=timeout_s) as client,
    ):
        broker.on_subscribe = lambda frame: Refused("name_in_use", "taken")
        standby = client.subscribe("t", name="n", wait=True)
        waits = asyncio.ensure_future(standby.__aenter__())
        await broker.until(lambda: len(broker.subscribes) >= 2)
        for _ in range(2):
            await broker.stop()
            await asyncio.sleep(0.5 * timeout_s)
            seen = len(broker.subscribes)
            await broker.start()
            await broker.until(lambda seen=seen: waits.done() or len(broker.subscribes) >= seen + 2)  # type: ignore[misc]
            assert not waits.done()
        broker.on_subscribe = broker.subscribed
        assert await waits is standby
        await standby.close()


@async_test
async def test_a_standby_whose_broker_stays_away_is_told_so(tmp_path: Path) -> None:
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path, connect_timeout_s=0.2) as client,
    ):
        broker.on_subscribe = lambda frame: Refused("name_in_use", "taken")
        standby = client.subscribe("t", name="n", wait=True)
        waits = asyncio.ensure_future(standby.__aenter__())
        await broker.until(lambda: len(broker.subscribes) >= 5)
        await broker.stop()
        with pytest.raises(pubsubd.BrokerUnavailable):
            await waits
        await broker.start()


@async_test
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("code", ["name_lost", "name_in_use", "replaced"])
async def test_a_subscription_that_lost_its_name_ends_with_an_error(
    tmp_path: Path, code: str, wait: bool
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", name="projector", wait=wait)
        broker.on_subscribe = lambda frame: Refused(code, "another connection has held it since")
        broker.sessions[0].cut()
        with pytest.raises(pubsubd.NameInUse, match="has held it since"):
            await anext(subscription)
        assert subscription.state is pubsubd.State.CLOSED
        assert len(broker.subscribes) == 2


@async_test
async def test_a_named_session_keeps_its_id_over_all_connections(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        async with client.subscribe("t", name="n"):
            broker.sessions[0].cut()
            await broker.until(lambda: len(broker.subscribes) == 2)
        async with client.subscribe("t", name="n"), client.subscribe("t"):
            pass
        first, again, anew, unnamed = (frame.id for frame in broker.subscribes)
        assert first == again != anew
        assert unnamed is None
        assert None not in (first, anew)


@async_test
async def test_a_final_refusal_on_resubscribing_is_raised_by_the_iteration(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t")
        broker.on_subscribe = lambda frame: Refused("forbidden", "not any more")
        broker.sessions[0].send(entry(0, 0))
        broker.sessions[0].writer.close()
        assert (await anext(subscription)).payload == 0
        with pytest.raises(pubsubd.ConnectionRefused) as caught:
            await anext(subscription)
        assert caught.value.code == "forbidden"
        await subscription.close()


@async_test
async def test_subscribe_without_a_broker_says_so_in_bounded_time(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = await pubsubd.connect(broker.path, connect_timeout_s=0.1)
        await broker.stop()
        with pytest.raises(pubsubd.BrokerUnavailable):
            await client.subscribe("t")
        await broker.start()
        await client.close()


def too_many_nodes() -> dict[str, list[object]]:
    return {f"n{i}": ["e" * 32, 0] for i in range(1025)}


def test_a_refused_name_or_position_gives_figures(tmp_path: Path) -> None:
    client = pubsubd.connect(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"1 to 128 printable characters.*200 characters"):
        client.subscribe("t", name="n" * 200)
    with pytest.raises(pubsubd.InvalidPosition, match=r"1025 nodes.*1024.*del position\[node\]"):
        client.subscribe("t", position=too_many_nodes())
    client.subscribe("t", name="ü" * 128)


@pytest.mark.parametrize(
    ("subscribe", "error"),
    [
        (lambda c: c.subscribe(), pubsubd.InvalidTopic),
        (lambda c: c.subscribe("a b"), pubsubd.InvalidTopic),
        (lambda c: c.subscribe(">.x"), pubsubd.InvalidTopic),
        (lambda c: c.subscribe("t", position={"a": "?"}), pubsubd.InvalidPosition),
        (lambda c: c.subscribe("t", start="middle"), ValueError),
        (lambda c: c.subscribe("t", ack="manual"), ValueError),
        (lambda c: c.subscribe("t", name=""), ValueError),
        (lambda c: c.subscribe("t", name="n" * 129), ValueError),
        (lambda c: c.subscribe("t", name="a\x00b"), ValueError),
        (lambda c: c.subscribe("t", position=too_many_nodes()), pubsubd.InvalidPosition),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    subscribe: Callable[[pubsubd.Client], object], error: type[Exception], tmp_path: Path
) -> None:
    client = pubsubd.connect(tmp_path / "missing")
    with pytest.raises(error):
        subscribe(client)

"""Waits that are given up, ended from elsewhere, or made in the wrong place: nothing lost, nothing in silence."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import EPOCH, FakeBroker, Peer, entry, subscribed_in

import pubsubd
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.frames import CursorExpired, Frame, Heartbeat, Refused, Rejected, SetFilter
from pubsubd_protocol.positions import StreamView

Next = Callable[[], Awaitable[Any]]


def gap(next_offset: int) -> Frame:
    view = StreamView(EPOCH, (), next_offset, next_offset)
    return CursorExpired("a", Reason.OVERWRITTEN, 3, view)


def ways(subscription: pubsubd.Subscription) -> dict[str, Next]:
    """The three ways to iterate, each as a function that waits for what comes next."""
    events, batches = subscription.events(), subscription.batches()
    return {
        "messages": subscription.__anext__,
        "events": lambda: anext(events),
        "batches": lambda: anext(batches),
    }


WAYS = ["messages", "events", "batches"]


def payloads(got: Any) -> list[object]:
    return [m.payload for m in (got if isinstance(got, pubsubd.Batch) else [got])]


async def given_up(wait: Next) -> None:
    """A wait that has begun, and is cancelled."""
    task = asyncio.ensure_future(wait())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


# A wait that is given up


@async_test
@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_wait_loses_no_message_and_the_next_goes_on(
    tmp_path: Path, way: str
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        following = ways(subscription)[way]
        got: list[object] = []
        for i in range(5):
            await given_up(following)
            broker.sessions[0].send(entry(i, i))
            got += payloads(await following())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(following(), 0.001)
    assert got == [0, 1, 2, 3, 4]


@async_test
@pytest.mark.parametrize("way", WAYS)
async def test_a_wait_cancelled_at_the_moment_a_message_comes_loses_nothing(
    tmp_path: Path, way: str
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        following = ways(subscription)[way]
        task = asyncio.ensure_future(following())
        broker.sessions[0].send(entry(0, "kept"))
        while subscription._reader._waiter is None or not subscription._reader._waiter.done():
            await asyncio.sleep(0)
        task.cancel()
        # At once, before the cancelled task has had a moment to end.
        assert payloads(await following()) == ["kept"]
        assert task.cancelled()


@async_test
@pytest.mark.parametrize("way", ["messages", "batches"])
async def test_a_reload_goes_on_when_the_wait_for_it_is_given_up(tmp_path: Path, way: str) -> None:
    begun: list[int] = []
    may_end = asyncio.Event()

    async def reload(expired: pubsubd.CursorExpired) -> None:
        begun.append(expired.next)
        await may_end.wait()

    async with subscribed_in(tmp_path, on_expired=reload) as (broker, subscription):
        following = ways(subscription)[way]
        broker.sessions[0].send(gap(4), entry(4, "behind"))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(following(), 0.01)
        assert subscription.position["a"] == [EPOCH.hex(), 0]
        may_end.set()
        assert payloads(await following()) == ["behind"]
        assert begun == [4]


@async_test
async def test_a_change_of_the_filter_that_is_given_up_is_made_all_the_same(tmp_path: Path) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.on_filter = lambda frame: Heartbeat()
        await given_up(lambda: subscription.add("u"))
        later = asyncio.create_task(subscription.add("v"))
        session = broker.sessions[0]
        await broker.until(lambda: any(isinstance(f, SetFilter) for f in session.frames))
        broker.on_filter = broker.filter_set
        session.send(broker.filter_set(SetFilter(("t", "u"))))
        assert await later == {"a": [EPOCH.hex(), 0]}
        assert subscription.patterns == ("t", "u", "v")


@async_test
async def test_a_cancelled_and_refused_change_leaves_the_subscription(
    tmp_path: Path,
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        broker.on_filter = lambda frame: Heartbeat()
        await given_up(lambda: subscription.add("secret"))
        session = broker.sessions[0]
        await broker.until(lambda: any(isinstance(f, SetFilter) for f in session.frames))
        session.send(Refused("not_allowed", "not this one"))
        await broker.until(lambda: len(broker.sessions) == 2)
        broker.sessions[1].send(entry(0, "goes on"))
        assert (await anext(subscription)).payload == "goes on"
        assert subscription.patterns == ("t",)


@async_test
async def test_a_flush_that_is_given_up_leaves_the_failure_to_the_next_one(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.answers = False
        await client.send("t", 1)
        await given_up(client.flush)
        await broker.until(lambda: len(broker.batches) == 1)
        broker.publishers[0].send(Rejected(0, "stream_full", "no more offsets"))
        with pytest.raises(pubsubd.PublishRejected):
            await client.flush()


@async_test
async def test_all_who_flush_at_once_are_told_what_failed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.reject = lambda batch: Rejected(batch.sequence, "stream_full", "no more offsets")
        await client.send("t", 1)
        told = await asyncio.gather(*(client.flush() for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in told] == [pubsubd.PublishRejected] * 3
        await client.flush()


# One at a time


@async_test
@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("second", WAYS)
async def test_two_tasks_do_not_iterate_one_subscription(
    tmp_path: Path, first: str, second: str
) -> None:
    async with subscribed_in(tmp_path) as (broker, subscription):
        following = ways(subscription)
        waiting = asyncio.ensure_future(following[first]())
        await asyncio.sleep(0)
        with pytest.raises(pubsubd.AlreadyIterating, match="open a subscription for each"):
            await following[second]()
        broker.sessions[0].send(entry(0, "for the first"))
        assert payloads(await waiting) == ["for the first"]


# Closing


async def _open_fds_and_tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if "pubsubd" in task.get_name()}


async def _silent(broker: FakeBroker) -> Callable[[], None]:
    """The broker's sockets are not read any more, as if it were stopped."""
    peers: list[Peer] = [*broker.publishers, *broker.sessions]
    for peer in peers:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on() -> None:
        for peer in peers:
            if not peer.writer.transport.is_closing():
                peer.writer.transport.resume_reading()  # type: ignore[attr-defined]

    return go_on


@async_test
async def test_a_close_that_was_given_up_is_finished_by_the_next_one(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = await pubsubd.connect(broker.path, close_timeout_s=0.2)
        subscription = await client.subscribe("t")
        go_on = await _silent(broker)
        await client.send("t", 1)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.close(), 0.01)
        assert await _open_fds_and_tasks()
        with pytest.raises(pubsubd.PublishUnknown):
            await client.close()
        assert not await _open_fds_and_tasks()
        assert subscription._link._connection is None
        assert client._opened is not None
        assert client._opened._connection is None
        await client.close()
        go_on()


@async_test
async def test_closing_the_client_finishes_a_cancelled_close(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = await pubsubd.connect(broker.path)
        subscription = await client.subscribe("t")
        go_on = await _silent(broker)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subscription.close(), 0.01)
        await client.close()
        assert not await _open_fds_and_tasks()
        go_on()


@async_test
async def test_all_concurrent_closes_wait_for_the_same_end(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.reject = lambda batch: Rejected(batch.sequence, "stream_full", "no more offsets")
        client = await pubsubd.connect(broker.path)
        await client.send("t", 1)
        told = await asyncio.gather(*(client.close() for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in told] == [pubsubd.PublishRejected] * 3
        assert len({id(error) for error in told}) == 3
        await client.close()


@async_test
async def test_closing_ends_what_is_being_opened(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = pubsubd.connect(broker.path)
        broker.on_subscribe = lambda frame: Heartbeat()
        opening = asyncio.ensure_future(_opened(client.subscribe("t")))
        connecting = asyncio.ensure_future(_opened(client))
        await broker.until(lambda: len(broker.subscribes) == 1)
        await client.close()
        assert not await _open_fds_and_tasks()
        told = await asyncio.gather(opening, connecting, return_exceptions=True)
        assert type(told[0]) is pubsubd.ClientClosed


async def _opened(thing: Awaitable[object]) -> object:
    return await thing


@async_test
async def test_a_cancelled_open_leaves_nothing_and_can_be_repeated(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = pubsubd.connect(broker.path)
        await given_up(lambda: _opened(client))
        async with client:
            assert (await client.publish("t", 1)).offset == 0
    assert not await _open_fds_and_tasks()


@async_test
async def test_on_expired_may_close_what_it_is_called_for(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        ended: list[bool] = []

        async def give_up(expired: pubsubd.CursorExpired) -> None:
            await subscription.close()
            ended.append(True)

        subscription = await client.subscribe("t", on_expired=give_up)
        broker.sessions[0].send(gap(4))
        with pytest.raises(pubsubd.ClientClosed):
            await anext(subscription)
        assert ended == [True]


@async_test
async def test_closing_ends_a_reload_and_its_gap_is_not_passed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        begun = asyncio.Event()

        async def reload(expired: pubsubd.CursorExpired) -> None:
            begun.set()
            await asyncio.Event().wait()

        subscription = await client.subscribe("t", on_expired=reload)
        broker.sessions[0].send(gap(4))
        reader = asyncio.ensure_future(subscription.__anext__())
        await begun.wait()
        await subscription.close()
        with pytest.raises(pubsubd.ClientClosed):
            await reader
        assert subscription.position["a"] == [EPOCH.hex(), 0]
        assert not {t for t in asyncio.all_tasks() if t.get_name() == "pubsubd on_expired"}


# Closed elsewhere


@async_test
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["client", "subscription"])
async def test_closing_elsewhere_ends_an_iteration_with_client_closed(
    tmp_path: Path, way: str, what: str
) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = await pubsubd.connect(broker.path)
        subscription = await client.subscribe("t")
        following = ways(subscription)[way]
        reader = asyncio.ensure_future(following())
        await asyncio.sleep(0)
        await (client if what == "client" else subscription).close()
        with pytest.raises(pubsubd.ClientClosed):
            await reader
        with pytest.raises(pubsubd.ClientClosed):
            await following()
        await client.close()


@async_test
async def test_a_message_in_hand_is_not_handed_out_once_it_is_closed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t")
        broker.sessions[0].send(entry(0, 0, 1, 2))
        assert (await anext(subscription)).payload == 0
        await subscription.close()
        for following in ways(subscription).values():
            with pytest.raises(pubsubd.ClientClosed):
                await following()
        assert subscription.position["a"] == [EPOCH.hex(), 1]


@async_test
async def test_all_who_wait_to_publish_are_told_when_the_client_is_closed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers, broker.window = False, 1
        client = await pubsubd.connect(
            broker.path, close_timeout_s=0, codec=pubsubd.RAW, publish_timeout_s=60
        )

        async def send_for_ever() -> None:
            while True:
                await client.send("t", b"x" * 200_000)

        waits: list[Coroutine[Any, Any, Any]] = [send_for_ever(), send_for_ever()]
        waits += [client.publish("t", b"1"), client.flush()]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        await broker.until(lambda: len(broker.batches) == 1)
        told = await asyncio.gather(*tasks, client.close(), return_exceptions=True)
        # A send that was given up is told to one of those that wait for it.
        assert told[-1] is None
        assert all(isinstance(error, pubsubd.PubSubError) for error in told[:-1]), told
        assert [type(error) for error in told[:2]] == [pubsubd.ClientClosed] * 2


@async_test
async def test_senders_go_on_when_a_late_broker_is_lost(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers, broker.window = False, 1
        async with pubsubd.connect(
            broker.path, close_timeout_s=0, codec=pubsubd.RAW, publish_timeout_s=0.05
        ) as client:
            await client.send("t", b"x" * 200_000)
            with pytest.raises(pubsubd.PublishUnknown):
                await client.flush()
            # Given up, and still in the window: its answer may come.
            sender = asyncio.create_task(client.send("t", b"next"))
            await asyncio.sleep(0)
            assert not sender.done()
            await broker.stop()
            await sender
            with pytest.raises(pubsubd.BrokerUnavailable):
                await client.flush()
            await broker.start()


# Another loop


async def in_another_thread(call: Callable[[], Awaitable[object]]) -> BaseException | None:
    """The error of a call that is made in a loop of another thread."""
    told: list[BaseException | None] = []

    async def run() -> None:
        try:
            await call()
        except BaseException as error:
            told.append(error)
        else:
            told.append(None)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    await asyncio.to_thread(thread.join)
    return told[0]


@async_test
async def test_a_call_from_another_loop_is_refused_before_it_takes_effect(tmp_path: Path) -> None:
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path) as client,
        client.subscribe("t", name="n", ack="manual") as subscription,
    ):
        broker.sessions[0].send(entry(0, "first", "second"))
        message = await anext(subscription)

        async def subscribe() -> None:
            await client.subscribe("t")

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.publish("t", 1),
            lambda: client.publish_many("t", [1, 2]),
            lambda: client.send("t", 1),
            client.flush,
            client.close,
            lambda: _opened(client),
            subscribe,
            *ways(subscription).values(),
            lambda: subscription.ack(message),
            lambda: subscription.add("u"),
            lambda: subscription.remove("t"),
            subscription.close,
            lambda: _opened(subscription),
        ]
        for number, call in enumerate(calls):
            error = await in_another_thread(call)
            assert isinstance(error, pubsubd.WrongEventLoop), (number, error)
        assert (await client.publish("t", 1)).offset == 0
        assert (await anext(subscription)).payload == "second"
        assert subscription.patterns == ("t",)
        assert client.state is pubsubd.State.CONNECTED
    assert [batch.count for batch in broker.batches] == [1]


def test_a_client_that_failed_to_open_may_open_in_another_loop(tmp_path: Path) -> None:
    client = pubsubd.connect(tmp_path / "s")

    async def fails() -> None:
        with pytest.raises(pubsubd.BrokerUnavailable):
            await client

    async def succeeds() -> None:
        async with FakeBroker(tmp_path), client:
            assert (await client.publish("t", 1)).offset == 0

    asyncio.run(fails())
    asyncio.run(succeeds())


def test_one_single_flight_serves_every_loop() -> None:
    runs: list[object] = []
    reload = pubsubd.single_flight(runs.append, jitter_s=0)
    expired = pubsubd.CursorExpired("a", Reason.OVERWRITTEN, 1, 2, "e" * 32)

    async def use() -> None:
        await asyncio.gather(*(reload(expired) for _ in range(3)))

    for _ in range(3):
        asyncio.run(use())
    assert len(runs) == 3


@async_test
async def test_an_endless_reload_keeps_no_task_from_the_close(
    tmp_path: Path,
) -> None:
    runs: list[asyncio.Task[Any] | None] = []
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def reload(expired: pubsubd.CursorExpired) -> None:
        runs.append(asyncio.current_task())
        begun.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        subscription = await client.subscribe("t", on_expired=reload)
        broker.sessions[0].send(gap(4))
        waits = asyncio.ensure_future(anext(subscription))
        await begun.wait()
        await subscription.close()
        with pytest.raises(pubsubd.ClientClosed):
            await waits
        may_end.set()
        assert runs[0] is not None
        await asyncio.wait([runs[0]])


@async_test
async def test_a_reload_that_ends_cancelled_is_a_gap_that_was_not_dealt_with(
    tmp_path: Path,
) -> None:
    calls: list[int] = []

    async def reload(expired: pubsubd.CursorExpired) -> None:
        calls.append(expired.next)
        if len(calls) == 1:
            raise asyncio.CancelledError

    async with subscribed_in(tmp_path, on_expired=reload) as (broker, subscription):
        broker.sessions[0].send(gap(4), entry(4, "behind"))
        with pytest.raises(pubsubd.CursorExpired):
            await anext(subscription)
        assert (await anext(subscription)).payload == "behind"
        assert calls == [4, 4]

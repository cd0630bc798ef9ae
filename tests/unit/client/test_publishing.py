"""Publishing through the asyncio shell, against a scripted broker."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import EPOCH, OTHER_EPOCH, FakeBroker

import pubsubd
from pubsubd_protocol.frames import Receipt, Refused, Rejected


@async_test
async def test_publish_returns_where_the_message_stands(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        first = await client.publish("orders", {"id": 1})
        second = await client.publish("orders", {"id": 2})
        assert client.node == "a"
    assert first == pubsubd.Receipt("a", EPOCH.hex(), 0)
    assert second.offset == 1


@async_test
async def test_connect_can_be_awaited_and_closed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = await pubsubd.connect(broker.path)
        assert client.state is pubsubd.State.CONNECTED
        await client.close()
        await client.close()
        assert client.state.value == "closed"
        with pytest.raises(pubsubd.ClientClosed):
            await client.publish("t", 1)


@async_test
async def test_nobody_at_the_socket_is_told_at_once_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(pubsubd.BrokerUnavailable, match="pubsubd start") as caught:
        await pubsubd.connect(tmp_path / "missing")
    assert caught.value.socket == str(tmp_path / "missing")
    assert caught.value.retriable


@async_test
async def test_a_refused_greeting_is_raised_with_its_code(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.refuse["publisher"] = Refused("forbidden", "not this user")
        with pytest.raises(pubsubd.ConnectionRefused) as caught:
            await pubsubd.connect(broker.path)
    assert caught.value.code == "forbidden"


@async_test
async def test_what_one_turn_publishes_travels_as_one_batch(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        receipts = await asyncio.gather(*(client.publish(f"t{i % 3}", i) for i in range(10)))
    assert [r.offset for r in receipts] == list(range(10))
    assert [b.count for b in broker.batches] == [10]
    assert broker.batches[0].topics == "t0\nt1\nt2"


def written(client: pubsubd.Client) -> bool:
    """Whether all that was published is on its way, before another callback of the event loop has run."""
    outbox = client._publisher.outbox
    return outbox._open is None and not outbox._pending


@async_test
async def test_messages_that_come_one_at_a_time_are_written_at_once(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        at_once = []
        for i in range(3):
            task = asyncio.create_task(client.publish("t", i))
            # It runs to its first wait, and no callback that it has asked for runs before this task goes on.
            await asyncio.sleep(0)
            at_once.append(written(client))
            await task
    # The first one tells nothing of those that follow.
    assert at_once == [False, True, True]
    assert [batch.count for batch in broker.batches] == [1, 1, 1]


@async_test
async def test_messages_that_come_together_share_a_batch_again(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        await client.publish("t", 0)
        for _ in range(2):
            await asyncio.gather(*(client.publish("t", i) for i in range(10)))
    assert [batch.count for batch in broker.batches] == [1, 1, 9, 10]


@async_test
async def test_messages_that_come_faster_than_their_receipts_wait_for_each_other(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        async with pubsubd.connect(broker.path) as client:
            for i in range(3):
                await client.send("t", i)
                await asyncio.sleep(0)
            await client.send("t", 3)
            # Behind a message without an answer, more may come in the same turn.
            assert not written(client)
            await broker.until(lambda: len(broker.batches) > 1)
            broker.answers = True
            for batch in broker.batches:
                broker.answer(broker.publishers[0], batch)


@async_test
async def test_publish_many_over_several_batches_has_one_receipt_each(tmp_path: Path) -> None:
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path, codec=pubsubd.RAW) as client,
    ):
        receipts = await client.publish_many("t", [b"x" * 1000] * 1000)
    assert len(broker.batches) > 1
    assert [r.offset for r in receipts] == list(range(1000))
    assert receipts[-1].offset == 999
    assert [r.offset for r in receipts[2:4]] == [2, 3]


@async_test
async def test_batches_are_as_small_as_the_broker_wants_them(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.max_frame, broker.max_message, broker.max_batch = 64 * 1024, 16 * 1024, 10
        async with pubsubd.connect(broker.path, codec=pubsubd.RAW) as client:
            receipts = await client.publish_many("t", [b"x" * 1000] * 200)
            assert [r.offset for r in receipts] == list(range(200))
            single = await asyncio.gather(*(client.publish("t", b"") for _ in range(11)))
            assert [r.offset for r in single] == list(range(200, 211))
            broker.max_batch = 1000
            assert max(b.count for b in broker.batches) <= 10
            assert len(broker.batches) < 30
            await broker.restart()
            await client.publish("t", b"over the new connection")
            broker.batches.clear()
            await client.publish_many("t", [b"x" * 1000] * 200)
            assert len(broker.batches) < 5


@async_test
async def test_what_a_restarted_broker_would_not_read_fails_at_once(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        async with pubsubd.connect(broker.path, codec=pubsubd.RAW) as client:
            sent = asyncio.create_task(client.publish("t", b"x" * 50_000))
            await broker.until(lambda: len(broker.batches) == 1)
            await broker.stop()
            waiting = asyncio.create_task(client.publish("t", b"x" * 50_000))
            while client.state is pubsubd.State.CONNECTED:
                await asyncio.sleep(0)
            broker.answers, broker.max_frame = True, 20_000
            await broker.start()
            with pytest.raises(pubsubd.PublishUnknown, match="20000 bytes"):
                await sent
            with pytest.raises(pubsubd.MessageTooLarge, match="before the broker was restarted"):
                await waiting
            await client.publish("t", b"small")
    assert len(broker.publishers) == 2


@async_test
async def test_publish_many_of_nothing_is_nothing(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        assert list(await client.publish_many("t", [])) == []


@async_test
async def test_send_and_flush_deliver_all_in_order(tmp_path: Path) -> None:
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path, codec=pubsubd.RAW) as client,
    ):
        for i in range(20_000):
            await client.send("t", b"%06d" % i)
        await client.flush()
        sent = b"".join(b.payloads for b in broker.batches)
    assert sent == b"".join(b"%06d" % i for i in range(20_000))
    assert [b.sequence for b in broker.batches] == list(range(len(broker.batches)))


@async_test
async def test_send_waits_while_the_window_is_full(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        broker.window = 2
        async with pubsubd.connect(broker.path, codec=pubsubd.RAW) as client:
            large = b"x" * 200_000

            async def fill() -> None:
                for _ in range(10):
                    await client.send("t", large)

            sender = asyncio.create_task(fill())
            await broker.until(lambda: len(broker.batches) == 2)
            assert not sender.done()
            broker.answers = True
            for batch in list(broker.batches):
                broker.answer(broker.publishers[0], batch)
            await sender
            await client.flush()
            assert sum(b.count for b in broker.batches) == 10


@async_test
async def test_retry_after_lost_receipt_keeps_its_sequence_and_place(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        await client.publish("t", 0)
        broker.answers = False
        publish = asyncio.create_task(client.publish("t", 1))
        await broker.until(lambda: len(broker.batches) == 2)
        # Accepted, and the answer is lost with the connection.
        placed = broker.accept(broker.publishers[0], broker.batches[1])
        broker.answers = True
        broker.publishers[0].cut()
        receipt = await publish
    first, again = broker.batches[1:]
    assert (first.sequence, first.retry) == (1, False)
    assert (again.sequence, again.retry, again.payloads) == (1, True, first.payloads)
    assert receipt.offset == placed.first == 1


@async_test
async def test_retries_go_first_and_in_order_after_a_restart(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        async with pubsubd.connect(broker.path) as client:
            publishes = []
            for i in range(3):
                publishes.append(asyncio.create_task(client.publish("t", i)))
                await broker.until(lambda i=i: len(broker.batches) == i + 1)  # type: ignore[misc]
            await broker.stop()
            broker.life = OTHER_EPOCH
            broker.answers = True
            publishes.append(asyncio.create_task(client.publish("t", 3)))
            await asyncio.sleep(0)
            await broker.start()
            receipts = await asyncio.gather(*publishes)
    assert [(b.sequence, b.retry) for b in broker.batches[3:]] == [
        (0, True),
        (1, True),
        (2, True),
        (3, False),
    ]
    assert [r.offset for r in receipts] == [0, 1, 2, 3]
    assert {r.epoch for r in receipts} == {OTHER_EPOCH.hex()}


@async_test
async def test_a_reconnect_says_which_life_of_the_broker_it_spoke_to(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        await broker.restart()
        await client.publish("t", 1)
    first, second = broker.hellos
    assert first.spoke_to is None
    assert second.spoke_to == EPOCH
    assert first.sender_id == second.sender_id


@async_test
async def test_lost_and_restored_are_told(tmp_path: Path) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def on_restored() -> None:
        await told.put("restored")

    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(
            broker.path,
            on_lost=lambda why: told.put_nowait(type(why).__name__),
            on_restored=on_restored,
        ) as client,
    ):
        await broker.stop()
        assert await told.get() == "BrokerUnavailable"
        assert client.state.value == "lost"
        await broker.start()
        assert await told.get() == "restored"
        assert client.state.value == "connected"


@async_test
async def test_what_was_never_written_fails_as_unavailable(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        await broker.stop()
        while client.state is pubsubd.State.CONNECTED:
            await asyncio.sleep(0)
        with pytest.raises(pubsubd.BrokerUnavailable):
            await client.publish("t", 1, timeout=0.05)
        await broker.start()


@async_test
async def test_what_was_written_and_not_answered_fails_as_unknown(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.answers = False
        with pytest.raises(pubsubd.PublishUnknown):
            await client.publish("t", 1, timeout=0.05)
        # No call takes its late answer, and the next answer finds its own call.
        broker.answer(broker.publishers[0], broker.batches[0])
        broker.answers = True
        assert (await client.publish("t", 2)).offset == 1


@async_test
async def test_rejections_carry_their_code_and_figures(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:

        def reject(code: str) -> None:
            broker.reject = lambda b: Rejected(b.sequence, code, "why", 20, 10)

        reject("unknown_node")
        with pytest.raises(pubsubd.PublishRejected) as unknown_node:
            await client.publish("t", 1, to="b")
        assert not unknown_node.value.retriable
        for code, unit in (("too_large", "bytes"), ("too_many_messages", "messages")):
            reject(code)
            with pytest.raises(pubsubd.MessageTooLarge) as too_large:
                await client.publish("t", 1)
            error = too_large.value
            assert (error.size, error.limit, error.unit) == (20, 10, unit)
        reject("unknown")
        with pytest.raises(pubsubd.PublishUnknown):
            await client.publish("t", 1)


@async_test
async def test_flush_raises_the_first_failure_and_counts_them(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.reject = lambda b: Rejected(b.sequence, "stream_full", "no more offsets")
        for i in range(5):
            await client.send("t", i)
        with pytest.raises(pubsubd.PublishRejected) as caught:
            await client.flush()
        assert (caught.value.code, caught.value.failed) == ("stream_full", 5)
        await client.flush()


@async_test
async def test_a_loop_of_sends_without_an_end_is_told_of_the_first_failure(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.reject = lambda b: Rejected(b.sequence, "stream_full", "no more offsets")

        async def send_for_ever() -> None:
            while True:
                await client.send("t", 1)
                await asyncio.sleep(0)

        with pytest.raises(pubsubd.PublishRejected) as caught:
            await send_for_ever()
        assert caught.value.failed
        with contextlib.suppress(pubsubd.PublishRejected):
            await client.flush()
        # Told once; and the message at which it was told was not taken.
        broker.reject = lambda b: None
        taken = sum(b.count for b in broker.batches)
        await client.send("t", 2)
        await client.flush()
        assert sum(b.count for b in broker.batches) == taken + 1


@async_test
async def test_close_raises_what_was_sent_and_failed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.reject = lambda b: Rejected(b.sequence, "stream_full", "no more offsets")
        with pytest.raises(pubsubd.PublishRejected):
            async with pubsubd.connect(broker.path) as client:
                await client.send("t", 1)


@async_test
async def test_close_flushes_what_was_sent(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        async with pubsubd.connect(broker.path) as client:
            await client.send("t", 1)
        assert sum(b.count for b in broker.batches) == 1


@async_test
async def test_close_fails_unfinished_publishes_in_bounded_time(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        client = await pubsubd.connect(broker.path, close_timeout_s=0.05)
        publish = asyncio.create_task(client.publish("t", 1))
        await broker.until(lambda: len(broker.batches) == 1)
        await client.close()
        with pytest.raises(pubsubd.PublishUnknown, match="client was closed"):
            await publish


@async_test
async def test_a_cancelled_publish_does_not_disturb_its_batch(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        async with pubsubd.connect(broker.path) as client:
            first = asyncio.create_task(client.publish("t", 1))
            second = asyncio.create_task(client.publish("t", 2))
            await broker.until(lambda: len(broker.batches) == 1)
            first.cancel()
            broker.answer(broker.publishers[0], broker.batches[0])
            assert (await second).offset == 1
            with pytest.raises(asyncio.CancelledError):
                await first


@async_test
async def test_bad_input_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.max_message = 100
        async with pubsubd.connect(broker.path, codec=pubsubd.RAW) as client:
            with pytest.raises(pubsubd.InvalidTopic):
                await client.publish("white space", b"")
            with pytest.raises(pubsubd.MessageTooLarge) as caught:
                await client.send("t", b"x" * 101)
            assert (caught.value.size, caught.value.limit) == (101, 100)
            with pytest.raises(pubsubd.PublishRejected):
                await client.publish("t", b"", to="no node")
            with pytest.raises(TypeError):
                await client.publish("t", {"not": "bytes"})
        assert broker.batches == []


@async_test
async def test_an_answer_that_is_not_due_ends_the_connection(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        broker.publishers[0].send(Receipt(99, EPOCH, 0))
        await broker.until(lambda: len(broker.publishers) == 2)
        assert (await client.publish("t", 1)).offset == 0


@async_test
async def test_query_returns_the_report(tmp_path: Path) -> None:
    from pubsubd import control

    async with FakeBroker(tmp_path) as broker:
        assert await control.query(broker.path, "status") == {"asked": "status"}
        broker.refuse["control"] = Refused("forbidden", "no")
        with pytest.raises(pubsubd.ConnectionRefused):
            await control.query(broker.path, "status")
    with pytest.raises(pubsubd.BrokerUnavailable):
        await control.query(tmp_path / "missing", "status")

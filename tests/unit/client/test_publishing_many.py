"""`publish_many` of an input that comes bit by bit: it is published as it comes, in bounded memory."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import FakeBroker

import pubsubd
from pubsubd import many
from pubsubd.batching import BATCH_BYTES
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import Rejected

SIZE = 1000


class Rows:
    """An input without an end, that counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0
        self.left = False

    def __iter__(self) -> Iterator[bytes]:
        for self.taken in itertools.count(1):
            yield b"x" * SIZE

    async def late(self, first: int) -> AsyncIterator[bytes]:
        """The first come at once, the next one never."""
        try:
            for self.taken in range(1, first + 1):
                yield b"x" * SIZE
            await asyncio.Event().wait()
        finally:
            self.left = True


def connected(broker: FakeBroker) -> pubsubd.Client:
    return pubsubd.connect(broker.path, codec=pubsubd.RAW, close_timeout_s=0)


def refusing(broker: FakeBroker, number: int) -> None:
    """The broker refuses one of the batches, and accepts the others."""

    def reject(batch: Batch) -> Rejected | None:
        wrong = batch.sequence == number
        return Rejected(batch.sequence, "not_allowed", "no rule allows it") if wrong else None

    broker.reject = reject


@async_test
async def test_no_more_is_taken_of_an_endless_input_than_the_window_holds(tmp_path: Path) -> None:
    rows = Rows()
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        broker.answers = False
        publishing = asyncio.ensure_future(client.publish_many("t", rows))
        await broker.until(lambda: len(broker.batches) == broker.window)
        for _ in range(100):
            await asyncio.sleep(0)
        assert rows.taken <= (broker.window + 1) * BATCH_BYTES / SIZE
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
    assert len(broker.batches) == broker.window


@async_test
async def test_an_endless_input_ends_when_the_broker_does_not_answer_in_time(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        broker.answers = False
        with pytest.raises(pubsubd.PublishUnknown) as caught:
            await client.publish_many("t", Rows(), timeout=0.2)
        assert caught.value.timeout_s == 0.2


@async_test
async def test_the_first_failure_ends_an_endless_input_and_says_where(tmp_path: Path) -> None:
    rows = Rows()
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        refusing(broker, 2)
        with pytest.raises(pubsubd.PublishRejected) as caught:
            await client.publish_many("t", rows)
        first, second, third = (batch.count for batch in broker.batches[:3])
        assert rows.taken <= (broker.window + 4) * BATCH_BYTES / SIZE
        assert caught.value.failed == third
        (note,) = caught.value.__notes__
        assert note.startswith(f"payload {first + second + 1} is the first")
        # It is told here, and so not once more; the client goes on.
        await client.flush()
        await client.publish("t", b"next")


@async_test
async def test_a_failure_does_not_wait_for_the_next_payload(tmp_path: Path) -> None:
    rows = Rows()
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        refusing(broker, 0)
        with pytest.raises(pubsubd.PublishRejected):
            await client.publish_many("t", rows.late(2))
        assert sum(batch.count for batch in broker.batches) == 2
        assert rows.left


@async_test
async def test_giving_up_leaves_the_input_and_what_was_taken_is_published(tmp_path: Path) -> None:
    rows = Rows()
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        publishing = asyncio.ensure_future(client.publish_many("t", rows.late(3)))
        await broker.until(lambda: broker.next == 3)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        assert rows.left
        assert (await client.publish("t", b"next")).offset == 3


@async_test
async def test_an_input_that_computes_lets_the_loop_turn(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:

        def slow() -> Iterator[bytes]:
            while not broker.next:
                yield b"x"
                until = time.monotonic() + 2 * many.SLICE_S
                while time.monotonic() < until:
                    pass

        assert await client.publish_many("t", slow())


@async_test
@pytest.mark.parametrize("count", [0, 1, 5, 5000])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_input_that_ends_has_a_receipt_for_each_in_few_runs(
    tmp_path: Path, asynchronous: bool, count: int
) -> None:
    async def later() -> AsyncIterator[bytes]:
        for n in range(count):
            yield b"%d" % n

    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        payloads = later() if asynchronous else (b"%d" % n for n in range(count))
        receipts = await client.publish_many("t", payloads)
        stored = b"".join(batch.payloads for batch in broker.batches)
        assert stored == b"".join(b"%d" % n for n in range(count))
    assert [receipt.offset for receipt in receipts] == list(range(count))
    assert len(receipts._firsts) <= 1, "memory is not taken for each batch"


@async_test
async def test_messages_of_others_between_them_leave_each_its_own_receipt(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:

        async def some(name: str) -> AsyncIterator[bytes]:
            for n in range(100):
                yield f"{name}{n:02}".encode()
                await asyncio.sleep(0)

        of_a, of_b = await asyncio.gather(
            client.publish_many("t", some("a")), client.publish_many("u", some("b"))
        )
        stored = b"".join(batch.payloads for batch in broker.batches)
        for name, receipts in (("a", of_a), ("b", of_b)):
            placed = [stored[3 * r.offset : 3 * r.offset + 3].decode() for r in receipts]
            assert placed == [f"{name}{n:02}" for n in range(100)]


@async_test
async def test_an_error_of_the_input_comes_after_earlier_outcomes(
    tmp_path: Path,
) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise LookupError("the database is gone")

    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        with pytest.raises(LookupError, match="database"):
            await client.publish_many("t", breaks())
        assert broker.next == 2
        # Not always the second: on a busy machine each payload may go out in a batch of its own.
        refusing(broker, len(broker.batches))
        with pytest.raises(pubsubd.PublishRejected) as caught:
            await client.publish_many("t", breaks())
        assert isinstance(caught.value.__cause__, LookupError)


@async_test
async def test_a_payload_that_cannot_be_encoded_is_named_by_its_number(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        with pytest.raises(pubsubd.EncodeError) as caught:
            await client.publish_many("t", iter([1, 2, {3}, 4]))
        assert "payload 3" in caught.value.__notes__[0]
        assert broker.next == 2


@async_test
@pytest.mark.parametrize(
    ("topic", "to"), [("a b", None), ("a.>", None), ("t", "no node name!"), ("t", 5)]
)
async def test_for_a_wrong_argument_nothing_is_taken_of_the_input(
    tmp_path: Path, topic: str, to: str | None
) -> None:
    rows = Rows()
    async with FakeBroker(tmp_path) as broker, connected(broker) as client:
        with pytest.raises(pubsubd.PubSubError):
            await client.publish_many(topic, rows, to=to)
    assert rows.taken == 0


@async_test
async def test_closing_the_client_elsewhere_ends_an_endless_input(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = await connected(broker)
        publishing = asyncio.ensure_future(client.publish_many("t", Rows()))
        await broker.until(lambda: broker.next > 0)
        await client.close()
        with pytest.raises(pubsubd.PubSubError):
            await publishing

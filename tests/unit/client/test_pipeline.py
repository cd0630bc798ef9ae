"""Outcomes of messages that are sent without an end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import FakeBroker

import pubsubd
from pubsubd.pipeline import Fate, Pipeline
from pubsubd_protocol.frames import Rejected


def fates(pipeline: Pipeline) -> tuple[int, ...]:
    return tuple(map(pipeline.count, Fate))


@async_test
async def test_all_that_is_accepted_is_counted_and_no_failure_is_told(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        pipeline = Pipeline.of(client)
        await pipeline.settled()
        for number in range(1, 5001):
            await pipeline.send(number, "t", b"x", None)
        await pipeline.settled()
        assert fates(pipeline) == (5000, 0, 0)
        assert not pipeline.failed.done()


@async_test
async def test_the_first_failure_is_told_at_once_with_its_number(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        pipeline = Pipeline.of(client)
        await pipeline.send(7, "t", b"x", None)
        await pipeline.settled()
        broker.reject = lambda batch: Rejected(batch.sequence, "stream_full", "no more offsets")
        for number in (8, 10, 12):
            await pipeline.send(number, "t", b"x", None)
        # Without a further message, and without a flush.
        await pipeline.failed
        assert pipeline.first_failure is not None
        number, error = pipeline.first_failure
        assert number == 8
        assert isinstance(error, pubsubd.PublishRejected)
        await pipeline.settled()
        assert fates(pipeline) == (1, 0, 3)
        # It is told here, and so not by the client a second time.
        await client.flush()


@async_test
async def test_unanswered_messages_at_close_count_as_unknown(
    tmp_path: Path,
) -> None:
    async with FakeBroker(tmp_path) as broker:
        broker.answers = False
        async with pubsubd.connect(broker.path, close_timeout_s=0) as client:
            pipeline = Pipeline.of(client)
            await pipeline.send(1, "t", b"x", None)
            await broker.until(lambda: len(broker.batches) == 1)
            settling = asyncio.ensure_future(pipeline.settled())
        await settling
        assert fates(pipeline) == (0, 1, 0)


@async_test
async def test_a_message_that_is_refused_at_once_is_not_counted(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        pipeline = Pipeline.of(client)
        with pytest.raises(pubsubd.InvalidTopic):
            await pipeline.send(1, "a b", b"x", None)
        with pytest.raises(pubsubd.MessageTooLarge):
            await pipeline.send(1, "t", b"x" * (broker.max_message + 1), None)
        await pipeline.settled()
        assert fates(pipeline) == (0, 0, 0)

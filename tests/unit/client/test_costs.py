"""The cost of a message to the SDK, in calls of its functions. Counts, unlike times, are the same everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import FakeBroker, entry
from tests.unit.counting import calls_of

import pubsubd
from pubsubd import RAW
from pubsubd.inbox import Inbox
from pubsubd.outbox import Outbox
from pubsubd.resume import Arrived
from pubsubd_protocol.frames import Welcome
from pubsubd_protocol.positions import Epoch

MESSAGES = 512


def an_outbox() -> Outbox:
    outbox = Outbox("socket")
    outbox.connected(Welcome(1, "a", Epoch(b"l" * 16), 2**20, 2**24, 128))
    outbox.put("t", b"", None, 10.0)
    return outbox


def test_a_published_message_costs_two_calls() -> None:
    outbox = an_outbox()

    def publish() -> None:
        for _ in range(MESSAGES):
            outbox.put("t", b"x", None, 10.0)

    assert calls_of(publish) <= 2 * MESSAGES + 4


def test_messages_that_are_published_together_cost_no_call_each() -> None:
    outbox = an_outbox()
    payloads = [b"x"] * MESSAGES
    assert calls_of(lambda: outbox.put_many("t", payloads, None, 10.0)) <= MESSAGES // 8


def test_a_message_costs_one_call_and_its_payload_another() -> None:
    inbox = Inbox(RAW)
    inbox.put(Arrived(entry(0, *range(MESSAGES)), 0))
    assert calls_of(inbox.advance) <= 24
    assert calls_of(inbox.spread) <= MESSAGES + 8
    messages = inbox.messages
    assert len(messages) == MESSAGES
    assert calls_of(lambda: [message.payload for message in messages]) <= 2 * MESSAGES + 2


@pytest.mark.parametrize(("way", "calls"), [("messages", 1), ("events", 3), ("status", 5)])
def test_a_message_in_hand_costs_few_calls_in_each_iteration(
    tmp_path: Path, way: str, calls: int
) -> None:
    @async_test
    async def scenario() -> None:
        async with (
            FakeBroker(tmp_path) as broker,
            pubsubd.connect(broker.path, codec=RAW) as client,
            client.subscribe("t") as subscription,
        ):
            broker.sessions[0].send(entry(0, *range(MESSAGES)))
            iterator: AsyncIterator[object]
            match way:
                case "messages":
                    iterator = subscription
                case "events":
                    iterator = subscription.events()
                case _:
                    iterator = subscription.events(status=True)
            await anext(iterator)

            def rest() -> None:
                for _ in range(MESSAGES - 1):
                    with pytest.raises(StopIteration):
                        # At once: it waits for nothing.
                        iterator.__anext__().__await__().send(None)

            assert calls_of(rest, of="/client/pubsubd/") <= calls * MESSAGES

    scenario()


MOST_WAIT_CALLS = 44
"""Calls of the SDK's functions for one message: from the application's question to the message, by way of a wait."""


def test_a_wait_for_one_message_costs_no_more_calls_than_decided(tmp_path: Path) -> None:
    @async_test
    async def scenario() -> None:
        async with (
            FakeBroker(tmp_path) as broker,
            pubsubd.connect(broker.path, codec=RAW) as client,
            client.subscribe("t") as subscription,
        ):
            link = subscription._reader.link
            assert link._connection is not None

            def wait_for(offset: int) -> None:
                waiting = subscription.__anext__().__await__()
                waiting.send(None)
                assert link._connection is not None
                link.received(link._connection, entry(offset, b"x"))
                with pytest.raises(StopIteration):
                    waiting.send(None)

            wait_for(0)
            assert calls_of(lambda: wait_for(1), of="/client/pubsubd/") <= MOST_WAIT_CALLS

    scenario()

"""Nodes that come back under a new name each time, as recreated containers do: as consumers, and as producers."""

from __future__ import annotations

from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.steps import (
    StartBroker,
    in_thread,
    next_event,
    subscribed,
    told,
    within,
)
from tests.integration.waiting import wait_until

import pubsubd

LIMIT = 2
BROKERS = 4


def test_consumers_with_ever_new_names_are_served(start_broker: StartBroker) -> None:
    a = start_broker("a", max_consumers=LIMIT)
    names = [f"container-{number}" for number in range(BROKERS)]
    for name in names:
        broker = start_broker(name, peers=[a.listen])
        broker.wait_log("peer.attached")
        broker.stop()
        wait_until(
            lambda: not any(row["connected"] for row in a.status()["consumers"]),
            what="the end of its link",
        )
    assert [row["consumer"] for row in a.status()["consumers"]] == names[-LIMIT:]
    assert a.metric("cursors_given_up_total") == BROKERS - LIMIT
    given_up = a.wait_log("cursor.given_up")
    assert (given_up["consumer"], given_up["for_consumer"]) == (names[0], names[LIMIT])


@async_test
async def test_a_producer_with_ever_new_names_is_read(start_broker: StartBroker) -> None:
    first = start_broker("container-0")
    reader = start_broker("reader", peers=[first.listen], max_producers=LIMIT)
    async with subscribed(reader, ">") as subscription:

        async def hears(broker: Broker, since: int = 0) -> None:
            await in_thread(lambda: reader.wait_log("peer.attached", since=since, peer=broker.node))
            async with pubsubd.connect(broker.socket) as client:
                await client.publish("t", broker.node)
            arrived = await within(next_event(subscription), f"a message of {broker.node}")
            assert told([arrived]) == [broker.node]
            await in_thread(broker.stop)

        await hears(first)
        for number in range(1, BROKERS):
            successor = start_broker(f"container-{number}", listen=first.listen)
            await hears(successor)
        assert reader.metric("producers_given_up_total") == BROKERS - LIMIT
        given_up = reader.wait_log("producer.given_up")
        assert (given_up["producer"], given_up["for_producer"]) == (
            "container-0",
            f"container-{LIMIT}",
        )
        assert subscription.position["container-0"][1] == 1
        before = len(reader.logs)
        await in_thread(first.start)
        await hears(first, before)
        assert subscription.position["container-0"][1] == 2

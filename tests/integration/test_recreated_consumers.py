"""Consumers that come back under a new name each time, as recreated containers do."""

from __future__ import annotations

from tests.integration.cluster import wait_until
from tests.integration.steps import StartBroker

LIMIT = 2
BROKERS = 4


def test_brokers_with_ever_new_names_are_served_by_a_quiet_producer(
    start_broker: StartBroker,
) -> None:
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

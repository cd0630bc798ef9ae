"""The reader's count: what makes a round count, and what its figures are taken from."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import pytest
from bench.application import Application, stamp
from bench.feed import CYCLE, Feed, values_of, weight_of
from bench.stage import verdict
from bench.workloads import BY_NAME, WORKLOADS, Workload

PLAIN = BY_NAME["100b"]
DICTS = BY_NAME["dicts"]
MANY_TOPICS = BY_NAME["100b-1000-topics"]


def seen(workload: Workload, expected: int, *calls: list[Any]) -> dict[str, float]:
    """The application's report of these calls, without waiting for more."""

    async def read() -> dict[str, float]:
        application = Application(workload)
        application.expect(expected)
        for values in calls:
            application.take(values)
        return await application.window(stall_s=0.0)

    return asyncio.run(read())


def test_all_messages_of_the_right_weight_count() -> None:
    report = seen(PLAIN, 3, [b"x" * 100], [b"x" * 100] * 2)
    assert verdict(3, 300, report) is None


def test_a_lost_message_makes_the_round_void_and_says_how_many() -> None:
    report = seen(PLAIN, 3, [b"x" * 100] * 2)
    assert verdict(3, 300, report) == "1 of 3 messages did not arrive"


def test_a_message_too_many_makes_the_round_void() -> None:
    report = seen(PLAIN, 2, [b"x" * 100] * 3)
    assert verdict(2, 200, report) == "1 messages arrived more than once"


def test_a_late_message_is_found_in_the_next_window() -> None:
    async def read() -> dict[str, float]:
        application = Application(PLAIN)
        application.expect(1)
        application.take([b"x" * 100])
        application.take([b"x" * 100])
        application.expect(1)
        application.take([b"x" * 100])
        return await application.window(stall_s=0.0)

    assert verdict(1, 100, asyncio.run(read())) == "1 messages arrived more than once"


def test_a_message_that_was_changed_makes_the_round_void() -> None:
    report = seen(PLAIN, 2, [b"x" * 100, b"x" * 99])
    assert verdict(2, 200, report) == "what arrived is not what was published"


def test_messages_that_came_with_the_first_call_are_not_in_the_rate() -> None:
    report = seen(PLAIN, 5, [b"x" * 100] * 5)
    assert report["count"] == 5
    assert report["rate"] == 0.0


def test_latency_is_reported_by_percentiles_in_rising_order() -> None:
    report = seen(BY_NAME["latency"], 2, [stamp(100)], [stamp(100)])
    assert 0 <= report["p50_us"] <= report["p99_us"] <= report["p99_9_us"] <= report["max_us"]


@pytest.mark.parametrize("workload", [PLAIN, DICTS, MANY_TOPICS], ids=lambda each: each.name)
def test_the_feed_weighs_what_it_gave_also_across_its_cycle(workload: Workload) -> None:
    feed = Feed(workload)
    for count in (7, CYCLE, 2 * CYCLE + 13):
        given = list(feed.take(count))
        assert len(given) == count
        assert feed.weight(count) == sum(weight_of(value) for _, value in given)


def test_many_topics_go_round_one_by_one() -> None:
    given = list(islice(Feed(MANY_TOPICS).take(2000), 2000))
    assert len({topic for topic, _ in given[:1000]}) == 1000
    assert [topic for topic, _ in given[:1000]] == [topic for topic, _ in given[1000:]]


def test_dicts_have_five_fields() -> None:
    assert {len(value) for value in values_of(DICTS)} == {5}


def test_names_of_workloads_are_unique() -> None:
    assert len(BY_NAME) == len(WORKLOADS)

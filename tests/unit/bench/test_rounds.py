from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from bench.contestants import BY_NAME, CONTESTANTS, Contestant
from bench.rounds import plan
from bench.servers.pubsubd import settings_of
from bench.worker import reason
from bench.workloads import BY_NAME as WORKLOADS
from bench.workloads import WORKLOADS as ALL

THREE = [BY_NAME[name] for name in ("pubsubd", "nats-core", "floor")]


def test_each_round_interleaves_and_begins_with_another_contestant() -> None:
    names = [who.name for _, who, _ in plan([WORKLOADS["100b"]], THREE, 3)]
    assert names[0:3] == ["pubsubd", "nats-core", "floor"]
    assert names[3:6] == ["nats-core", "floor", "pubsubd"]
    assert names[6:9] == ["floor", "pubsubd", "nats-core"]


def test_all_workloads_come_before_the_next_round() -> None:
    turns = [turn for _, _, turn in plan(list(ALL), list(CONTESTANTS), 2)]
    assert turns == sorted(turns)


def test_who_confirms_nothing_is_not_asked_to_wait_for_it() -> None:
    waiting = {who.name for _, who, _ in plan([WORKLOADS["waiting-50"]], list(CONTESTANTS), 1)}
    assert waiting == {"pubsubd", "pubsubd-interpreted", "jetstream", "redis-streams"}


def test_who_keeps_nothing_is_not_asked_for_what_is_past() -> None:
    catching_up = {
        who.name for _, who, _ in plan([WORKLOADS["catchup-earliest"]], list(CONTESTANTS), 1)
    }
    assert catching_up == {"pubsubd", "jetstream", "redis-streams"}


def test_where_nobody_can_do_it_nothing_is_planned() -> None:
    assert list(plan([WORKLOADS["catchup-pause"]], [BY_NAME["floor"]], 2)) == []


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: each.name)
def test_each_contestant_is_compared_on_the_same_workloads(
    contestant: Contestant,
) -> None:
    against = BY_NAME[contestant.against]
    assert all(against.does(each) for each in ALL if contestant.does(each))


def test_what_is_not_installed_is_missing_and_says_what() -> None:
    absent = replace(BY_NAME["nats-core"], needs=("no_such_package",))
    assert absent.missing({}) == "the Python package no_such_package is not installed"
    assert BY_NAME["pubsubd"].missing({}) is None


def test_the_ring_and_the_replica_hold_all_that_is_to_be_read_back() -> None:
    for workload in ALL:
        if workload.fill_messages and not workload.keep_bytes:
            assert settings_of(workload)["ring-messages"] == str(workload.fill_messages)
            assert settings_of(workload)["replica-messages"] == str(workload.fill_messages)
            # A batch of small messages counts little more than its payloads; ring and replica hold 64 MiB.
            assert workload.fill_messages * (workload.payload_bytes + 16) <= 64 * 2**20


def test_all_else_is_measured_with_the_default_settings() -> None:
    assert all(settings_of(workload) == {} for workload in ALL if not workload.fill_messages)


def test_memory_is_measured_with_the_replicas_at_their_default() -> None:
    assert settings_of(WORKLOADS["memory"]) == {"ring-bytes": "64MiB"}


def test_the_reason_of_a_failed_group_is_its_first_error() -> None:
    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            raise ValueError("this one")

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(fail())
    assert reason(caught.value) == "ValueError: this one"

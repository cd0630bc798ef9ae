"""Each message is found in what each process received and wrote, and the steps between are its way."""

from __future__ import annotations

from typing import Final

import pytest
from bench.application import STAMP_BYTES
from bench.contestants import BY_NAME
from bench.probe import Record, Row
from bench.processes import Broken
from bench.shares import lines, measured, places, steps
from bench.workloads import BY_NAME as WORKLOADS

FIRST, SECOND = (made.to_bytes(STAMP_BYTES, "big") for made in (1000, 2000))
ARRIVALS: Final = [(1000, 16_000), (2000, 17_000)]


def record(received_ns: list[int], written_ns: list[int]) -> Record:
    """Both messages, each in a piece of its own, with other bytes around them."""
    pieces = [b"head" + FIRST + b"rest", b"head" + SECOND]
    return Record(Row(received_ns, pieces), Row(written_ns, pieces))


def test_the_steps_of_a_message_are_the_time_between_its_places() -> None:
    found = steps(
        ARRIVALS,
        {
            "publisher": record([0, 0], [3000, 4000]),
            "broker-a": record([6000, 7000], [10_000, 11_000]),
            "reader": record([15_000, 16_000], [0, 0]),
        },
    )
    assert [(step.reached, step.us) for step in found] == [
        ("publisher writes", [2.0, 2.0]),
        ("broker-a has the bytes", [3.0, 3.0]),
        ("broker-a writes", [4.0, 4.0]),
        ("reader has the bytes", [5.0, 5.0]),
        ("application has the message", [1.0, 1.0]),
        ("all together", [15.0, 15.0]),
    ]
    assert any("broker-a writes" in line and "4.0" in line for line in lines("made up", found))


def test_two_messages_may_pass_in_one_piece() -> None:
    assert places([FIRST, SECOND], Row([1, 2], [b"other", FIRST + SECOND])) == [2, 2]


def test_only_the_first_piece_with_a_message_counts() -> None:
    assert places([FIRST, SECOND], Row([1, 2, 3], [FIRST, FIRST, SECOND])) == [1, 3]


def test_a_message_that_was_cut_has_no_place_and_hides_no_other() -> None:
    row = Row([1, 2, 3], [FIRST[:5], FIRST[5:], SECOND])
    assert places([FIRST, SECOND], row) == [None, 3]
    processes = {"publisher": record([1, 2], [1, 2]), "reader": Record(row, row)}
    assert len(steps(ARRIVALS, processes)[-1].us) == 1


def test_without_any_whole_message_there_are_no_steps() -> None:
    with pytest.raises(Broken, match="no message"):
        steps(ARRIVALS, {"publisher": Record.empty(), "reader": Record.empty()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contestant", "workload", "servers"),
    [
        ("pubsubd", "latency", 2),
        ("pubsubd", "latency-one-node", 1),
        ("floor", "latency", 2),
        ("socket", "latency", 0),
    ],
)
def test_the_steps_of_real_processes_are_one_way(
    contestant: str, workload: str, servers: int
) -> None:
    found = measured(BY_NAME[contestant], WORKLOADS[workload], 0.1)
    assert len(found) == 4 + 2 * servers
    assert len(found[-1].us) == 100
    assert all(step.us[0] >= 0 for step in found)

"""The servers of a round stand in a row: as many as the workload names, from the publisher to the reader."""

from __future__ import annotations

import pytest
from bench.contestants import BY_NAME
from bench.stage import Stage
from bench.workloads import BY_NAME as WORKLOADS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contestant", "workload", "names"),
    [
        ("pubsubd", "latency", ["broker-a", "broker-b"]),
        ("pubsubd", "latency-one-node", ["broker-a"]),
        ("floor", "latency", ["relay-a", "relay-b"]),
        ("floor", "latency-one-node", ["relay-a"]),
        ("floor", "fanout-10", ["relay-a", "relay-b"]),
    ],
)
def test_every_message_passes_all_of_them(contestant: str, workload: str, names: list[str]) -> None:
    with Stage(BY_NAME[contestant], WORKLOADS[workload]) as stage:
        assert list(stage.servers.children) == names
        assert stage.pass_through(10).void is None

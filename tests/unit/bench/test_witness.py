"""The cost of the witness is measured side by side, in figures that the report has a place for."""

from __future__ import annotations

import sys

import pytest
from bench import report, tables, witness, witness_brokers
from bench.measure import Sample
from bench.results import Result
from tests.unit.bench.made_up import result


def sampled(*rounds: Sample) -> Result:
    made = result({})
    made.samples["witness"] = {"pubsubd": list(rounds)}
    return made


@pytest.mark.slow
def test_both_sides_are_measured_in_a_process_of_their_own() -> None:
    figures = witness.measure((sys.executable,), 100, 0.01)
    assert figures["publish_us.without"] > 0
    assert figures["publish_us.witnessed"] > 0
    assert set(figures) == {
        "publish_us.without",
        "publish_us.witnessed",
        "witness_us",
        "witness_ratio",
    }


@pytest.mark.slow
def test_both_brokers_are_measured_and_ended() -> None:
    figures = witness_brokers.measure((sys.executable,), 100, 0.01)
    assert figures["broker_us.without"] > 0
    assert figures["broker_us.witnessed"] > 0
    assert figures["witness_broker_ratio"] > 0


def test_the_report_says_what_it_adds_and_the_ratio() -> None:
    one, other = (
        Sample(
            {
                "publish_us.without": 10.0,
                "publish_us.witnessed": 10.0 * ratio,
                "witness_us": 10.0 * ratio - 10.0,
                "witness_ratio": ratio,
            }
        )
        for ratio in (1.02, 1.04)
    )
    made = sampled(one, other)
    assert "| 1.03 (1.02–1.04) |" in tables.witness_table(made)
    assert tables.witness_table(made) in report.fragment(made, "plots")
    assert "witness_ratio" in report.text(made)
    assert "witness_ratio" in report.in_short(one)


def test_a_round_that_broke_counts_nothing() -> None:
    assert tables.witness_table(sampled(Sample(void="bench.witness: it broke"))).endswith(
        "| – | – | – | – | – | – | – |"
    )

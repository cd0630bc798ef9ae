from __future__ import annotations

import json
from pathlib import Path

from bench.results import HEADLINES, SCHEMA, from_json, keep, last_kept, to_json
from bench.statistics import Spread
from tests.unit.bench.made_up import Rates, result

RATES: Rates = {"100b": {"pubsubd": [800.0, None, 1000.0], "nats-core": [100.0, 90.0, 50.0]}}
(RATE,) = HEADLINES["throughput"]


def test_a_result_survives_its_file() -> None:
    made = result(RATES)
    assert from_json(to_json(made)) == made


def test_the_file_has_the_summary_for_people_to_read() -> None:
    whole = json.loads(to_json(result(RATES)))
    assert whole["schema"] == SCHEMA
    assert whole["summary"]["100b"]["nats-core"]["messages_per_s"] == {
        "median": 90.0,
        "low": 50.0,
        "high": 100.0,
    }


def test_void_rounds_count_nowhere() -> None:
    made = result(RATES)
    assert made.spread("100b", "pubsubd", "messages_per_s") == Spread(900.0, 800.0, 1000.0)
    assert made.advantage("100b", "nats-core", RATE) == Spread(14.0, 8.0, 20.0)
    assert list(made.voids()) == [("100b", "pubsubd", "3 of 9 messages did not arrive")]


def test_an_advantage_is_above_one_also_if_less_is_better() -> None:
    made = result({})
    made.samples["latency"] = result({"latency": {"pubsubd": [1.0], "nats-core": [1.0]}}).samples[
        "latency"
    ]
    made.samples["latency"]["pubsubd"][0].figures["p50_us"] = 100.0
    made.samples["latency"]["nats-core"][0].figures["p50_us"] = 300.0
    assert made.advantage("latency", "nats-core", HEADLINES["latency"][0]) == Spread(3.0, 3.0, 3.0)


def test_modes_with_a_guarantee_are_compared_with_ours_that_has_one() -> None:
    made = result(
        {"100b": {"pubsubd": [900.0], "pubsubd-receipts": [300.0], "jetstream-receipts": [3.0]}}
    )
    assert made.advantage("100b", "jetstream-receipts", RATE) == Spread(100.0, 100.0, 100.0)


def test_what_was_not_measured_has_no_figure() -> None:
    made = result(RATES)
    assert made.spread("100b", "floor", "messages_per_s") is None
    assert made.advantage("16b", "nats-core", RATE) is None


def test_the_last_kept_is_the_newest_full_run_of_this_schema(tmp_path: Path) -> None:
    keep(result(RATES, date="2026-01-02T00:00:00Z"), "one", tmp_path)
    newest = result(RATES, date="2026-03-01T00:00:00Z")
    keep(newest, "one", tmp_path)
    keep(result(RATES, date="2026-02-01T00:00:00Z"), "two", tmp_path)
    keep(result(RATES, date="2026-04-01T00:00:00Z", quick=True), "one", tmp_path)
    (tmp_path / "2026-05-01-old.json").write_text('{"schema": 0}')
    (tmp_path / "2026-05-02-broken.json").write_text("{")
    assert last_kept(tmp_path) == newest


def test_without_a_kept_result_there_is_none(tmp_path: Path) -> None:
    assert last_kept(tmp_path / "nowhere") is None


def test_a_kept_result_is_named_after_its_day_and_host(tmp_path: Path) -> None:
    assert keep(result(RATES), "box", tmp_path).name == "2026-01-02-box.json"

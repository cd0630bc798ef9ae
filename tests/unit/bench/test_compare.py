from __future__ import annotations

import pytest
from bench.compare import changes, lines
from tests.unit.bench.made_up import result

THEN = result({"100b": {"pubsubd": [1000.0], "nats-core": [100.0], "floor": [4000.0]}})


def test_what_slowed_everybody_is_the_machine() -> None:
    now = result({"100b": {"pubsubd": [500.0], "nats-core": [50.0], "floor": [2000.0]}})
    (change,) = changes(THEN, now)
    assert change.factor == pytest.approx(0.5)
    assert change.machine == pytest.approx(0.5)
    assert change.own == pytest.approx(1.0)
    assert change.verdict == ""


def test_what_slowed_only_us_is_ours() -> None:
    now = result({"100b": {"pubsubd": [500.0], "nats-core": [100.0], "floor": [4000.0]}})
    (change,) = changes(THEN, now)
    assert change.own == pytest.approx(0.5)
    assert change.verdict == "worse"


def test_what_only_we_got_faster_by_is_better() -> None:
    now = result({"100b": {"pubsubd": [1500.0], "nats-core": [100.0], "floor": [4000.0]}})
    (change,) = changes(THEN, now)
    assert change.verdict == "better"


def test_without_others_in_both_runs_the_machine_is_unknown() -> None:
    now = result({"100b": {"pubsubd": [900.0]}})
    (change,) = changes(THEN, now)
    assert change.machine is None
    assert change.own == pytest.approx(0.9)


def test_a_void_run_is_no_change() -> None:
    now = result({"100b": {"pubsubd": [None], "nats-core": [100.0]}})
    assert list(changes(THEN, now)) == []
    assert list(lines(THEN, now))[-1].strip() == "no figure that both have measured"


def test_another_machine_is_said() -> None:
    now = result({"100b": {"pubsubd": [900.0]}})
    now.machine["cores"] = 64
    assert any("another machine" in line for line in lines(THEN, now))

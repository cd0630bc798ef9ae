"""Signals are taken before anything is loaded that takes its time, and each asks more urgently."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from tests.integration.commands import environment

from pubsubd_cli import signals
from pubsubd_cli.exit_codes import INTERRUPTED

LOADED = """
import signal, sys
before = {*sys.modules}
import pubsubd_cli.main
print(*sorted({*sys.modules} - before))
"""


def test_nothing_but_the_signals_is_loaded_before_they_are_taken() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, env=environment(), check=True
    ).stdout.decode()
    assert {*loaded.split()} - {"__future__", "gc"} == {
        "pubsubd_cli",
        "pubsubd_cli.exit_codes",
        "pubsubd_cli.main",
        "pubsubd_cli.signals",
    }


def test_each_signal_tells_the_next_and_one_more_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(os, "_exit", sys.exit)
    before = [signal.getsignal(number) for number in signals.ENDING]
    with signals.SignalTelling(
        lambda: told.append("finish"), lambda: told.append("hurry")
    ) as telling:
        signal.raise_signal(signal.SIGINT)
        assert (told, telling.told) == (["finish"], 1)
        signal.raise_signal(signal.SIGTERM)
        assert told == ["finish", "hurry"]
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(signal.SIGTERM)
        assert ended.value.code == INTERRUPTED
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.SignalTelling(lambda: told.append("finish")):
            signal.raise_signal(signal.SIGINT)
        assert told == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

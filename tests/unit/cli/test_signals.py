"""Signals are taken before anything is loaded that takes its time."""

from __future__ import annotations

import subprocess
import sys

from tests.unit.cli.running import environment

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
    assert {*loaded.split()} - {"__future__"} == {
        "pubsubd_cli",
        "pubsubd_cli.exit_codes",
        "pubsubd_cli.main",
        "pubsubd_cli.signals",
    }

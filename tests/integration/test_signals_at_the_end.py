"""The end of Python in a process whose work is done: a signal keeps the exit code, and no time is lost with collections."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import TIMEOUT_S, environment
from tests.integration.waiting import wait_until

HELD = """
import os
import sys
import time

class Held:
    # Python gives signals back to the system before it ends its modules.
    def __del__(self, open=os.open, stat=os.stat, sleep=time.sleep, flags=os.O_CREAT):
        open({ending!r}, flags)
        while True:
            try:
                stat({go!r})
                return
            except OSError:
                sleep(0.01)

# The process looks for no garbage at its end, but Python empties `sys` in any case.
sys.held = Held()
"""


class Ending:
    """A Python that stops just before its end."""

    def __init__(self, folder: Path) -> None:
        self._ending, self._go = folder / "ending", folder / "go"
        text = HELD.format(ending=str(self._ending), go=str(self._go))
        (folder / "sitecustomize.py").write_text(text)
        self.environment = {"PYTHONPATH": str(folder)}

    def signals(self, process: int, *numbers: signal.Signals) -> None:
        """Send the signals while Python ends, and let it end."""
        wait_until(self._ending.exists, TIMEOUT_S, "the end of the modules")
        for number in numbers:
            os.kill(process, number)
        self._go.touch()


NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_a_signal_after_a_stop_keeps_the_brokers_exit_code(tmp_path: Path) -> None:
    ending = Ending(tmp_path)
    with Broker(tmp_path, command=PUBSUBD, environment=ending.environment) as broker:
        pid = broker.pid
        os.kill(pid, signal.SIGTERM)
        ending.signals(pid, *NUMBERS)
        wait_until(lambda: broker.exit_code is not None, TIMEOUT_S, "the end")
        assert broker.exit_code == 0


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["nothing"], 2)])
def test_a_signal_after_a_command_keeps_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    ending = Ending(tmp_path)
    with subprocess.Popen(
        [*PUBSUBD, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(ending.environment),
    ) as process:
        ending.signals(process.pid, *NUMBERS)
        assert process.wait(TIMEOUT_S) == code


FREEZES = """
import gc

def freeze(real=gc.freeze):
    real()
    with open({path!r}, "a") as told:
        print(gc.get_freeze_count(), file=told)

gc.freeze = freeze
"""


def test_no_collection_looks_at_what_a_broker_has_loaded(tmp_path: Path) -> None:
    told = tmp_path / "frozen"
    (tmp_path / "sitecustomize.py").write_text(FREEZES.format(path=str(told)))
    with Broker(tmp_path, command=PUBSUBD, environment={"PYTHONPATH": str(tmp_path)}) as broker:
        wait_until(lambda: told.exists() and told.read_text().endswith("\n"), TIMEOUT_S, "a freeze")
        assert broker.stop() == 0
    serving, ending = map(int, told.read_text().split())
    # The functions and classes of all modules are some 36,000 objects.
    assert serving > 10_000
    assert ending > 10_000

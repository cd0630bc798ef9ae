"""Commands of README.md, docs/application.md and docs/options.md are executed.

Only ports and the folder of the sockets are replaced. The commands run in the order of the page.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.integration.ports import lasting_port
from tests.integration.readme import ROOT, blocks, commands, pubsubd_commands
from tests.integration.waiting import wait_until

from pubsubd_cli import exit_codes

BIN: Final = Path(sys.executable).parent


def test_make_knows_its_targets() -> None:
    targets = {words[1] for words in commands() if words[0] == "make"}
    assert targets == {"start", "test"}
    for target in targets | {"check"}:
        # -n: only print the commands. To run the tests in a test would not end.
        found = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False)
        assert found.returncode == 0, found.stderr


def test_starting_a_broker_installs_no_development_packages(tmp_path: Path) -> None:
    asked = ["make", "-n", "start", f"VENV={tmp_path / 'new'}"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installed = set(re.findall(r"supply\.export (\w+)", found.partition("pubsubd start")[0]))
    assert installed == {"build", "run"}


def test_every_command_of_the_page_is_executed_here() -> None:
    names = ("start", "start", "subscribe", "publish", "status", "start")
    executed = [("pubsubd", name) for name in names]
    assert [tuple(words[:2]) for words in commands() if words[0] != "make"] == executed


class Page:
    """The page's commands, on ports and in a folder of this test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = {port: str(lasting_port()) for port in ("7420", "7431", "7432", "9420")}
        # A broker uses the default port for HTTP unless an option says otherwise; here that port may be taken.
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PUBSUBD_")},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PUBSUBD_HTTP": f"127.0.0.1:{ports['9420']}",
        }
        self._ports = ports
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, words: list[str]) -> str:
        """Run a command that ends by itself. Returns its standard output."""
        done = subprocess.run(
            self._words(words), env=self._environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def begin(self, words: list[str]) -> tuple[subprocess.Popen[bytes], Path]:
        """Begin a command that goes on. Returns its process, and the file into which it writes."""
        written = self.folder / f"output-{len(self._running)}"
        environment = dict(self._environment)
        if "--no-http" in words:
            # The variable stands for an option that this command does not have.
            del environment["PUBSUBD_HTTP"]
        with written.open("wb") as output:
            process = subprocess.Popen(
                self._words(words), env=environment, stdout=output, stderr=output
            )
        self._running.append(process)
        return process, written

    def begin_start(self) -> None:
        """Begin the broker that `make start`, at the beginning of the page, leaves running, on all defaults."""
        self._environment["PUBSUBD_LISTEN"] = f"127.0.0.1:{self._ports['7420']}"
        self._environment["XDG_RUNTIME_DIR"] = str(self.folder)
        self.begin_broker(["pubsubd", "start"])
        del self._environment["PUBSUBD_LISTEN"]

    def begin_broker(self, words: list[str]) -> subprocess.Popen[bytes]:
        process, log = self.begin(words)
        wait_until(lambda: "broker.started" in log.read_text(), 60, f"{words}: {log.read_text()}")
        return process

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def _words(self, words: list[str]) -> list[str]:
        changed = []
        for word in words:
            for port, free in self._ports.items():
                word = word.replace(f":{port}", f":{free}")
            for place in ("/tmp/", "/etc/pubsubd/"):
                word = word.replace(place, f"{self.folder}/")
            changed.append(word)
        return changed


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with short_folder() as folder:
        page = Page(folder)
        try:
            yield page
        finally:
            page.close()


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for sockets: a socket's path has to fit into 107 bytes, and pytest's folders are deep."""
    with tempfile.TemporaryDirectory(prefix="psd-") as folder:
        yield Path(folder)


def generalised(line: str) -> str:
    """An event as the page prints it, with an ellipsis for each part that differs."""
    line = re.sub(r'"epoch":"[0-9a-f]{32}"', '"epoch":"…"', line)
    return re.sub(r'"time":[0-9.]+', '"time":…', line)


def test_two_brokers_by_hand(page: Page) -> None:
    first, second, _ = pubsubd_commands("start")
    (subscribe,) = pubsubd_commands("subscribe")
    (publish,) = pubsubd_commands("publish")
    (status,) = pubsubd_commands("status")
    message, expired = (text.strip() for text in blocks("json"))
    page.begin_start()
    status_of_b = [word.replace("-a.sock", "-b.sock") for word in status] + ["--json"]

    broker_a = page.begin_broker(first)
    broker_b = page.begin_broker(second)
    subscription, printed = page.begin(subscribe)
    wait_until(lambda: json.loads(page.run(status_of_b))["sessions"], what="the subscription on b")
    assert page.run(publish) == ""

    def lines() -> list[str]:
        return [generalised(line) for line in printed.read_text().splitlines()]

    wait_until(lambda: len(lines()) == 1, what="the message")
    assert lines() == [message]
    wait_until(lambda: re.search(r"^b +127\S+ +yes", page.run(status), re.MULTILINE))
    wait_until(lambda: re.search(r"^b +yes +1 +0 ", page.run(status), re.MULTILINE))

    broker_a.send_signal(signal.SIGINT)
    assert broker_a.wait(60) == 0
    broker_a = page.begin_broker(first)
    wait_until(lambda: re.search(r"^b +yes +1 +0 ", page.run(status), re.MULTILINE))
    broker_a.kill()
    broker_a.wait(60)
    broker_a = page.begin_broker(first)
    wait_until(lambda: len(lines()) == 2, 60, what="the gap")
    # And no gap before it: a clean stop loses nothing.
    assert lines() == [message, expired]

    subscription.send_signal(signal.SIGINT)
    assert subscription.wait(60) == exit_codes.INTERRUPTED
    for broker in (broker_a, broker_b):
        broker.send_signal(signal.SIGINT)
        assert broker.wait(60) == 0


def test_a_broker_for_other_machines_has_a_secret(page: Page) -> None:
    _, _, between = pubsubd_commands("start")
    secret = page.folder / "secret"
    secret.write_bytes(os.urandom(16))
    secret.chmod(0o600)
    page.begin_broker([*between, "--socket", "/tmp/between.sock"])

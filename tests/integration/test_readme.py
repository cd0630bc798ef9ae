"""README.md, docs/application.md and docs/options.md are executed, and their tables are compared.

Only ports and the folder of the sockets are replaced. The commands run in the order of the page.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import pytest
from tests.integration.cluster import Broker, wait_until, wait_until_async

import pubsubd
from pubsubd_broker.settings.bounds import LIMITS
from pubsubd_cli import exit_codes
from pubsubd_cli.start import start

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "docs/application.md", "docs/options.md")
README: Final = "\n".join((ROOT / page).read_text() for page in PAGES)
"""The pages as one text."""
BIN: Final = Path(sys.executable).parent

_FENCE: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
_DEFAULT: Final = re.compile(r"^(.*?)(?: Default: (.*))?\.$", re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(README) if found == language]


def commands() -> list[list[str]]:
    """Every command of the shell blocks, split as a shell would."""
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


def pubsubd_commands(name: str) -> list[list[str]]:
    return [words for words in commands() if words[:2] == ["pubsubd", name]]


# Tables and links


def usual_options() -> list[click.Option]:
    """The options that are not bounds."""
    bounds = {f"--{setting.name}" for setting in LIMITS}
    return [
        option
        for option in start.params
        if isinstance(option, click.Option) and option.opts[0] not in bounds
    ]


def options_table() -> str:
    """The expected table of options, made from the options themselves."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in usual_options():
        name = " ".join(filter(None, (option.opts[0], option.metavar))).replace("|", " or ")
        described = _DEFAULT.match(option.help or "")
        assert described is not None, f"the help of {name} ends without a full stop"
        meaning, default = described.groups()
        meaning = meaning.removesuffix(".")
        if option.name == "socket":
            default = "see below"
        rows.append(f"| `{name}` | {default or ''} | {meaning} |")
    return "\n".join(rows)


def test_options_table_matches_start() -> None:
    table = options_table()
    assert table in README, f"put this table under 'Options of `pubsubd start`':\n{table}"
    listed = set(re.findall(r"^\| `(--[a-z-]+)", README, re.MULTILINE))
    assert listed == {option.opts[0] for option in usual_options()}


def test_exit_codes_table_is_true() -> None:
    _, _, section = README.partition("## Exit codes")
    listed = re.findall(r"^\| (\d+) \|", section.partition("\n## ")[0], re.MULTILINE)
    codes = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert [int(code) for code in listed] == sorted(codes)


def test_reasons_table_is_complete() -> None:
    _, _, section = README.partition("## When messages are lost")
    listed = re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.MULTILINE)
    assert set(listed) == {reason.value for reason in pubsubd.Reason}


_UNITS: Final = {"": 1, "KiB": 1024, "MiB": 1024**2, "s": 10**9, "ms": 10**6}


def test_bounds_table_matches_the_code() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\S+)(?: (\w+))? \| `([\w.]+)` \|", page, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `[A-Z_]+` \|", page, re.MULTILINE)) > 20
    for name, number, unit, module in rows:
        written = 2**53 - 1 if number == "2^53-1" else float(number) * _UNITS[unit]
        found = getattr(importlib.import_module(module), name)
        assert found * (10**9 if name.endswith("_S") else 1) == written, name


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *("docs/guarantees.md", "docs/architecture.md", "docs/security.md", "docs/metrics.md"),
        "docs/bounds.md",
        "docs/adr",
    ],
)
def test_links_lead_to_files(page: str) -> None:
    pages = sorted((ROOT / page).glob("*.md")) if page == "docs/adr" else [ROOT / page]
    assert pages
    for each in pages:
        for link in _LINK.findall(each.read_text()):
            assert link.startswith("https://") or (each.parent / link).exists(), f"{each}: {link}"


# Commands


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


def free_port() -> int:
    """A free port below those that systems pick from: it stays free."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Page:
    """The page's commands, on ports and in a folder of this test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = {port: str(free_port()) for port in ("7420", "7431", "7432", "9420")}
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


# Python

StartBroker = Callable[..., Broker]
Body = Callable[[dict[str, Any], pubsubd.Client, Broker], Awaitable[None]]


def block_with(name: str) -> str:
    (found,) = [text for text in blocks("python") if f"def {name}(" in text]
    return found


def defined_by(name: str) -> dict[str, Any]:
    """The names that the block with the definition of `name` defines."""
    namespace: dict[str, Any] = {"pubsubd": pubsubd}
    exec(compile(block_with(name), f"README.md, {name}", "exec"), namespace)
    return namespace


def run_block(name: str, broker: Broker, body: Body) -> None:
    async def run() -> None:
        async with pubsubd.connect(broker.socket) as client:
            await body(defined_by(name), client, broker)

    asyncio.run(run())


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def subscribed(broker: Broker, count: int = 1) -> None:
    await wait_until_async(lambda: len(connected_sessions(broker)) == count)


def connected_sessions(broker: Broker) -> list[Any]:
    return [session for session in broker.status()["sessions"] if session["connected"]]


async def loses_its_state(broker: Broker, subscriptions: int = 1) -> None:
    """The broker crashes and comes back, and so do the subscriptions: a gap for each of them."""
    await asyncio.to_thread(broker.restart, signal.SIGKILL)
    await subscribed(broker, subscriptions)


def started(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)


class Kept:
    """The state that an application keeps, and the calls that changed it."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.names = [str(number) for number in range(10)]

    async def reload(self) -> None:
        self.done.append("reload")

    def apply(self, message: pubsubd.Message) -> None:
        self.done.append(message.payload)


def test_a_broker_for_other_machines_has_a_secret(page: Page) -> None:
    _, _, between = pubsubd_commands("start")
    secret = page.folder / "secret"
    secret.write_bytes(os.urandom(16))
    secret.chmod(0o600)
    page.begin_broker([*between, "--socket", "/tmp/between.sock"])


def test_every_python_block_is_executed_here() -> None:
    names = ["main", "project", "follow", "audit", "relay", "follow_rooms"]
    assert [block_with(name) for name in names] == blocks("python")


def test_first_example(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    done = subprocess.run(
        [sys.executable, "-c", block_with("main")],
        env={**os.environ, "PUBSUBD_SOCKET": broker.socket},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == "a True orders.created {'id': 1}\n"


class Database:
    """Keeps applied messages, and the position, of transactions that come to their end."""

    def __init__(self) -> None:
        self.position: object = None
        self.applied: list[Any] = []
        self.fails_at: object = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = len(self.applied), self.position
        try:
            yield
        except Crash:
            del self.applied[before[0] :]
            self.position = before[1]
            raise

    def apply(self, topic: str, payload: Any) -> None:
        self.applied.append(payload)
        if payload == self.fails_at:
            raise Crash


class Crash(Exception):
    """The application ends in the middle of a transaction."""


def test_stored_position_gives_exactly_once_across_a_crash(start_broker: StartBroker) -> None:
    async def body(page: dict[str, Any], client: pubsubd.Client, broker: Broker) -> None:
        database = Database()
        database.fails_at = 3
        life = started(page["project"](client, database))
        await subscribed(broker)
        await client.publish_many("orders.created", range(6))
        with pytest.raises(Crash):
            await life
        assert database.applied == [0, 1, 2]
        database.fails_at = None
        database.position = json.loads(json.dumps(database.position))
        life = started(page["project"](client, database))
        await wait_until_async(lambda: len(database.applied) == 6)
        assert database.applied == [0, 1, 2, 3, 4, 5]
        await cancelled(life)

    run_block("project", start_broker("a"), body)


def test_reload_at_the_gap_before_the_next_message(start_broker: StartBroker) -> None:
    async def body(page: dict[str, Any], client: pubsubd.Client, broker: Broker) -> None:
        orders = Kept()
        life = started(page["follow"](client, orders))
        await wait_until_async(lambda: orders.done == ["reload"])
        await client.publish("orders.created", 1)
        await wait_until_async(lambda: len(orders.done) == 2)
        await loses_its_state(broker)
        await client.publish("orders.created", 2)
        await wait_until_async(lambda: 2 in orders.done)
        assert orders.done == ["reload", 1, "reload", 2]
        await cancelled(life)

    run_block("follow", start_broker("a"), body)


def test_without_on_expired_iterating_raises(start_broker: StartBroker) -> None:
    async def body(page: dict[str, Any], client: pubsubd.Client, broker: Broker) -> None:
        log: list[Any] = []
        life = started(page["audit"](client, log))
        await subscribed(broker)
        await client.publish("orders.created", 1)
        await wait_until_async(lambda: log == [1])
        await asyncio.to_thread(broker.restart, signal.SIGKILL)
        with pytest.raises(pubsubd.CursorExpired):
            await life
        assert log == [1, "messages of node a are lost: state_lost"]

    run_block("audit", start_broker("a"), body)


def test_gaps_as_events(start_broker: StartBroker) -> None:
    async def body(page: dict[str, Any], client: pubsubd.Client, broker: Broker) -> None:
        output: list[Any] = []
        life = started(page["relay"](client, output))
        await subscribed(broker)
        await client.publish("orders.created", 1)
        await wait_until_async(lambda: len(output) == 1)
        await loses_its_state(broker)
        await client.publish("orders.created", 2)
        await wait_until_async(lambda: len(output) == 3)
        assert output == [("orders.created", 1), ("a", "state_lost"), ("orders.created", 2)]
        await cancelled(life)

    run_block("relay", start_broker("a"), body)


def test_many_subscriptions_share_a_reload(start_broker: StartBroker) -> None:
    async def body(page: dict[str, Any], client: pubsubd.Client, broker: Broker) -> None:
        rooms = Kept()
        life = started(page["follow_rooms"](client, rooms))
        await subscribed(broker, len(rooms.names))
        await loses_its_state(broker, len(rooms.names))
        for room in rooms.names:
            await client.publish(f"rooms.{room}.joined", room)
        await wait_until_async(lambda: {*rooms.names} <= {*rooms.done})
        assert 1 <= rooms.done.count("reload") < len(rooms.names)
        await cancelled(life)

    run_block("follow_rooms", start_broker("a"), body)

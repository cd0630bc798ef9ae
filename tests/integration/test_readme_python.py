"""Python blocks of README.md, docs/application.md and docs/options.md are executed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.integration.broker import Broker
from tests.integration.readme import blocks
from tests.integration.waiting import wait_until_async

import pubsubd

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


def test_every_python_block_is_executed_here() -> None:
    names = ["main", "blocking", "project", "follow", "audit", "relay", "follow_rooms"]
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


def test_the_blocking_example(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    calls = "import sys\nblocking(None, lambda *got: sys.exit(str(got)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{block_with('blocking')}\n{calls}"],
        env={**os.environ, "PUBSUBD_SOCKET": broker.socket},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.decode() == "('orders.created', {'id': 1})\n"


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

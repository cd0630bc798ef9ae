"""An application that is killed before its first message keeps its place all the same."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.waiting import wait_until, wait_until_async

import pubsubd

StartBroker = Callable[..., Broker]

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs/application.md").read_text()


def recipe(name: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if f"def {name}(" in block]
    return str(found)


def begin(broker: Broker, file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.integration.projecting", broker.socket, str(file)]
    life = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    assert life.stdin is not None
    life.stdin.write(recipe("project").encode())
    life.stdin.close()
    return life


def kept(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text())) if file.exists() else {"applied": []}


@async_test
async def test_a_recipe_killed_before_its_first_message_skips_nothing(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await asyncio.to_thread(start_broker, "a")
    file = tmp_path / "database.json"
    async with pubsubd.connect(broker.socket) as client:
        await client.publish("orders.new", "from before it began")
        for _ in range(2):
            life = begin(broker, file)
            try:
                await wait_until_async(file.exists, what="the position of a life without a message")
            finally:
                life.kill()
                await asyncio.to_thread(life.wait)
        await client.publish_many("orders.new", [0, 1, 2])
        life = begin(broker, file)
        try:
            await wait_until_async(lambda: len(kept(file)["applied"]) >= 3, what="the messages")
            await client.publish("orders.new", 3)
            await wait_until_async(lambda: len(kept(file)["applied"]) >= 4, what="the last one")
        finally:
            life.kill()
            await asyncio.to_thread(life.wait)
    assert kept(file)["applied"] == [0, 1, 2, 3]


@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_a_name_killed_before_its_first_message_skips_nothing(
    start_broker: StartBroker, ack: str
) -> None:
    broker = start_broker("a")
    code = (
        "import asyncio, sys, pubsubd\n"
        "async def main():\n"
        "    client = pubsubd.connect(sys.argv[1])\n"
        "    async with client, client.subscribe('t', name='n', ack=sys.argv[2]) as subscription:\n"
        "        print('open', flush=True)\n"
        "        async for message in subscription: print(message.payload, flush=True)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, broker.socket, ack]

    def lines(count: int) -> list[str]:
        life = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert life.stdout is not None
        try:
            return [life.stdout.readline().strip() for _ in range(count)]
        finally:
            life.kill()
            life.wait()
            life.stdout.close()
            wait_until(lambda: not connected(broker), what="the end of the session")

    async def publish() -> None:
        async with pubsubd.connect(broker.socket) as client:
            await client.publish_many("t", [0, 1, 2])

    assert lines(1) == ["open"]
    asyncio.run(publish())
    assert lines(4) == ["open", "0", "1", "2"]


def connected(broker: Broker) -> list[Any]:
    return [session for session in broker.status()["sessions"] if session["connected"]]

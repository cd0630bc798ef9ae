"""Applications that come, read and publish a little, and go: `python -m tests.soak.passers SETTINGS`.

No count is kept of what they are handed; the test looks at what they leave behind in the broker. A line on standard
input means: begin no further ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from typing import Final

from tests.faults.application import RETRY_S, Orders, Settings
from tests.soak.application import TOPIC
from tests.soak.ledger import HEAD, UNCOUNTED

import pubsubd
from pubsubd import BrokerUnavailable, Client, NameInUse, PublishUnknown

NAMES: Final = ("guest-1", "guest-2")
LARGEST: Final = 2000
LONGEST_S: Final = 1.0


class PasserBy:
    """Runs `window` passers-by at once."""

    def __init__(self, settings: Settings, orders: Orders) -> None:
        self._settings = settings
        self._orders = orders
        self._numbers = itertools.count()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.window):
                group.create_task(self._come_and_go())

    async def _come_and_go(self) -> None:
        settings = self._settings
        while not self._orders.peace.is_set():
            chance = random.Random(f"{settings.seed} {settings.life} {next(self._numbers)}")
            try:
                async with pubsubd.connect(settings.socket, codec=pubsubd.RAW) as client:
                    await self._pass(client, chance)
            except (BrokerUnavailable, NameInUse, PublishUnknown):
                await asyncio.sleep(RETRY_S)

    async def _pass(self, client: Client, chance: random.Random) -> None:
        pattern = chance.choice([">", f"{TOPIC}.*.x", f"{TOPIC}.{self._settings.node}.>", "quiet"])
        subscription = client.subscribe(
            pattern,
            name=chance.choice([None, None, *NAMES]),
            start="earliest" if chance.random() < 0.3 else "latest",
            on_expired=lambda _: None,
        )
        async with subscription:
            await client.publish_many(
                f"passing.{chance.randrange(100)}",
                [
                    HEAD.pack(UNCOUNTED, 0) + bytes(chance.randrange(LARGEST))
                    for _ in range(chance.randint(1, 20))
                ],
            )
            try:
                async with asyncio.timeout(chance.uniform(0, LONGEST_S)):
                    async for _ in subscription.batches():
                        await asyncio.sleep(chance.uniform(0, 0.01))
            except TimeoutError:
                pass


async def _main(settings: Settings) -> None:
    orders = Orders()
    orders.listen()
    await PasserBy(settings, orders).run()


if __name__ == "__main__":
    asyncio.run(_main(Settings(**json.loads(sys.argv[1]))))

"""An application in a process of its own. It publishes or reads with the SDK, and logs all that it does and sees.

    python -m tests.faults.application '{"role": "reader", "name": "r0", "socket": …, "log": …, …}'

A line on standard input means peace: a publisher ends what it has begun and exits, a reader makes no more pauses. The
input's end means: exit.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.faults.logbook import Logbook

import pubsubd
from pubsubd import Client, CursorExpired, Message, PubSubError, Receipt, Subscription

Keeps = Literal["nothing", "position", "name"]

RETRY_S: Final = 0.05
PADDING: Final = "."


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of both roles. `pause_s`: the longest pause; `every`: batches between two pauses, at least."""

    role: Literal["publisher", "reader"]
    name: str
    node: str
    socket: str
    log: str
    life: int = 0
    seed: int = 0
    pause_s: float = 0.0
    every: int = 1
    # Settings of a reader.
    keeps: Keeps = "nothing"
    patterns: Sequence[str] = (">",)
    start: Literal["latest", "earliest"] = "latest"
    # Settings of a publisher.
    topics: Sequence[str] = ("a",)
    addressees: Sequence[str] = ()
    batch: int = 10
    sizes: Sequence[int] = (20,)
    window: int = 4
    timeout_s: float = 2.0


@dataclass(slots=True)
class Orders:
    """Orders from the process that started the application."""

    peace: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin, self._heard)

    def _heard(self) -> None:
        self.peace.set()
        if not os.read(sys.stdin.fileno(), 1024):
            asyncio.get_running_loop().remove_reader(sys.stdin)
            self.end.set()


class Reader:
    """Reads one subscription over several lives. Each line of its log is a step and a position."""

    def __init__(self, settings: Settings, log: Logbook, orders: Orders) -> None:
        self._settings = settings
        self._log = log
        self._orders = orders
        self._chance = random.Random(f"{settings.seed} {settings.name} {settings.life}")
        self._position: object = None
        if settings.keeps == "position":
            for record in log.records:
                self._position = record.get("position", self._position)

    async def run(self) -> None:
        while True:
            try:
                async with pubsubd.connect(self._settings.socket, codec=pubsubd.RAW) as client:
                    await self._live(client)
            except PubSubError as error:
                self._log.write(_failure(error))
            await asyncio.sleep(RETRY_S)

    async def _live(self, client: Client) -> None:
        settings = self._settings
        presented = self._position
        subscription = client.subscribe(
            *settings.patterns,
            name=settings.name if settings.keeps == "name" else None,
            start=settings.start,
            position=presented,
            on_expired=lambda notice: self._expired(subscription, notice),
        )
        async with subscription:
            # Take the time after the subscription: the reader is owed every message published from then on.
            self._step(
                {"opened": presented, "resumed": subscription.resumed}, subscription.position
            )
            count = 0
            async for batch in subscription.batches():
                self._step({"got": _got(batch)}, subscription.position)
                count += 1
                if count % settings.every == 0 and settings.pause_s:
                    await self._pause()

    def _expired(self, subscription: Subscription, notice: CursorExpired) -> None:
        before = subscription.position
        place = [notice.epoch, notice.next]
        lost = [notice.node, notice.reason.value, notice.missed, *place]
        self._step({"lost": lost, "before": before}, {**before, notice.node: place})

    def _step(self, record: dict[str, object], position: object) -> None:
        self._log.write({"t": time.monotonic_ns(), **record, "position": position})
        if self._settings.keeps == "position":
            self._position = position

    async def _pause(self) -> None:
        if not self._orders.peace.is_set():
            await asyncio.sleep(self._chance.uniform(0, self._settings.pause_s))


class Publisher:
    """Publishes batches, a few at a time. Logs each before it is published, and again when its outcome is known."""

    def __init__(self, settings: Settings, log: Logbook, orders: Orders) -> None:
        self._settings = settings
        self._log = log
        self._orders = orders
        self._chance = random.Random(f"{settings.seed} {settings.name} {settings.life}")
        self._messages = 0
        self._attempts = 0
        self._publishing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        settings, peace = self._settings, self._orders.peace
        while not peace.is_set():
            try:
                async with pubsubd.connect(
                    settings.socket, codec=pubsubd.RAW, publish_timeout_s=settings.timeout_s
                ) as client:
                    while not peace.is_set():
                        await self._room()
                        self._begin(client)
                        await asyncio.sleep(self._chance.uniform(0, settings.pause_s))
                    while self._publishing:
                        await asyncio.wait(self._publishing)
            except PubSubError as error:
                self._log.write(_failure(error))
                await asyncio.sleep(RETRY_S)

    async def _room(self) -> None:
        while len(self._publishing) >= self._settings.window:
            await asyncio.wait(self._publishing, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, client: Client) -> None:
        settings, chance = self._settings, self._chance
        texts: list[tuple[str, int]] = []
        for _ in range(chance.randint(1, settings.batch)):
            self._messages += 1
            text = f"{settings.name}.{settings.life}/{self._messages}"
            texts.append((text, chance.choice(settings.sizes)))
        topic = chance.choice(settings.topics)
        to = chance.choice([*settings.addressees, *[None] * 9]) if settings.addressees else None
        self._attempts += 1
        self._log.write(
            {
                "t": time.monotonic_ns(),
                "attempt": self._attempts,
                "life": settings.life,
                "topic": topic,
                "to": to,
                "payloads": texts,
            }
        )
        payloads = [payload_of(text, size) for text, size in texts]
        task = asyncio.create_task(self._publish(client, self._attempts, topic, to, payloads))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(
        self, client: Client, attempt: int, topic: str, to: str | None, payloads: list[bytes]
    ) -> None:
        # Publish each message on its own, to get an outcome for each. They still travel as one batch.
        outcomes = await asyncio.gather(
            *(client.publish(topic, payload, to=to) for payload in payloads), return_exceptions=True
        )
        told: list[object] = []
        for outcome in outcomes:
            if isinstance(outcome, Receipt):
                told.append([outcome.node, outcome.epoch, outcome.offset])
            elif isinstance(outcome, PubSubError):
                told.append(type(outcome).__name__)
            else:
                raise outcome
        self._log.write(
            {
                "t": time.monotonic_ns(),
                "outcome": attempt,
                "life": self._settings.life,
                "told": told,
            }
        )


def payload_of(text: str, size: int) -> bytes:
    """A unique text, filled up to a size."""
    return text.ljust(size, PADDING).encode()


def _got(batch: Sequence[Message]) -> list[object]:
    """Node, epoch, and for each message offset, topic, text and size."""
    first = batch[0]
    messages = [
        [m.offset, m.topic, m.raw.decode(errors="replace").rstrip(PADDING), len(m.raw)]
        for m in batch
    ]
    return [first.node, first.epoch, messages]


def _failure(error: PubSubError) -> dict[str, object]:
    return {"t": time.monotonic_ns(), "failed": type(error).__name__, "text": str(error)}


async def _main(settings: Settings) -> None:
    orders = Orders()
    orders.listen()
    log = Logbook(Path(settings.log))
    role = Reader if settings.role == "reader" else Publisher
    working = asyncio.create_task(role(settings, log, orders).run())
    ending = asyncio.create_task(orders.end.wait())
    await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    working.cancel()
    await asyncio.wait([working])


if __name__ == "__main__":
    asyncio.run(_main(Settings(**json.loads(sys.argv[1]))))

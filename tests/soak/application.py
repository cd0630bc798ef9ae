"""An application at full speed, in a process of its own. It keeps sums; the applications of `tests/faults` keep logs.

    python -m tests.soak.application '{"role": "publisher", "name": "pa", "socket": …, "log": …, …}'

`log` names the file that the application's next life and the checks read. A publisher has one file for each life: how
many messages it tried, and how many were accepted. The file is shared memory, so a SIGKILL loses none of it. A reader
writes its ledger and the matching position in one write. Orders come as in `tests.faults.application`.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from tests.faults.application import RETRY_S, Orders, Settings
from tests.soak.ledger import HEAD, LANES, Account, Ledger, number_of

import pubsubd
from pubsubd import BrokerUnavailable, Client, CursorExpired, Message, Subscription

T = TypeVar("T")

TOPIC: Final = "load"
PATIENCE_S: Final = 120.0
"""Longer than any fault. A publish that still fails after this time shows a fault of the broker or of the SDK."""

BLOCK: Final = 50
"""Messages on each lane that a publisher announces in its file before it sends them."""

KEEP_EVERY_S: Final = 0.25
_ACCOUNT: Final = struct.Struct(">QQ")


def topic_of(node: str, lane: str) -> str:
    return f"{TOPIC}.{node}.{lane}"


def account_file(settings: Settings, life: int) -> Path:
    return Path(f"{settings.log}.{life}")


def read_accounts(settings: Settings, life: int) -> list[Account]:
    """The accounts of one life of a publisher, one for each of its lanes. None if that life never published."""
    try:
        tried, accepted = _ACCOUNT.unpack_from(account_file(settings, life).read_bytes())
    except FileNotFoundError:
        return []
    return [Account(number_of(settings.node, lane, life), tried, accepted) for lane in LANES]


class Publisher:
    """Sends as fast as it may, one message on each lane in turn, and flushes meanwhile."""

    def __init__(self, settings: Settings, orders: Orders) -> None:
        self._settings = settings
        self._orders = orders
        self._tried = 0
        self._padding = bytes(max(settings.sizes) - HEAD.size)
        path = account_file(settings, settings.life)
        path.write_bytes(bytes(_ACCOUNT.size))
        with path.open("r+b") as file:
            self._account = mmap.mmap(file.fileno(), _ACCOUNT.size)

    async def run(self) -> None:
        async with await _connected(self._settings) as client:
            flushing = asyncio.create_task(self._flush_often(client))
            while not self._orders.peace.is_set():
                await self._send_block(client)
                if flushing.done():
                    break
            flushing.cancel()
            await asyncio.wait([flushing])
            if not flushing.cancelled():
                flushing.result()
            await self._flush(client, self._tried)

    async def _send_block(self, client: Client) -> None:
        settings, pack, padding = self._settings, HEAD.pack, self._padding
        first = self._tried
        self._tried += BLOCK
        self._write(0, self._tried)
        lanes = [
            (topic_of(settings.node, lane), number_of(settings.node, lane, settings.life))
            for lane in LANES
        ]
        for count in range(first, self._tried):
            for topic, number in lanes:
                await client.send(topic, pack(number, count) + padding)

    async def _flush_often(self, client: Client) -> None:
        while True:
            # The last announced block may be half sent. The SDK has taken all blocks before it.
            await self._flush(client, max(0, self._tried - BLOCK))
            await asyncio.sleep(KEEP_EVERY_S)

    async def _flush(self, client: Client, sent: int) -> None:
        await client.flush()
        self._write(1, sent)

    def _write(self, at: int, figure: int) -> None:
        struct.pack_into(">Q", self._account, 8 * at, figure)


class Reader:
    """Reads one subscription over several lives, and keeps its ledger."""

    def __init__(self, settings: Settings, orders: Orders) -> None:
        self._settings = settings
        self._orders = orders
        self._chance = random.Random(f"{settings.seed} {settings.name} {settings.life}")
        self._path = Path(settings.log)
        self._position: object = None
        self._ledger = Ledger(whole=list(settings.patterns) == [">"])
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            self._ledger = Ledger.load(kept["ledger"])
            self._position = kept["position"]
        self._unacknowledged: dict[str, Message] = {}

    async def run(self) -> None:
        named = self._settings.keeps == "name"
        async with await _connected(self._settings) as client:
            subscription = client.subscribe(
                *self._settings.patterns,
                name=self._settings.name if named else None,
                ack="manual" if named else "auto",
                position=None if named else self._position,
                on_expired=lambda notice: self._expired(subscription, notice),
            )
            await _patiently(lambda: _opened(subscription))
            again = named and self._position is not None
            self._ledger.begin(subscription.position, again=again)
            self._keep(subscription.position)
            await self._read(subscription)
            await self._settle(subscription)

    async def _read(self, subscription: Subscription) -> None:
        keep_at = time.monotonic() + KEEP_EVERY_S
        coming = subscription.batches()
        asked = asyncio.ensure_future(anext(coming))
        count = 0
        while not self._orders.end.is_set():
            # A longer wait would leave the last messages unkept when no more messages come.
            await asyncio.wait([asked], timeout=KEEP_EVERY_S)
            arrived = asked.done()
            if arrived:
                self._got(asked.result())
                count += 1
            if time.monotonic() >= keep_at:
                await self._settle(subscription)
                keep_at = time.monotonic() + KEEP_EVERY_S
            if arrived:
                if count % self._settings.every == 0 and self._settings.pause_s:
                    await self._pause()
                asked = asyncio.ensure_future(anext(coming))
        asked.cancel()
        await asyncio.wait([asked])
        if not asked.cancelled():
            self._got(asked.result())

    def _got(self, batch: Sequence[Message]) -> None:
        self._ledger.got(batch)
        self._unacknowledged[batch[-1].node] = batch[-1]

    def _expired(self, subscription: Subscription, notice: CursorExpired) -> None:
        self._ledger.expired(notice)
        # Take the notice into the ledger before passing it: a passed notice may be acknowledged at once.
        self._keep({**subscription.position, notice.node: [notice.epoch, notice.next]})

    async def _settle(self, subscription: Subscription) -> None:
        """Keep what was read, then acknowledge it: never the other way round."""
        position = subscription.position
        self._ledger.stands(position)
        self._keep(position)
        if self._settings.keeps == "name":
            for message in self._unacknowledged.values():
                await subscription.ack(message)
        self._unacknowledged.clear()

    def _keep(self, position: object) -> None:
        self._position = position
        kept = json.dumps({"position": position, "ledger": self._ledger.dump()})
        beside = self._path.with_suffix(".new")
        beside.write_text(kept)
        os.replace(beside, self._path)

    async def _pause(self) -> None:
        if not self._orders.peace.is_set():
            await asyncio.sleep(self._chance.uniform(0, self._settings.pause_s))


async def _opened(subscription: Subscription) -> Subscription:
    return await subscription


async def _connected(settings: Settings) -> Client:
    async def connect() -> Client:
        return await pubsubd.connect(
            settings.socket,
            codec=pubsubd.RAW,
            publish_timeout_s=PATIENCE_S,
            close_timeout_s=PATIENCE_S,
        )

    return await _patiently(connect)


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeats `attempt` while the reader's broker is away, or has not yet noticed that the last life is over."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await attempt()
        except (BrokerUnavailable, pubsubd.NameInUse):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_S)


async def _main(settings: Settings) -> None:
    orders = Orders()
    orders.listen()
    role = Reader if settings.role == "reader" else Publisher
    await role(settings, orders).run()


if __name__ == "__main__":
    asyncio.run(_main(Settings(**json.loads(sys.argv[1]))))

"""Kills a broker that syncs before it answers, again and again under load, and looks for what it had accepted.

python -m tests.faults.journal_kills --rounds 200           # make journal-kills ROUNDS=200
python -m tests.faults.journal_kills --rounds 200 --seed 17 # drawn like that one, though no two runs are alike
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.integration.cluster import PUBSUBD, Broker, Cluster, wait_until_async
from tests.integration.steps import DEADLINE_S, attached, in_thread, subscribed, within
from tests.simulation.violation import Violation

import pubsubd
from pubsubd import Client, CursorExpired, Subscription

PUBLISHERS: Final = 3
LANES: Final = 2
"""So many batches of each publisher are on their way at once."""
BATCH: Final = 20
PADDING: Final = 1000
"""A payload is up to so much longer than its number."""
MOST_RECEIPTS: Final = 400
"""A life of the broker ends after so many, or a few in flight more."""
RING: Final = "4MiB"
"""Small segments, so that many a life begins a further one; and room for all that comes while node b backs off."""
LOOK_EVERY: Final = 10
"""After so many rounds somebody new reads all that is held."""


@dataclass(slots=True)
class Accepted:
    """What publishers were told: the payload at each offset."""

    at: dict[int, str] = field(default_factory=dict)
    enough: int = 0
    """So many in all are wanted of this life; publishers that see them wait for the next one."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, offset: int, payload: str) -> None:
        if offset in self.at:
            raise Violation(
                f"offset {offset} was told of two: {payload[:20]}, {self.at[offset][:20]}"
            )
        self.at[offset] = payload
        if len(self.at) >= self.enough:
            self.reached.set()
            self.wanted.clear()

    async def more(self, count: int) -> None:
        """Waits for `count` further receipts."""
        self.enough = len(self.at) + count
        self.wanted.set()
        self.reached.clear()
        if count:
            await within(self.reached.wait(), f"{count} more receipts")


class Publisher:
    """Publishes numbered messages and wants a receipt for each, however often its broker dies."""

    def __init__(
        self, name: str, client: Client, accepted: Accepted, chance: random.Random
    ) -> None:
        self.stopping = False
        self._name = name
        self._client = client
        self._accepted = accepted
        self._chance = chance
        self._published = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(self._lane())

    async def _lane(self) -> None:
        while not self.stopping:
            await self._accepted.wanted.wait()
            first = self._published
            self._published += self._chance.randint(1, BATCH)
            payloads = [
                f"{self._name}:{number}:{'.' * self._chance.randint(0, PADDING)}"
                for number in range(first, self._published)
            ]
            receipts = await asyncio.gather(*(self._client.publish("x", p) for p in payloads))
            for payload, receipt in zip(payloads, receipts, strict=True):
                self._accepted.add(receipt.offset, payload)


class Reader:
    """Reads a stream that may not have a gap, and remembers what stands where."""

    def __init__(self, name: str, subscription: Subscription) -> None:
        self.came: list[str] = []
        self.first = 0
        self._name = name
        self._subscription = subscription

    @property
    def next(self) -> int:
        return self.first + len(self.came)

    async def run(self, until: int | None = None) -> None:
        """`until`: ends with what stands at this offset."""
        async for event in self._subscription.events():
            if isinstance(event, CursorExpired):
                raise Violation(f"{self._name}, at {self.next}: {event} ({event.reason})")
            if not self.came and until is not None:
                self.first = event.offset
            if event.offset != self.next:
                raise Violation(f"{self._name} got offset {event.offset}, {self.next} comes next")
            self.came.append(str(event.payload))
            if until is not None and event.offset >= until:
                return

    async def reached(self, end: int) -> None:
        await wait_until_async(lambda: self.next >= end, DEADLINE_S, f"{end} at {self._name}")

    def check(self, accepted: Accepted) -> None:
        """Everything accepted is where its receipt says, nothing is there twice, and each publisher's is in order."""
        for offset, payload in accepted.at.items():
            if offset >= self.first and (
                offset >= self.next or self.came[offset - self.first] != payload
            ):
                found = self.came[offset - self.first] if offset < self.next else "nothing"
                raise Violation(
                    f"{self._name}: {found[:20]} at {offset}, where {payload[:20]} was accepted"
                )
        last: dict[str, int] = {}
        for payload in self.came:
            publisher, number, _ = payload.split(":")
            if publisher in last and int(number) != last[publisher] + 1:
                raise Violation(f"{self._name}: {payload[:20]} behind number {last[publisher]}")
            if self.first == 0 and publisher not in last and int(number):
                raise Violation(f"{self._name}: {payload[:20]} is the first one of its publisher")
            last[publisher] = int(number)


async def kill_rounds(folder: Path, rounds: int, seed: int) -> int:
    """Kills node a `rounds` times. Returns how many messages were accepted. Raises `Violation`."""
    chance = random.Random(seed)
    journal = {"journal": folder / "journal", "fsync": "always"}
    cluster = Cluster(folder, 2, command=PUBSUBD, per_node={"a": journal}, ring_bytes=RING)
    try:
        await in_thread(cluster.start)
        accepted = Accepted()
        async with contextlib.AsyncExitStack() as open_, asyncio.TaskGroup() as tasks:
            readers = []
            for broker in cluster:
                subscription = await open_.enter_async_context(subscribed(broker, start="earliest"))
                readers.append(Reader(f"the reader at {broker.node}", subscription))
            reading = [tasks.create_task(reader.run()) for reader in readers]
            publishers = []
            for number in range(PUBLISHERS):
                client = pubsubd.connect(cluster["a"].socket, publish_timeout_s=DEADLINE_S)
                await open_.enter_async_context(client)
                publishers.append(Publisher(f"p{number}", client, accepted, chance))
            publishing = [tasks.create_task(publisher.run()) for publisher in publishers]
            for played in range(1, rounds + 1):
                await _live_and_die(cluster, accepted, chance)
                if played % LOOK_EVERY == 0 or played == rounds:
                    await _look(cluster["a"], accepted)
            for publisher in publishers:
                publisher.stopping = True
            accepted.wanted.set()
            await within(asyncio.gather(*publishing), "the end of publishing")
            end = max(accepted.at) + 1
            for reader in readers:
                await reader.reached(end)
                reader.check(accepted)
            for task in reading:
                task.cancel()
        return len(accepted.at)
    finally:
        cluster.close()


async def _live_and_die(cluster: Cluster, accepted: Accepted, chance: random.Random) -> None:
    """One life of node a that has begun already, its end, and the beginning of the next one."""
    broker = cluster["a"]
    if chance.random() < 0.5:
        await attached(cluster, "b", "a")
    await accepted.more(chance.randint(0, MOST_RECEIPTS))
    broker.kill()
    while chance.random() < 0.15:
        # It dies again while it begins: what it had recovered must not suffer.
        await in_thread(lambda: broker.start(wait=False).wait_log("journal.recovered"))
        broker.kill()
    await in_thread(broker.start)
    failed = [line for line in broker.logs if line["event"] == "journal.failed"]
    if failed:
        raise Violation(f"the journal failed: {failed}")


async def _look(broker: Broker, accepted: Accepted) -> None:
    """Somebody who has never read before finds all that is held, and nothing else."""
    known = Accepted(dict(accepted.at))
    async with subscribed(broker, start="earliest") as subscription:
        reader = Reader("a new reader", subscription)
        await within(reader.run(until=max(known.at)), "the end of what was accepted")
    reader.check(known)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pubsubd-kills-"))
    began = time.monotonic()
    try:
        accepted = asyncio.run(kill_rounds(folder, options.rounds, options.seed))
    except Exception as error:
        print(f"seed {options.seed}: violated; the journal is in {folder}")
        for each in error.exceptions if isinstance(error, ExceptionGroup) else [error]:
            print(f"{type(each).__name__}: {each}")
        return 1
    shutil.rmtree(folder)
    seconds = time.monotonic() - began
    print(
        f"seed {options.seed}: {options.rounds} rounds, {accepted} accepted, {seconds:.0f} seconds, nothing violated"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

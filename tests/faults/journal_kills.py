"""Kills a broker with a journal, again and again under load, and looks for the messages that it had accepted.

    python -m tests.faults.journal_kills --rounds 200           # make journal-kills ROUNDS=200
    python -m tests.faults.journal_kills --rounds 200 --seed 17 # draws the same again; no two runs are alike all the same
    python -m tests.faults.journal_kills --rounds 200 --fsync interval

With `always` nothing may be lost. With `interval` and `off`, messages that were not written yet are lost. Then every
reader is told so, at that place and with the right number. Where nothing is lost, no reader is told of a loss.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.integration.broker import PUBSUBD, Broker
from tests.integration.cluster import Cluster
from tests.integration.steps import DEADLINE_S, attached, in_thread, subscribed, within
from tests.integration.waiting import wait_until_async
from tests.simulation.violation import Violation

import pubsubd
from pubsubd import Client, CursorExpired, Reason, Receipt, Subscription

PUBLISHERS: Final = 3
LANES: Final = 2
"""Batches of each publisher on their way at once."""
BATCH: Final = 20
PADDING: Final = 1000
"""Largest number of bytes of a payload beyond its number."""
MOST_RECEIPTS: Final = 400
"""Receipts in one life of the broker, give or take the batches in flight."""
RING: Final = "4MiB"
"""Small segments, so that many a life begins a further one. The ring holds all that comes while node b backs off."""
LOOK_EVERY: Final = 10
"""Rounds between two new readers that read all that is held."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A life of the broker, as its successor found it.

    `next`: the recovered end; `lost`: messages missing behind it.
    """

    epoch: str
    next: int
    lost: int | None


def lives_of(broker: Broker) -> list[Ended]:
    """The lives in order. A life that was recovered twice, as its successor was killed early, is in the list once."""
    lines = broker.logged("journal.recovered")
    ended = {line["epoch"]: Ended(line["epoch"], line["next"], line["lost"]) for line in lines}
    return list(ended.values())


@dataclass(slots=True)
class Accepted:
    """The receipts of all publishers: the payload at each offset. `lost`: the lost ones, by their epoch."""

    at: dict[int, str] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)
    placed_by: dict[int, str] = field(default_factory=dict)
    """The epoch of each offset's receipt."""
    epochs: list[str] = field(default_factory=list)
    """The epochs of all receipts, in the order in which the first of each came."""
    ended: set[str] = field(default_factory=set)
    enough: int = 0
    """Receipts wanted of this life. Publishers that see this number wait for the next life."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, receipt: Receipt, payload: str, lives: list[Ended]) -> None:
        offset, epoch = receipt.offset, receipt.epoch
        self.learn(lives)
        if any(epoch == life.epoch and offset >= life.next for life in lives):
            # The receipt was on its way as the broker died: its message is lost by now.
            self.lost.setdefault(epoch, []).append(payload)
            return
        if epoch not in self.epochs:
            self.epochs.append(epoch)
        if offset in self.at:
            if self.placed_by[offset] == epoch:
                raise Violation(
                    f"offset {offset} was told of two: {payload[:20]}, {self.at[offset][:20]}"
                )
            # One of the two lives has lost its message, the earlier one; the log line of its successor is still to come.
            if self.epochs.index(epoch) < self.epochs.index(self.placed_by[offset]):
                self.lost.setdefault(epoch, []).append(payload)
                return
            self._lose(offset)
        self.at[offset] = payload
        self.placed_by[offset] = epoch
        if len(self.at) >= self.enough:
            self.reached.set()
            self.wanted.clear()

    def learn(self, lives: list[Ended]) -> None:
        """Move the receipts beyond each life's end to `lost`.

        A later life's receipts may arrive before its log line.
        """
        for ended in lives:
            if ended.epoch in self.ended:
                continue
            self.ended.add(ended.epoch)
            for offset in [offset for offset in self.at if offset >= ended.next]:
                if self.placed_by[offset] in self.ended:
                    self._lose(offset)

    def _lose(self, offset: int) -> None:
        self.lost.setdefault(self.placed_by.pop(offset), []).append(self.at.pop(offset))

    async def more(self, count: int) -> None:
        """Waits for `count` further receipts."""
        self.enough = len(self.at) + count
        self.wanted.set()
        self.reached.clear()
        if count:
            await within(self.reached.wait(), f"{count} more receipts")


class Publisher:
    """Publishes numbered messages, and gets a receipt for each over all lives of its broker."""

    def __init__(
        self,
        name: str,
        client: Client,
        accepted: Accepted,
        chance: random.Random,
        broker: Broker,
    ) -> None:
        self.stopping = False
        self._broker = broker
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
            lives = lives_of(self._broker)
            for payload, receipt in zip(payloads, receipts, strict=True):
                self._accepted.add(receipt, payload, lives)


class Reader:
    """Reads a stream and remembers the message at each offset.

    It must be told of a gap where messages were lost, and nowhere else.
    """

    def __init__(self, name: str, subscription: Subscription, broker: Broker) -> None:
        self.came: dict[int, str] = {}
        self.first = 0
        self.next = 0
        self.told: list[CursorExpired] = []
        self.skipped: set[int] = set()
        """Offsets skipped, as the reader had read other messages there that are lost."""
        self._epoch = ""
        self._name = name
        self._subscription = subscription
        self._broker = broker

    async def run(self, until: int | None = None) -> None:
        """Read up to and with the offset `until`."""
        async for event in self._subscription.events():
            if isinstance(event, CursorExpired):
                self._pass(event)
                continue
            if not self.came and until is not None:
                self.first = self.next = event.offset
            if event.offset != self.next:
                raise Violation(f"{self._name} got offset {event.offset}, {self.next} comes next")
            self.came[event.offset] = str(event.payload)
            self._epoch = event.epoch
            self.next += 1
            if until is not None and event.offset >= until:
                return

    def _pass(self, notice: CursorExpired) -> None:
        """Raises `Violation` for a notice that does not match the loss at its place."""
        self.told.append(notice)
        lives = lives_of(self._broker)
        if notice.reason is Reason.AHEAD:
            # The life of the reader's last message ended before that message.
            ends = [life.next for life in lives if life.epoch == self._epoch and life.lost != 0]
            if ends and ends[0] < self.next:
                for offset in range(ends[0], self.next):
                    self.came.pop(offset, None)
                self.skipped.update(range(ends[0], notice.next))
                self.next = notice.next
                return
        here = [life.lost for life in lives if life.next == self.next]
        runs = [here[first:last] for last in range(len(here) + 1) for first in range(last)]
        sums = [None if None in run else sum(filter(None, run)) for run in runs]
        if (
            notice.reason is not Reason.STATE_LOST
            or notice.next != self.next
            or notice.missed not in {each for each in sums if each != 0}
        ):
            raise Violation(
                f"{self._name}, at {self.next}: {notice} ({notice.reason}); lost there: {here}"
            )

    async def reached(self, end: int) -> None:
        await wait_until_async(lambda: self.next >= end, DEADLINE_S, f"{end} at {self._name}")

    def check(self, accepted: Accepted) -> None:
        """Raises unless each accepted message stands where its receipt says, once, and in its publisher's order."""
        for offset, payload in accepted.at.items():
            if offset >= self.first and offset not in self.skipped:
                found = self.came.get(offset, "nothing")
                if found != payload:
                    raise Violation(
                        f"{self._name}: {found[:20]} at {offset}, where {payload[:20]} was accepted"
                    )
        lost = {payload.rpartition(":")[0] for each in accepted.lost.values() for payload in each}
        last: dict[str, int] = {}
        for _, payload in sorted(self.came.items()):
            publisher, number, _ = payload.split(":")
            before = last.get(publisher, -1 if self.first == 0 else int(number) - 1)
            passed = [f"{publisher}:{each}" for each in range(before + 1, int(number))]
            if int(number) <= before or not (self.skipped or lost.issuperset(passed)):
                raise Violation(f"{self._name}: {payload[:20]} behind number {before}")
            last[publisher] = int(number)


@dataclass(slots=True)
class Played:
    """The figures of a run. `lossy`: lives that lost messages at their end; `told`: notices, over all readers."""

    accepted: int
    lossy: int = 0
    lost: int = 0
    told: int = 0


async def kill_rounds(
    folder: Path,
    rounds: int,
    seed: int,
    fsync: str = "always",
    *,
    command: Sequence[str] | None = PUBSUBD,
) -> Played:
    """Kill node a `rounds` times. Raises `Violation`. `command`: None forks the brokers."""
    chance = random.Random(seed)
    journal = {"journal": folder / "journal", "fsync": fsync}
    cluster = Cluster(folder, 2, command=command, per_node={"a": journal}, ring_bytes=RING)
    try:
        await in_thread(cluster.start)
        accepted = Accepted()
        async with contextlib.AsyncExitStack() as open_, asyncio.TaskGroup() as tasks:
            readers = []
            for broker in cluster:
                subscription = await open_.enter_async_context(subscribed(broker, start="earliest"))
                readers.append(Reader(f"the reader at {broker.node}", subscription, cluster["a"]))
            reading = [tasks.create_task(reader.run()) for reader in readers]
            publishers = []
            for number in range(PUBLISHERS):
                client = pubsubd.connect(cluster["a"].socket, publish_timeout_s=DEADLINE_S)
                await open_.enter_async_context(client)
                publishers.append(Publisher(f"p{number}", client, accepted, chance, cluster["a"]))
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
        lives = lives_of(cluster["a"])
        _check_lives(lives, accepted, readers, fsync)
        lossy = [life.lost or 0 for life in lives if life.lost != 0]
        told = sum(len(reader.told) for reader in readers)
        return Played(len(accepted.at), len(lossy), sum(lossy), told)
    finally:
        cluster.close()


def _check_lives(lives: list[Ended], accepted: Accepted, readers: list[Reader], fsync: str) -> None:
    """Each life must report as lost all receipts beyond its end, and at most the messages in flight besides."""
    on_the_way = PUBLISHERS * LANES * BATCH
    for life in lives:
        missing = len(accepted.lost.get(life.epoch, ()))
        if life.lost is None or not missing <= life.lost <= missing + on_the_way:
            raise Violation(f"{life}, and {missing} that it accepted are missing")
        if fsync == "always" and life.lost:
            raise Violation(f"{life}, though everything was on disk before it was accepted")
    lossy = sum(life.lost != 0 for life in lives)
    for reader in readers:
        if len(reader.told) > lossy or (lossy and not reader.told):
            raise Violation(f"{len(reader.told)} notices, {lossy} lives that lost something")


async def _live_and_die(cluster: Cluster, accepted: Accepted, chance: random.Random) -> None:
    """The rest of one life of node a, its end, and the beginning of the next one."""
    broker = cluster["a"]
    if chance.random() < 0.5:
        await attached(cluster, "b", "a")
    await accepted.more(chance.randint(0, MOST_RECEIPTS))
    broker.kill()
    while chance.random() < 0.15:
        # Kill it again while it begins: the recovered messages must survive.
        await in_thread(lambda: broker.start(wait=False).wait_log("journal.recovered"))
        broker.kill()
    await in_thread(broker.start)
    accepted.learn(lives_of(broker))
    failed = broker.logged("journal.failed")
    if failed:
        raise Violation(f"the journal failed: {failed}")


async def _look(broker: Broker, accepted: Accepted) -> None:
    """A new reader finds all that is held, and nothing else."""
    known = Accepted(dict(accepted.at), accepted.lost)
    async with subscribed(broker, start="earliest") as subscription:
        reader = Reader("a new reader", subscription, broker)
        await within(reader.run(until=max(known.at)), "the end of what was accepted")
    reader.check(known)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--fsync", choices=["off", "interval", "always"], default="always")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pubsubd-kills-"))
    began = time.monotonic()
    try:
        played = asyncio.run(kill_rounds(folder, options.rounds, options.seed, options.fsync))
    except Exception as error:
        print(f"seed {options.seed}: violated; the journal is in {folder}")
        for each in error.exceptions if isinstance(error, ExceptionGroup) else [error]:
            print(f"{type(each).__name__}: {each}")
        return 1
    shutil.rmtree(folder)
    seconds = time.monotonic() - began
    print(
        f"seed {options.seed}, fsync {options.fsync}: {options.rounds} rounds, "
        f"{played.accepted} accepted, {seconds:.0f} seconds, nothing violated; "
        f"{played.lossy} lives lost {played.lost} messages, {played.told} notices"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

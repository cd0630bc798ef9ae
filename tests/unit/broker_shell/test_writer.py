"""The journal's shell: whatever moment it ends at, what was accepted is on disk."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from tests.unit.core.builders import E1, PUBLISHER, Impatient
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.config import Config, Now
from pubsubd_broker.core.journal.journal import Fsync, Work
from pubsubd_broker.core.journal.recovery import Recovered, recover
from pubsubd_broker.core.keeping import Kept
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.publishers import Publisher
from pubsubd_broker.journal_folder import JournalFolder
from pubsubd_broker.keeping import Writer

NOW = Now(1_000, 0)


class GatedFolder(JournalFolder):
    """Does nothing before its gate is open."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()
        self.performed: list[Work] = []

    def perform(self, work: Work) -> float | None:
        assert self.gate.wait(10)
        self.performed.append(work)
        return super().perform(work)


def publish(node: Node, publisher: Publisher, sequence: int) -> None:
    batch = batch_of([("t", b"")], sequence=sequence)
    node.stream.publish(batch, publisher, PUBLISHER, NOW, Impatient())


def left(path: Path) -> Recovered:
    folder = JournalFolder(str(path))
    recovered = recover("a", folder.read())
    folder.close()
    assert recovered is not None
    return recovered


def test_a_broker_that_ends_while_it_writes_writes_what_came_meanwhile_too(tmp_path: Path) -> None:
    async def run() -> GatedFolder:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.INTERVAL, 10**9))
        folder, publisher = GatedFolder(str(tmp_path)), Publisher(8)

        def changed() -> None:
            asyncio.get_running_loop().call_soon(writer.go_on, NOW)

        writer = Writer(node, folder, lambda: NOW, changed)
        await writer.begin()
        folder.gate.clear()
        publish(node, publisher, 1)
        writer.go_on(NOW)
        publish(node, publisher, 2)
        node.registry.acknowledge("b", 1, {}, 0)
        ending = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        folder.gate.set()
        await ending
        publish(node, publisher, 3)
        writer.go_on(NOW)
        return folder

    folder = asyncio.run(run())
    recovered = left(tmp_path)
    assert recovered.next == 2
    assert recovered.state.consumers["b"].cursor == 1
    assert folder.performed[-1].sync


def test_a_stop_that_is_cancelled_half_way_is_finished_by_the_next_one(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.SNAPSHOT))
        folder = GatedFolder(str(tmp_path))
        writer = Writer(node, folder, lambda: NOW, lambda: None)
        await writer.begin()
        publish(node, Publisher(8), 1)
        folder.gate.clear()
        first = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        folder.gate.set()
        await writer.close()

    asyncio.run(run())
    assert left(tmp_path).next == 1


def test_a_flush_that_fails_for_any_reason_is_told_and_lets_go_of_the_folder(
    tmp_path: Path,
) -> None:
    class Wrong(GatedFolder):
        def perform(self, work: Work) -> float | None:
            if self.performed:
                raise ValueError("no disk has this error")
            return super().perform(work)

    async def run() -> Node:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.SNAPSHOT))
        writer = Writer(node, Wrong(str(tmp_path)), lambda: NOW, lambda: None)
        await writer.begin()
        await writer.close()
        return node

    node = asyncio.run(run())
    assert node.failure is not None
    assert "no disk has this error" in node.failure
    JournalFolder(str(tmp_path)).close()

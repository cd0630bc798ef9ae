"""The journal's shell: accepted messages are on disk at each moment at which it may end."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.core.builders import E1, PUBLISHER, Impatient
from tests.unit.core.journal.disk import by_its_own_word
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.journal import Fsync, Work
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.journal.recovery import JournalError, Recovered, recover
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.streams.publishers import PublisherRecord
from pubsubd_broker.journal.folder import JournalFolder
from pubsubd_broker.journal.writer import JournalWriter
from pubsubd_protocol.positions import Position

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


def publish(node: Node, publisher: PublisherRecord, sequence: int) -> None:
    batch = batch_of([("t", b"")], sequence=sequence)
    node.stream.publish(batch, publisher, PUBLISHER, NOW, Impatient())


def left(path: Path) -> Recovered:
    folder = JournalFolder(str(path))
    recovered = recover("a", folder.read(), by_its_own_word)
    folder.close()
    assert recovered is not None
    return recovered


def test_a_broker_that_ends_during_a_write_also_writes_the_rest(tmp_path: Path) -> None:
    async def run() -> GatedFolder:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.INTERVAL, 10**9))
        folder, publisher = GatedFolder(str(tmp_path)), PublisherRecord(8)

        def changed() -> None:
            asyncio.get_running_loop().call_soon(writer.go_on, NOW)

        writer = JournalWriter(node, folder, lambda: NOW, changed)
        await writer.begin()
        folder.gate.clear()
        publish(node, publisher, 1)
        writer.go_on(NOW)
        publish(node, publisher, 2)
        node.registry.acknowledge("b", Position(E1, 1), {}, 0)
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
    assert recovered.state.consumers["b"].cursor == Position(E1, 1)
    assert folder.performed[-1].sync


def test_the_next_stop_finishes_one_that_was_cancelled(tmp_path: Path) -> None:
    async def run() -> None:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.SNAPSHOT))
        folder = GatedFolder(str(tmp_path))
        writer = JournalWriter(node, folder, lambda: NOW, lambda: None)
        await writer.begin()
        publish(node, PublisherRecord(8), 1)
        folder.gate.clear()
        first = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        folder.gate.set()
        await writer.close()

    asyncio.run(run())
    assert left(tmp_path).next == 1


def test_a_failed_flush_is_told_and_lets_go_of_the_folder(
    tmp_path: Path,
) -> None:
    class Wrong(GatedFolder):
        def perform(self, work: Work) -> float | None:
            if self.performed:
                raise ValueError("no disk has this error")
            return super().perform(work)

    async def run() -> Node:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.SNAPSHOT))
        writer = JournalWriter(node, Wrong(str(tmp_path)), lambda: NOW, lambda: None)
        await writer.begin()
        await writer.close()
        return node

    node = asyncio.run(run())
    assert node.failure is not None
    assert "no disk has this error" in node.failure
    JournalFolder(str(tmp_path)).close()


# Files that a user removes while the writer runs.

Lose = Callable[[Path], None]


def remove_folder(path: Path) -> None:
    shutil.rmtree(path)


def replace_folder(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.mkdir(0o700)


def newest_of(path: Path) -> Path:
    return max(path.glob("*.journal"))


def move_newest(path: Path) -> None:
    newest_of(path).rename(path.with_name("moved"))


def copy_newest(path: Path) -> None:
    """The bytes are the same; what is written from now on goes to another file."""
    newest, copy = newest_of(path), path / "copy"
    shutil.copy(newest, copy)
    copy.rename(newest)


def take_lock(path: Path) -> None:
    (path / "lock").unlink()
    taken.append(JournalFolder(str(path)))


taken: list[JournalFolder] = []


def remove_lock(path: Path) -> None:
    (path / "lock").unlink()


async def looked_after(
    path: Path, fsync: Fsync, lose: Lose
) -> tuple[Node, str | None, JournalWriter]:
    """A node under whose writer `lose` happens, what the look says, and the writer."""
    node = Node(Config("a"), E1, [], NOW, Kept(fsync))
    writer = JournalWriter(node, JournalFolder(str(path)), lambda: NOW, lambda: None)
    await writer.begin()
    assert await writer.look() is None
    publish(node, PublisherRecord(8), 1)
    lose(path)
    return node, await writer.look(), writer


@pytest.mark.parametrize(
    "lose", [remove_folder, replace_folder, move_newest, copy_newest, take_lock]
)
def test_a_lost_journal_has_failed_at_the_next_look(tmp_path: Path, lose: Lose) -> None:
    path = tmp_path / "j"

    async def run() -> Node:
        node, said, writer = await looked_after(path, Fsync.INTERVAL, lose)
        assert said is None, "it is the node's failure"
        await writer.close()
        return node

    node = asyncio.run(run())
    assert node.failure is not None
    assert str(path) in node.failure
    if lose is replace_folder:
        assert list(path.iterdir()) == [], "nothing is written to another folder"
    while taken:
        taken.pop().close()


def test_a_lock_that_is_removed_is_taken_again(tmp_path: Path) -> None:
    async def run() -> None:
        node, said, writer = await looked_after(tmp_path / "j", Fsync.INTERVAL, remove_lock)
        assert (said, node.failure) == (None, None)
        with pytest.raises(JournalError, match="in use by another broker"):
            JournalFolder(str(tmp_path / "j"))
        await writer.close()

    asyncio.run(run())
    assert left(tmp_path / "j").next == 1


def test_a_removed_older_segment_is_told_and_nothing_refused(tmp_path: Path) -> None:
    path, away = tmp_path / "j", tmp_path / "away"

    async def run() -> None:
        node = Node(Config("a"), E1, [], NOW, Kept(Fsync.ALWAYS, segment_bytes=1))
        writer = JournalWriter(node, JournalFolder(str(path)), lambda: NOW, lambda: None)
        await writer.begin()
        publisher = PublisherRecord(8)
        for sequence in range(1, 200):
            publish(node, publisher, sequence)
            writer.go_on(NOW)
            await writer.look()
        oldest, *_, newest = sorted(path.glob("*.journal"))
        assert oldest != newest
        oldest.rename(away)
        said = await writer.look()
        assert said is not None
        assert f"{path} lacks {oldest.name}" in said
        assert node.failure is None
        away.rename(oldest)
        assert await writer.look() is None
        await writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("lose", [remove_folder, replace_folder, remove_lock])
def test_a_folder_for_the_stop_is_made_anew_at_once(tmp_path: Path, lose: Lose) -> None:
    path = tmp_path / "j"

    async def run() -> None:
        node, said, writer = await looked_after(path, Fsync.SNAPSHOT, lose)
        assert (said, node.failure) == (None, None)
        with pytest.raises(JournalError, match="in use by another broker"):
            JournalFolder(str(path))
        await writer.close()

    asyncio.run(run())
    assert left(path).next == 1


def test_a_journal_in_the_place_of_a_snapshot_is_told_and_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j"

    def put_another(path: Path) -> None:
        replace_folder(path)
        (path / "0000000000000007.journal").write_bytes(b"of another history")

    async def run() -> Node:
        node, said, writer = await looked_after(path, Fsync.SNAPSHOT, put_another)
        assert said is not None
        for part in (str(path), "another folder with a journal", "move this one away"):
            assert part in said
        assert node.failure is None, "nothing is lost yet"
        await writer.close()
        return node

    node = asyncio.run(run())
    assert node.failure is not None
    assert {each.name: each.read_bytes() for each in path.glob("*.journal")} == {
        "0000000000000007.journal": b"of another history"
    }

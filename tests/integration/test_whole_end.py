"""A restarted broker says whether it has all that it had accepted. Real processes, real files."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    attached,
    cut,
    events_to,
    heal,
    in_thread,
    level,
    payloads_to,
    publish,
    subscribed,
    told,
)

import pubsubd
from pubsubd_broker.journal.life_record import IN_FOLDER, life_beside

ALL_MODES: Final = ["off", "interval", "always"]


def recovered(broker: Broker, event: str = "journal.recovered") -> tuple[Any, Any, Any]:
    line = broker.wait_log(event)
    return line["next"], line.get("end"), line["lost"]


async def published(broker: Broker, count: int) -> None:
    async with pubsubd.connect(broker.socket) as client:
        await publish(client, range(count))


async def with_twenty(start_broker: StartBroker, folder: Path, fsync: str = "always") -> Broker:
    """A broker with its journal in `folder / "journal"` that has accepted 20 messages."""
    broker = start_broker("a", journal=folder / "journal", fsync=fsync)
    await published(broker, 20)
    return broker


@pytest.mark.parametrize("fsync", ALL_MODES)
@async_test
async def test_a_killed_process_knows_what_it_has_lost(
    start_broker: StartBroker, tmp_path: Path, fsync: str
) -> None:
    broker = start_broker("a", journal=tmp_path / "journal", fsync=fsync)
    accepted = 0
    for _ in range(3):
        await published(broker, 200)
        await in_thread(broker.restart, signal.SIGKILL)
        following, end, lost = recovered(broker)
        accepted += 200
        assert lost == accepted - following
        assert end == ("short" if lost else "whole")
        assert fsync != "always" or not lost
        accepted = following


@pytest.mark.parametrize("fsync", [*ALL_MODES, "snapshot"])
@async_test
async def test_a_clean_stop_is_whole(start_broker: StartBroker, tmp_path: Path, fsync: str) -> None:
    broker = start_broker("a", journal=tmp_path / "journal", fsync=fsync)
    for life in range(1, 4):
        await published(broker, 20)
        await in_thread(broker.restart)
        assert recovered(broker) == (20 * life, "whole", 0)


@async_test
async def test_a_clean_stop_without_any_setting_is_whole(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    for life in range(1, 4):
        await published(broker, 20)
        await in_thread(broker.restart)
        assert recovered(broker) == (20 * life, "whole", 0)


@async_test
async def test_a_killed_start_forgets_no_proof(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = await with_twenty(start_broker, tmp_path)
    for _ in range(3):
        broker.kill()
        await in_thread(lambda: broker.start(wait=False).wait_log("journal.recovered"))
    broker.kill()
    await in_thread(broker.start)
    assert recovered(broker) == (20, "whole", 0)


@contextlib.contextmanager
def without_journal(broker: Broker) -> Iterator[None]:
    """Inside, the broker lives without the journal that it has before and behind. It is down at both ends."""
    broker.stop()
    journal = {name: broker.options.pop(name) for name in ("journal", "fsync")}
    broker.options["no_journal"] = True
    yield
    broker.stop()
    del broker.options["no_journal"]
    broker.options |= journal


def copy(folder: Path, kept: Path) -> None:
    shutil.copytree(folder, kept, copy_function=shutil.copy2)


async def copied_before_thirty_more(broker: Broker, folder: Path, kept: Path) -> None:
    """The folder is copied while the broker is down. The next life is whole, and accepts 30 messages."""
    broker.stop()
    copy(folder, kept)
    await in_thread(broker.start)
    assert recovered(broker) == (20, "whole", 0)
    await published(broker, 30)


def swap(folder: Path, kept: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, copy_function=shutil.copy2)


def overwrite(folder: Path, kept: Path) -> None:
    for path in folder.iterdir():
        if not (kept / path.name).exists():
            path.unlink()
    shutil.copytree(kept, folder, copy_function=shutil.copy2, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("put_back", "how", "beside_is_left"),
    [
        (swap, signal.SIGKILL, True),
        (overwrite, signal.SIGTERM, True),
        (swap, signal.SIGTERM, False),
        (overwrite, signal.SIGKILL, False),
    ],
)
@async_test
async def test_an_older_copy_is_short_by_its_next_lifes_messages(
    start_broker: StartBroker,
    tmp_path: Path,
    put_back: Callable[[Path, Path], None],
    how: signal.Signals,
    *,
    beside_is_left: bool,
) -> None:
    """The witness beside the socket proves that. Without the witness the copy proves nothing."""
    folder = tmp_path / "journal"
    broker = await with_twenty(start_broker, tmp_path)
    await copied_before_thirty_more(broker, folder, tmp_path / "kept")
    broker.kill() if how is signal.SIGKILL else broker.stop()
    if not beside_is_left:
        Path(life_beside(broker.socket)).unlink()
    put_back(folder, tmp_path / "kept")
    await in_thread(broker.start)
    assert recovered(broker) == ((20, "short", 30) if beside_is_left else (20, "unknown", None))
    line = broker.wait_log("journal.recovered")
    assert line["level"] == "warning"
    assert "counted 50 accepted" in line["because"] or "copied or put back" in line["because"]
    assert "state_lost" in line["consequence"]


@pytest.mark.parametrize("put_back", [swap, overwrite])
@async_test
async def test_a_used_snapshot_proves_nothing_when_put_back(
    start_broker: StartBroker, tmp_path: Path, put_back: Callable[[Path, Path], None]
) -> None:
    """The files beside the socket are gone, as after a machine's restart."""
    folder = tmp_path / "journal"
    broker = await with_twenty(start_broker, tmp_path, "snapshot")
    await copied_before_thirty_more(broker, folder, tmp_path / "kept")
    broker.kill()
    put_back(folder, tmp_path / "kept")
    Path(life_beside(broker.socket)).unlink()
    await in_thread(broker.start)
    assert recovered(broker) == (20, "unknown", None)


@async_test
async def test_an_equal_copy_of_a_folder_is_not_the_folder(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = await with_twenty(start_broker, tmp_path)
    broker.stop()
    copy(folder, tmp_path / "kept")
    swap(folder, tmp_path / "kept")
    Path(life_beside(broker.socket)).unlink()
    await in_thread(broker.start)
    assert recovered(broker) == (20, "unknown", None)


@async_test
async def test_an_older_copy_of_a_running_life_is_short(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = await with_twenty(start_broker, tmp_path)
    copy(folder, tmp_path / "kept")
    await published(broker, 30)
    broker.kill()
    swap(folder, tmp_path / "kept")
    await in_thread(broker.start)
    assert recovered(broker) == (20, "short", 30)


@async_test
async def test_a_folder_that_was_moved_proves_as_much(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await with_twenty(start_broker, tmp_path)
    broker.kill()
    (tmp_path / "journal").rename(tmp_path / "moved")
    Path(life_beside(broker.socket)).unlink()
    broker.options["journal"] = tmp_path / "moved"
    await in_thread(broker.start)
    assert recovered(broker) == (20, "whole", 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@async_test
async def test_a_life_without_the_journal_in_between_is_not_forgotten(
    start_broker: StartBroker, tmp_path: Path, how: signal.Signals
) -> None:
    broker = await with_twenty(start_broker, tmp_path)
    with without_journal(broker):
        await in_thread(broker.start)
        await published(broker, 5)
        # A further life that accepts no message takes its place.
        await in_thread(broker.restart, how)
    await in_thread(broker.start)
    assert recovered(broker) == (20, "unknown", None)
    # Its loss has been told: the next end is judged by itself.
    await in_thread(broker.restart, signal.SIGKILL)
    assert recovered(broker) == (20, "whole", 0)


@async_test
async def test_an_empty_life_in_between_is_not_a_loss(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await with_twenty(start_broker, tmp_path)
    with without_journal(broker):
        await in_thread(broker.start)
    await in_thread(broker.start)
    assert recovered(broker) == (20, "whole", 0)


@async_test
async def test_without_both_files_the_end_of_a_crash_is_unknown(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await with_twenty(start_broker, tmp_path, "interval")
    # While it runs it would make them anew.
    broker.kill()
    Path(life_beside(broker.socket)).unlink()
    (tmp_path / "journal" / IN_FOLDER).unlink()
    await in_thread(broker.start)
    assert recovered(broker)[1:] == ("unknown", None)


@async_test
async def test_peers_copies_are_whole_or_short_by_a_known_number(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, recover_from_peers=True)
    a = cluster["a"]
    await published(a, 100)
    await level(cluster, "b", "a")
    await in_thread(a.restart, signal.SIGKILL)
    assert recovered(a, "stream.recalled") == (100, None, 0)
    await attached(cluster, "b", "a")
    await cut(cluster, "b", "a")
    await published(a, 50)
    await in_thread(a.restart, signal.SIGKILL)
    assert recovered(a, "stream.recalled") == (100, None, 50)


@async_test
async def test_peers_copies_are_unknown_on_a_machine_without_memory(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, recover_from_peers=True)
    a = cluster["a"]
    await published(a, 100)
    await level(cluster, "b", "a")
    a.kill()
    Path(life_beside(a.socket)).unlink()
    await in_thread(a.start)
    assert recovered(a, "stream.recalled") == (100, None, None)


# The notices of readers.


@async_test
async def test_a_producer_that_died_alone_counts_its_lost_messages(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, recover_from_peers=True)
    a, b = cluster["a"], cluster["b"]
    async with subscribed(b) as reader:
        await published(a, 100)
        assert await payloads_to(reader, 99) == [*range(100)]
        await cut(cluster, "b", "a")
        await published(a, 50)
        await in_thread(a.restart, signal.SIGKILL)
        await heal(cluster, "b", "a")
        # Once, over restarts that lose nothing.
        await in_thread(a.restart, signal.SIGKILL)
        await attached(cluster, "b", "a")
        async with pubsubd.connect(a.socket) as client:
            assert (await client.publish("numbers", "new")).offset == 100
        assert told(await events_to(reader, "new")) == [("a", "state_lost", 50), "new"]


@pytest.mark.parametrize(("missing", "between"), [(None, True), (0, False)])
@async_test
async def test_readers_of_a_journal_are_told_of_lives_without_it(
    start_cluster: StartCluster, tmp_path: Path, missing: int | None, between: bool
) -> None:
    journal = {"journal": tmp_path / "journal", "fsync": "always"}
    cluster = start_cluster(2, per_node={"a": journal})
    a, b = cluster["a"], cluster["b"]
    async with subscribed(b) as reader:
        await published(a, 20)
        assert await payloads_to(reader, 19) == [*range(20)]
        position = reader.position
    await cut(cluster, "b", "a")
    with without_journal(a):
        await in_thread(a.start)
        if between:
            await published(a, 5)
    await in_thread(a.start)
    await heal(cluster, "b", "a")
    async with subscribed(b, position=position) as reader:
        async with pubsubd.connect(a.socket) as client:
            await client.publish("numbers", "new")
        notices = [] if missing == 0 else [("a", "state_lost", missing)]
        assert told(await events_to(reader, "new")) == [*notices, "new"]


@async_test
async def test_readers_of_an_older_copy_are_told_at_its_end(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = await with_twenty(start_broker, tmp_path)
    async with subscribed(broker, start="earliest") as reader:
        assert await payloads_to(reader, 19) == [*range(20)]
        position = reader.position
    await copied_before_thirty_more(broker, folder, tmp_path / "kept")
    broker.stop()
    swap(folder, tmp_path / "kept")
    await in_thread(broker.start)
    async with (
        subscribed(broker, position=position) as reader,
        subscribed(broker, start="earliest") as new,
        pubsubd.connect(broker.socket) as client,
    ):
        await client.publish("numbers", "new")
        gap = ("a", "state_lost", 30)
        assert told(await events_to(reader, "new")) == [gap, "new"]
        assert told(await events_to(new, "new")) == [*range(20), gap, "new"]

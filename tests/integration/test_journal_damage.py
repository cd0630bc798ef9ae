"""A damaged journal: how a broker repairs it, what it logs, and what readers are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.commands import ok
from tests.integration.steps import (
    StartBroker,
    events_to,
    in_thread,
    next_event,
    payloads_to,
    subscribed,
    told,
)
from tests.integration.waiting import wait_until

import pubsubd
from pubsubd_broker.core.journal.records import FIRST_BYTES, FORMAT, Kind, first_line, scan

COUNT = 150
SIZE = 1000
"""A payload size that gives three segments, of the smallest size."""
OPTIONS: dict[str, Any] = {"ring_bytes": "512KiB", "fsync": "always"}


def segments_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


def entries_in(segment: Path) -> int:
    return sum(kind == Kind.ENTRY for kind, _, _ in scan(segment.read_bytes()))


def payload_of(number: int) -> str:
    return f"{number} ".ljust(SIZE, ".")


def payloads(first: int, last: int) -> list[str]:
    return [payload_of(number) for number in range(first, last)]


async def publish_each(broker: Broker, first: int, last: int) -> str:
    """Each message is an entry of its own. Returns the epoch."""
    async with pubsubd.connect(broker.socket) as client:
        receipts = [await client.publish("x", payload_of(n)) for n in range(first, last)]
    assert [receipt.offset for receipt in receipts] == [*range(first, last)]
    return receipts[-1].epoch


async def killed_with_three_segments(broker: Broker) -> str:
    """Publish, and kill the broker. Returns the epoch of its journal."""
    epoch = await publish_each(broker, 0, COUNT)
    broker.kill()
    found = segments_of(Path(broker.options["journal"]))
    assert len(found) == 3
    assert sum(map(entries_in, found)) == COUNT
    assert all(map(entries_in, found))
    return epoch


def damage_logged(broker: Broker) -> list[tuple[int, int | None, int | None]]:
    """Segment, and lost offsets, of each damage that this broker has ever logged."""
    return [
        (line["segment"], line["lost_from"], line["lost_to"])
        for line in broker.logs
        if line["event"] == "journal.damaged"
    ]


def recovered(broker: Broker) -> tuple[int, int, int]:
    line = broker.wait_log("journal.recovered")
    return line["oldest"], line["next"], line["messages"]


def tear(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes()[:-5])


def zero_the_end(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes()[: -SIZE // 2] + bytes(SIZE // 2))


def zeros_behind(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes() + bytes(4096))


def flip_a_bit(segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 4
    segment.write_bytes(data)


@pytest.mark.parametrize(("damage", "lost"), [(tear, 1), (zero_the_end, 1), (zeros_behind, 0)])
@async_test
async def test_a_damaged_end_is_cut_off_and_its_readers_are_told(
    damage: Callable[[Path], None], lost: int, start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = start_broker("a", journal=folder, **OPTIONS)
    epoch = await killed_with_three_segments(broker)
    newest = segments_of(folder)[-1]
    damage(newest)
    await in_thread(broker.start)
    end = COUNT - lost
    assert recovered(broker) == (0, end, end)
    assert damage_logged(broker) == [(int(newest.stem), None, None)]
    async with (
        subscribed(broker, position={"a": [epoch, COUNT]}) as had_all,
        subscribed(broker, position={"a": [epoch, end]}) as had_what_is_left,
        subscribed(broker, start="earliest") as new,
    ):
        if lost:
            notice = await next_event(had_all)
            assert told([notice]) == [("a", "ahead", None)]
            assert isinstance(notice, pubsubd.CursorExpired)
            assert notice.next == end
        await publish_each(broker, end, end + 5)
        last = payload_of(end + 4)
        assert await payloads_to(had_all, last) == payloads(end, end + 5)
        # The process was killed, and the count of its accepted messages outlives it.
        rest = [*[("a", "state_lost", lost)] * bool(lost), *payloads(end, end + 5)]
        assert told(await events_to(had_what_is_left, last)) == rest
        assert told(await events_to(new, last)) == [*payloads(0, end), *rest]


@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink])
@pytest.mark.parametrize("which", [0, 1])
@async_test
async def test_entries_behind_a_damaged_segment_are_kept(
    which: int, damage: Callable[[Path], None], start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = start_broker("a", journal=folder, **OPTIONS)
    epoch = await killed_with_three_segments(broker)
    found = segments_of(folder)
    kept = sum(map(entries_in, found[: which + 1]))
    damage(found[which])
    await in_thread(broker.start)
    assert recovered(broker) == (kept, COUNT, COUNT - kept)
    lost = [(begin, end) for _, begin, end in damage_logged(broker) if end is not None]
    # Without the first segment the journal looks as after an eviction.
    assert lost == ([] if (which, damage) == (0, Path.unlink) else [(0, kept)])
    async with (
        subscribed(broker, position={"a": [epoch, kept - 1]}) as needs_one,
        subscribed(broker, position={"a": [epoch, kept]}) as needs_what_is_kept,
        subscribed(broker, start="earliest") as new,
    ):
        notice = await next_event(needs_one)
        assert told([notice]) == [("a", "overwritten", COUNT - kept + 1)]
        assert isinstance(notice, pubsubd.CursorExpired)
        assert notice.next == COUNT
        await publish_each(broker, COUNT, COUNT + 5)
        last = payload_of(COUNT + 4)
        assert await payloads_to(needs_one, last) == payloads(COUNT, COUNT + 5)
        assert await payloads_to(needs_what_is_kept, last) == payloads(kept, COUNT + 5)
        assert await payloads_to(new, last) == payloads(kept, COUNT + 5)
    # The repaired journal is without damage.
    seen = len(damage_logged(broker))
    broker.kill()
    await in_thread(broker.start)
    assert recovered(broker) == (kept, COUNT + 5, COUNT + 5 - kept)
    assert len(damage_logged(broker)) == seen


@pytest.mark.parametrize("fsync", ["snapshot", "always"])
@async_test
async def test_an_unreadable_journal_is_logged_and_all_readers_told(
    fsync: str, start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = start_broker("a", journal=folder, fsync=fsync)
    epoch = await publish_each(broker, 0, 10)
    assert await in_thread(broker.stop) == 0
    (segment,) = segments_of(folder)
    data = bytearray(segment.read_bytes())
    data[len(FIRST_BYTES) + 20] ^= 1
    segment.write_bytes(data)
    await in_thread(broker.start)
    assert damage_logged(broker) == [(int(segment.stem), None, None)]
    async with subscribed(broker, position={"a": [epoch, 5]}) as reader:
        assert told([await next_event(reader)]) == [("a", "state_lost", None)]


@async_test
async def test_an_unfinished_segment_is_removed_without_loss(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = start_broker("a", journal=folder, **OPTIONS)
    epoch = await killed_with_three_segments(broker)
    unfinished = folder / "0000000000000004.journal.unfinished"
    unfinished.write_bytes(FIRST_BYTES + b"and then the power failed")
    await in_thread(broker.start)
    assert not unfinished.exists()
    assert recovered(broker) == (0, COUNT, COUNT)
    assert not damage_logged(broker)
    async with subscribed(broker, position={"a": [epoch, 10]}) as reader:
        assert await payloads_to(reader, payload_of(COUNT - 1)) == payloads(10, COUNT)


# Refused journals.


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every file there, with its content and the time of its last writing."""
    files = [path] if path.is_file() else [*path.iterdir()]
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def refused(tmp_path: Path, node: str, **options: Any) -> str:
    """A broker that cannot start: it gives the reason in one line and leaves its journal as it is."""
    before = contents(Path(options["journal"]))
    broker = Broker(tmp_path, node, **options)
    try:
        broker.start(wait=False)
        wait_until(lambda: not broker.alive, what="the refusal")
        assert broker.exit_code == 2
    finally:
        broker.close()
    (line,) = [line["text"] for line in broker.logs if line["event"] is None]
    assert isinstance(line, str)
    assert line.startswith("pubsubd: ")
    assert contents(Path(options["journal"])) == before
    return line


@pytest.fixture
def journal(start_broker: StartBroker, tmp_path: Path) -> Path:
    """The snapshot of a node a that was stopped, and beside it a segment that was being made."""
    folder = tmp_path / "journal"
    broker = start_broker("a", journal=folder, fsync="snapshot")
    publish_one(broker)
    assert broker.stop() == 0
    (folder / "0000000000000002.journal.unfinished").write_bytes(b"")
    return folder


def publish_one(broker: Broker) -> None:
    ok("publish", "x", "1", "--socket", broker.socket)


def test_the_journal_of_another_node_is_refused_and_left_alone(
    journal: Path, tmp_path: Path
) -> None:
    line = refused(tmp_path, "b", journal=journal)
    assert "'a'" in line
    assert "'b'" in line


def test_a_journal_of_a_later_format_is_refused_and_left_alone(
    journal: Path, tmp_path: Path
) -> None:
    (segment,) = segments_of(journal)
    segment.write_bytes(first_line(FORMAT + 1) + segment.read_bytes()[len(FIRST_BYTES) :])
    line = refused(tmp_path, "a", journal=journal)
    assert f"format {FORMAT + 1}" in line


def test_a_journal_in_use_is_refused_and_its_broker_goes_on(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    broker = start_broker("a", journal=folder, fsync="always")
    publish_one(broker)
    assert "in use" in refused(tmp_path, "a", journal=folder)
    publish_one(broker)
    broker.restart()
    assert recovered(broker) == (0, 2, 2)


def test_a_file_in_the_folders_place_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.write_text("precious")
    assert str(file) in refused(tmp_path, "a", journal=file)
    assert file.read_text() == "precious"


def test_a_broker_whose_port_is_taken_keeps_its_snapshot(
    start_broker: StartBroker, journal: Path, tmp_path: Path
) -> None:
    other = start_broker("b")
    line = refused(tmp_path, "a", journal=journal, fsync="snapshot", listen=other.listen)
    assert f"--listen {other.listen}" in line
    assert recovered(start_broker("a", journal=journal, fsync="snapshot")) == (0, 1, 1)

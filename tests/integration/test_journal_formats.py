"""Journals of other formats: an older one is read and continued, a later one is never touched."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.commands import error_of
from tests.integration.steps import StartBroker, events_to, in_thread, next_event, subscribed

import pubsubd as sdk
from pubsubd_broker.core.journal.records import FORMAT, first_line, format_of

VECTORS: Final = Path(__file__).parent.parent / "vectors"
"""`journal_format_N`: a folder that node `a` of the last version with format N left.

Three lives with `--fsync always`, each stopped cleanly: 0 to 4, of which the subscription `projector` acknowledged 0
to 2; 5 to 9; no message.
"""

OF_AN_IDLE_LIFE: Final = {
    1: {"a": ["83513a0c7dbdeb6362659d1d991d907c", 10]},
    2: {"a": ["78b9430e235346abcb81620010fd6c0f", 10]},
}
"""The position of a reader of the third life that had everything, in the names of that version."""


def folder_of(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copytree(VECTORS / f"journal_format_{version}", tmp_path / "journal"))


def formats(folder: Path) -> list[int | None]:
    return [format_of(segment.read_bytes()) for segment in sorted(folder.glob("*.journal"))]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.journal*")}


async def told_to(subscription: sdk.Subscription, last: object) -> list[object]:
    """The payloads up to and with `last`, and the reason of each loss between them."""
    return [
        event.payload if isinstance(event, sdk.Message) else event.reason
        for event in await events_to(subscription, last)
    ]


@pytest.mark.parametrize("version", [1, 2])
@async_test
async def test_an_older_format_is_continued_and_unproven_ends_told(
    version: int, tmp_path: Path, start_broker: StartBroker
) -> None:
    older = folder_of(version, tmp_path)
    assert formats(older) == [version] * 3
    # Format 1 does not say that its last life ended whole: more may be lost there.
    gap = ["state_lost"] if version == 1 else []
    broker = await in_thread(lambda: start_broker("a", journal=older, fsync="always"))
    upgraded = broker.wait_log("journal.upgraded")
    assert (upgraded["from_format"], upgraded["to_format"]) == (version, FORMAT)
    assert upgraded["journal"] == str(older)
    async with sdk.connect(broker.socket) as client:
        async with (
            subscribed(broker, start="earliest") as everything,
            subscribed(broker, position=OF_AN_IDLE_LIFE[version]) as reader,
            subscribed(broker, name="projector") as projector,
        ):
            assert (await client.publish("numbers", 10)).offset == 10
            assert await told_to(everything, 10) == [*range(10), *gap, 10]
            assert await told_to(reader, 10) == [*gap, 10]
            assert await told_to(projector, 10) == [*range(3, 10), *gap, 10]
        # Entries read from the older format do not differ from those written in this one.
        broker.wait_log("journal.recovered", messages=10, sessions=1)
        await in_thread(broker.restart)
        async with subscribed(broker, start="earliest") as everything:
            await client.publish("numbers", 11)
            assert await told_to(everything, 11) == [*range(10), *gap, 10, 11]
    assert broker.logged("journal.damaged") == []
    assert FORMAT in formats(older)


def test_a_folder_with_a_later_format_is_refused(tmp_path: Path) -> None:
    older = folder_of(2, tmp_path)
    later = first_line(FORMAT + 1)
    (older / "0000000000000004.journal").write_bytes(later + b"an unknown format")
    before = bytes_of(older)
    line = error_of(
        *("start", "--node", "a", "--socket", str(tmp_path / "s"), "--journal", str(older)),
        *("--no-listen", "--no-http"),
        code=2,
    )
    for part in (str(older), f"format {FORMAT + 1}", f"reads 1 to {FORMAT}", "start the version"):
        assert part in line
    assert bytes_of(older) == before


@async_test
async def test_a_snapshot_of_a_later_format_is_set_aside(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "a")
    with contextlib.closing(broker.start()):
        async with sdk.connect(broker.socket) as client:
            await client.publish("x", "before")
        assert await in_thread(broker.stop) == 0
        folder = Path(f"{broker.socket}.state/a")
        (snapshot,) = folder.glob("*.journal")
        later = first_line(FORMAT + 1) + b"an unknown format"
        snapshot.write_bytes(later)
        await in_thread(broker.start)
        assert f"format {FORMAT + 1}" in broker.wait_log("snapshot.unusable")["reason"]
        (kept_as,) = broker.wait_log("snapshot.set_aside")["kept_as"]
        aside = Path(kept_as)
        assert aside.read_bytes() == later
        async with sdk.connect(broker.socket) as client, subscribed(broker) as reader:
            await client.publish("x", "after")
            assert (await next_event(reader)).offset == 0  # type: ignore[union-attr]
        # Two lives of this version later the folder is still there, unused.
        await in_thread(broker.restart)
        assert aside.read_bytes() == later

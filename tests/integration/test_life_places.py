"""The files that prove a whole end are damaged while the broker runs: it makes them anew, and the proof holds."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.steps import StartBroker, in_thread, payloads_to, subscribed
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd_broker.core.journal.whole_end import Found
from pubsubd_broker.journal.life_file import read_life
from pubsubd_broker.journal.life_record import IN_FOLDER, life_beside

Harm = Callable[[Path, Path], None]
"""Damages the first path, a file of this life. At the second path lies a copy of it, or of an earlier life's."""


def truncate(path: Path, _: Path) -> None:
    """`: > path`. Only root may."""
    os.truncate(path, 0)


def remove(path: Path, _: Path) -> None:
    path.unlink()


def replace(path: Path, copy: Path) -> None:
    shutil.copy2(copy, copy.with_name("again"))
    copy.with_name("again").rename(path)


def overwrite(path: Path, copy: Path) -> None:
    """`cp -a copy path`, into the same file. The file is not emptied before, as that may end the broker."""
    with open(path, "r+b") as file:
        file.write(copy.read_bytes())


def lengthen(path: Path, _: Path) -> None:
    os.truncate(path, 8192)


THIS, EARLIER = "this life", "an earlier life"
BESIDE, WITHIN = "beside", "in the journal"
HARMS: Final[list[tuple[Harm, str, str]]] = [
    *((harm, THIS, BESIDE) for harm in (truncate, remove, replace, overwrite, lengthen)),
    *((harm, EARLIER, BESIDE) for harm in (replace, overwrite)),
    *((harm, THIS, WITHIN) for harm in (remove, overwrite)),
]
"""The damage, the life of the copy, and its place."""


def place_of(broker: Broker, where: str) -> Path:
    if where == "beside":
        return Path(life_beside(broker.socket))
    return Path(broker.options["journal"]) / IN_FOLDER


def proof_at(path: Path) -> Found:
    found = read_life(None, str(path))
    assert found is not None
    return found


async def published(broker: Broker, first: int, count: int) -> None:
    async with pubsubd.connect(broker.socket) as client:
        for number in range(first, first + count):
            assert (await client.publish("t", number)).offset == number


@pytest.mark.parametrize(("harm", "copied", "where"), HARMS)
@async_test
async def test_a_damaged_proof_is_made_anew_without_an_alarm(
    start_broker: StartBroker, tmp_path: Path, where: str, harm: Harm, copied: str
) -> None:
    a = await in_thread(lambda: start_broker("a", journal=tmp_path / "j", fsync="always"))
    path, copy = place_of(a, where), tmp_path / "copy"
    shutil.copy2(path, copy)
    if copied == EARLIER:
        await in_thread(a.restart)
    await published(a, 0, 10)
    async with subscribed(a, start="earliest") as reader:
        assert await payloads_to(reader, 9) == [*range(10)]
        mark = a.mark()
        harm(path, copy)
        lost = await in_thread(
            lambda: a.wait_log("place.lost", what="life", path=str(path), since=mark)
        )
        assert lost["reason"].startswith(f"{path} ")
        assert "a new file was made" in lost["done"]
        assert a.ready()
        assert proof_at(path).bound
        await published(a, 10, 10)
        for each in ("beside", "in the journal"):
            found = proof_at(place_of(a, each))
            assert found.bound
            assert found.witness is not None
            assert found.witness.accepted == 20
        # The new file is proof enough.
        place_of(a, "beside" if where != "beside" else "in the journal").unlink()
        a.kill()
        await in_thread(a.start)
        assert a.wait_log("journal.recovered")["lost"] == 0
        await published(a, 20, 1)
        assert await payloads_to(reader, 20) == [*range(10, 21)]
    lines = [line for line in a.logs if line["event"] == "place.lost" and line["what"] == "life"]
    assert [line["path"] for line in lines].count(str(path)) == 1


@async_test
async def test_no_message_goes_uncounted_while_a_proof_is_made_anew(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = await in_thread(lambda: start_broker("a", journal=tmp_path / "j", fsync="off"))
    accepted = 0

    async def publish_on() -> None:
        nonlocal accepted
        async with pubsubd.connect(a.socket) as client:
            while True:
                accepted = (await client.publish("t", "x")).offset + 1

    publishing = asyncio.create_task(publish_on())
    await wait_until_async(lambda: accepted > 0)
    for _ in range(3):
        for where in ("beside", "in the journal"):
            mark = a.mark()
            place_of(a, where).unlink()
            while not place_of(a, where).exists():
                await asyncio.sleep(0)
            # Read before the receipts of that moment, with the broker still at work.
            told = accepted
            found = proof_at(place_of(a, where))
            assert found.bound
            assert found.witness is not None
            assert found.witness.accepted >= told
            await in_thread(lambda mark=mark: a.wait_log("place.lost", what="life", since=mark))
    a.kill()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    for where in ("beside", "in the journal"):
        witness = proof_at(place_of(a, where)).witness
        assert witness is not None
        assert witness.accepted >= accepted


def test_an_occupied_place_is_logged_once_and_taken_back(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = start_broker("a", journal=tmp_path / "j", fsync="always")
    path = place_of(a, "beside")
    mark = a.mark()
    path.unlink()
    path.mkdir()
    assert a.wait_log("life.unrecorded", path=str(path), since=mark)["reason"] == "Is a directory"
    asyncio.run(published(a, 0, 3))
    path.rmdir()
    a.wait_log("place.lost", what="life", path=str(path), since=mark)
    lines = a.logged("life.unrecorded")
    assert len(lines) == 1
    witness = proof_at(path).witness
    assert witness is not None
    assert witness.accepted == 3


TOLD: Final = "readers may be told state_lost, though no message is missing"
UNKNOWN_LATER: Final = (
    "a later life that goes on with an older journal does not know of this one: its readers get no notice of the "
    "messages that are accepted now"
)


@pytest.mark.parametrize(
    ("mode", "consequences"),
    [
        ("always", {"s.life": f"if the journal's folder is lost, or copied, {TOLD}"}),
        ("always", {"j/life": f"after the machine has gone down {TOLD}"}),
        ("always", {"s.life": f"after a crash {TOLD}", "j/life": f"after this life {TOLD}"}),
        ("snapshot", {"s.life": UNKNOWN_LATER}),
        ("no journal", {"s.life": UNKNOWN_LATER}),
    ],
)
def test_the_log_says_what_a_missing_proof_means(
    start_broker: StartBroker, mode: str, consequences: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="psd-") as temporary:
        folder = Path(temporary)
        journal: dict[str, Any] = {"journal": folder / "j", "fsync": mode}
        kept = {"no_journal": True} if mode == "no journal" else journal
        for name in consequences:
            (folder / name).mkdir(parents=True)
        for path in folder.rglob("*"):
            path.chmod(0o700)
        a = start_broker("a", socket=folder / "s", **kept)
        told = a.logged("life.unrecorded")
        assert {line["path"]: line["consequence"] for line in told} == {
            str(folder / name): consequence for name, consequence in consequences.items()
        }
        for line in told:
            assert (
                line["remedy"] == "remove the directory there: the broker tries again every second"
            )
        a.stop()


@async_test
async def test_a_life_without_journal_or_room_for_proof_is_remembered(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = await in_thread(lambda: start_broker("a", journal=tmp_path / "j", fsync="always"))
    await published(a, 0, 5)
    assert await in_thread(a.stop) == 0
    limited = ("sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *PUBSUBD)
    between = await in_thread(
        lambda: start_broker("a", socket=a.socket, no_journal=True, command=limited)
    )
    told = between.wait_log("life.unrecorded", path=life_beside(a.socket))
    assert told["reason"] == "File too large"
    assert told["consequence"] == f"in a later life that goes on with an older journal {TOLD}"
    assert told["remedy"].startswith("raise the limit on the size of files")
    await published(between, 0, 5)
    between.kill()
    await in_thread(a.start)
    assert a.wait_log("journal.recovered")["end"] == "unknown"

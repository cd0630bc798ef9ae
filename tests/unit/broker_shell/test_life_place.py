"""A lost witness's file is made anew. Its count is never older than the accepted messages; no other user can write it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest
from structlog.testing import capture_logs
from tests.other_users import OURS, acting_as, folder_for_all, needs_root
from tests.unit.core.builders import E1

from pubsubd_broker.core.journal.whole_end import Found
from pubsubd_broker.journal import life_file
from pubsubd_broker.journal.life_file import read_life, remove_life
from pubsubd_broker.journal.life_place import mend
from pubsubd_broker.journal.life_record import DiskRecord, life_beside
from pubsubd_broker.sockets.unix_socket import ClientSocket, bind_client_socket

T = TypeVar("T")

OF_NO_DISK: Final = 0x9123683E


@pytest.fixture(params=["mapped", "written"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "written":
        monkeypatch.setattr(life_file, "file_system_of", lambda file: OF_NO_DISK)
    return str(request.param)


@pytest.fixture
def shared() -> Iterator[Path]:
    with folder_for_all() as folder:
        yield folder


def begun(folder: Path) -> tuple[DiskRecord, Path]:
    record = DiskRecord(str(folder / "s"), "a")
    record.begin(E1, None, None)
    record.settle()
    return record, Path(life_beside(str(folder / "s")))


def accepted_at(path: Path) -> int:
    found = read_life(None, str(path))
    assert found is not None
    assert found.bound
    assert found.witness is not None
    return found.witness.accepted


def look(record: DiskRecord, between: Callable[[str], object] = lambda step: None) -> list[str]:
    """Looks once. Calls `between` before and after each step off the loop, and returns the names of these steps."""
    steps: list[str] = []

    async def run(step: Callable[[], T], /) -> T | None:
        steps.append(step.__name__)
        between(f"before {step.__name__}")
        outcome = step()
        between(f"after {step.__name__}")
        return outcome

    async def once() -> None:
        assert record.beside is not None
        await mend(record.beside, run)

    asyncio.run(once())
    return steps


@pytest.mark.usefixtures("kind")
def test_accepted_messages_are_counted_before_the_new_file_is_found(
    tmp_path: Path,
) -> None:
    record, path = begun(tmp_path)
    record.accepted(5)
    path.unlink()
    following = 5

    def publish(moment: str) -> None:
        nonlocal following
        if moment == "after put_in_place":
            assert accepted_at(path) == following
        following += 1
        record.accepted(following)

    with capture_logs() as logs:
        assert look(record, publish) == ["renewed", "put_in_place"]
        assert look(record, publish) == ["renewed"]
    assert accepted_at(path) == following == 11
    assert [line["event"] for line in logs] == ["place.lost"]
    assert logs[0]["reason"] == f"{path} was removed"
    assert os.listdir(tmp_path) == ["s.life"]


@pytest.mark.usefixtures("kind")
def test_a_count_that_was_put_back_is_noticed(tmp_path: Path) -> None:
    record, path = begun(tmp_path)
    record.accepted(5)
    older = path.read_bytes()
    record.accepted(9)
    assert look(record) == ["renewed"]
    with open(path, "r+b") as file:
        file.write(older)
    assert look(record) == ["renewed", "put_in_place"]
    assert accepted_at(path) == 9


def test_a_file_seen_as_truncated_is_not_stored_into() -> None:
    program = (
        "import os, tempfile\n"
        "from pathlib import Path\n"
        "from tests.unit.broker_shell.test_life_place import accepted_at, begun, look\n"
        "record, path = begun(Path(tempfile.mkdtemp()))\n"
        "os.truncate(path, 0)\n"
        "store = lambda moment: moment != 'before renewed' and record.accepted(7)\n"
        "assert look(record, store) == ['renewed', 'put_in_place']\n"
        "assert accepted_at(path) == 7\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_disk_that_gives_no_answer_does_not_cost_a_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    record, path = begun(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", broken)
        assert look(record) == ["renewed"]
    record.accepted(5)
    assert accepted_at(path) == 5


def test_a_failed_file_is_made_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(life_file, "file_system_of", lambda file: OF_NO_DISK)
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    with capture_logs() as logs:
        record, path = begun(tmp_path)
        record.accepted(3)
        look(record)
        look(record)
        assert path.read_bytes() == b""
        monkeypatch.setattr(os, "pwrite", write)
        look(record)
        assert accepted_at(path) == 3
        monkeypatch.setattr(os, "pwrite", full)
        record.accepted(4)
        monkeypatch.setattr(os, "pwrite", write)
        record.accepted(5)
        assert path.read_bytes() == b""
        look(record)
    assert accepted_at(path) == 5
    assert [line["event"] for line in logs] == ["life.unrecorded", "place.lost"] * 2
    assert os.listdir(tmp_path) == ["s.life"]


@needs_root
def test_the_file_is_read_only_and_a_new_life_replaces_it(
    shared: Path,
) -> None:
    os.chown(shared, OURS, OURS)
    with acting_as(OURS):
        record, path = begun(shared)
        record.accepted(5)
        for harm in (
            lambda: os.truncate(path, 0),
            lambda: shutil.copyfile(__file__, path),
            lambda: path.write_bytes(b""),
        ):
            with pytest.raises(PermissionError):
                harm()
        assert accepted_at(path) == 5
        later, _ = begun(shared)
        later.accepted(6)
        assert accepted_at(path) == 6


@needs_root
def test_a_file_that_cannot_be_removed_is_emptied_though_read_only(
    shared: Path,
) -> None:
    path = shared / "s.life"
    path.write_bytes(b"of an earlier life")
    path.chmod(0o400)
    os.chown(path, OURS, OURS)
    with acting_as(OURS):
        remove_life(None, str(path))
        assert read_life(None, str(path)) == Found(None, bound=False)
    assert path.read_bytes() == b""


def test_a_broker_that_lost_its_place_touches_nothing_there(tmp_path: Path) -> None:
    path = tmp_path / "s"
    ours = bind_client_socket(str(path))
    assert ours.while_held(lambda: "done") == "done"
    os.unlink(f"{path}.lock")
    assert ours.while_held(never) is None
    path.unlink()
    theirs: ClientSocket = bind_client_socket(str(path))
    assert ours.while_held(never) is None
    theirs.release()
    ours.release()
    assert ours.while_held(never) is None


def never() -> str:
    raise AssertionError("another broker has this place")

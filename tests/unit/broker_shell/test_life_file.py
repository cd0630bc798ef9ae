"""The witness's file: bound to itself, rewritten in place, and never an obstacle to a broker."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from structlog.testing import capture_logs
from tests.unit.core.builders import E1, E2, E3
from tests.unit.core.journal.witnesses import UNREADABLE, witness

from pubsubd_broker.core.journal.whole_end import (
    WITNESS_BYTES,
    Evidence,
    Found,
    RecoveredEnd,
    checked,
    lost_at,
)
from pubsubd_broker.files.safe_path import UnsafePath
from pubsubd_broker.journal import life_file, life_record
from pubsubd_broker.journal.folder import JournalFolder
from pubsubd_broker.journal.life_file import (
    LifeFile,
    boot_id,
    file_system_of,
    identity_of,
    read_life,
)
from pubsubd_broker.journal.life_record import DiskRecord, life_beside

WITNESS: Final = witness(E1, 0)

PLACES: Final = ["/tmp", "/dev/shm"]
"""An ext4 or overlay file system, and a tmpfs, on most machines."""


@pytest.fixture(params=PLACES)
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    if not os.access(request.param, os.W_OK):
        pytest.skip(f"{request.param} does not exist")
    path = Path(request.param) / f"pubsubd-life-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def written(path: Path, accepted: int = 0) -> LifeFile:
    file = LifeFile(None, str(path), WITNESS)
    file.put_in_place()
    store(file, accepted)
    return file


def store(file: LifeFile, accepted: int) -> None:
    if file.word is not None:
        file.word[0] = checked(accepted)
    else:
        file.write(checked(accepted))


def found(path: Path) -> Found:
    left = read_life(None, str(path))
    assert left is not None
    return left


def accepted_at(path: Path) -> int | None:
    left = found(path)
    return None if left.witness is None else left.witness.accepted


# The file.


def test_what_was_stored_is_found(folder: Path) -> None:
    file = written(folder / "life")
    for accepted in (1, 2, 10**15):
        store(file, accepted)
        assert accepted_at(folder / "life") == accepted
    assert found(folder / "life").bound
    assert (folder / "life").stat().st_mode & 0o777 == 0o400
    assert os.listdir(folder) == ["life"]


def test_what_was_stored_outlives_a_killed_process(folder: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from tests.unit.broker_shell.test_life_file import written\n"
        "from pathlib import Path\n"
        "file = written(Path(sys.argv[1]), 77)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder / "life")], check=False)
    assert accepted_at(folder / "life") == 77
    assert found(folder / "life").bound


def test_it_is_bound_wherever_it_is_moved_on_its_file_system(folder: Path) -> None:
    written(folder / "life")
    (folder / "below").mkdir()
    (folder / "life").rename(folder / "below" / "life")
    (folder / "below").rename(folder / "moved")
    assert found(folder / "moved" / "life").bound


COPIES: Final[dict[str, Callable[[Path, Path], object]]] = {
    "cp": lambda source, copy: subprocess.run(["cp", "-a", source, copy], check=True),
    "tar": lambda source, copy: subprocess.run(
        f"tar -C {source.parent} -cf - {source.name} | (mkdir {copy}.d; tar -C {copy}.d -xf -); mv {copy}.d/* {copy}",
        shell=True,
        check=True,
    ),
    "copy2": shutil.copy2,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_not_bound(folder: Path, how: str) -> None:
    written(folder / "life", 5)
    COPIES[how](folder / "life", folder / "copy")
    assert accepted_at(folder / "copy") == 5
    assert not found(folder / "copy").bound


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_that_is_put_back_is_not_bound_whatever_inode_it_gets(
    folder: Path, how: str
) -> None:
    for _ in range(20):
        written(folder / "life", 5)
        COPIES[how](folder / "life", folder / "copy")
        (folder / "life").unlink()
        COPIES[how](folder / "copy", folder / "life")
        assert not found(folder / "life").bound
        (folder / "copy").unlink()


def test_an_earlier_one_that_is_copied_over_a_later_one_is_not_bound(folder: Path) -> None:
    written(folder / "life", 5)
    shutil.copy(folder / "life", folder / "copy")
    written(folder / "life", 9)
    shutil.copy(folder / "copy", folder / "life")
    assert accepted_at(folder / "life") == 5
    assert not found(folder / "life").bound


def test_a_new_life_leaves_the_file_of_an_older_one_as_it_is(folder: Path) -> None:
    older = written(folder / "life", 5)
    os.link(folder / "life", folder / "older")
    written(folder / "life", 9)
    assert accepted_at(folder / "older") == 5
    store(older, 6)
    assert accepted_at(folder / "life") == 9


def test_a_store_into_a_file_that_was_removed_harms_nobody(folder: Path) -> None:
    file = written(folder / "life", 5)
    (folder / "life").unlink()
    store(file, 6)
    assert read_life(None, str(folder / "life")) is None


def test_leftovers_of_an_interrupted_start_do_no_harm(folder: Path) -> None:
    (folder / "life.unfinished").write_bytes(b"x")
    written(folder / "life", 5)
    assert os.listdir(folder) == ["life"]


def test_this_machine_tells_birth_times_and_kinds_of_file_systems(folder: Path) -> None:
    with open(folder / "file", "wb") as file:
        assert file_system_of(file.fileno()) > 0
        identity = identity_of(file.fileno())
    assert identity.inode == (folder / "file").stat().st_ino
    if sys.platform.startswith("linux") and tuple(map(int, os.uname().release.split(".")[:2])) > (
        6,
        0,
    ):
        assert identity.born_ns > 10**18


def test_without_a_birth_time_the_inode_binds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life_file, "_libc", object)
    written(folder / "life", 5)
    assert found(folder / "life").bound
    shutil.copy(folder / "life", folder / "copy")
    assert not found(folder / "copy").bound


# File systems on which a store into a mapping may end the process, or that cannot be mapped.


def no_mapping(*arguments: object) -> None:
    raise OSError(19, "No such device")


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (life_file, "file_system_of", lambda file: 0x9123683E),
        (mmap, "mmap", no_mapping),
    ],
    ids=["blocks are not rewritten in place", "nothing can be mapped"],
)
def test_the_count_is_written_where_a_mapping_cannot_serve(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, instead: object
) -> None:
    monkeypatch.setattr(module, name, instead)
    file = written(folder / "life", 5)
    assert file.word is None
    assert accepted_at(folder / "life") == 5


def test_a_count_that_cannot_be_written_says_nothing_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life_file, "file_system_of", lambda file: 0)
    file = written(folder / "life", 5)
    monkeypatch.setattr(os, "pwrite", lambda *arguments: 0)
    with pytest.raises(OSError, match="No space left"):
        file.write(checked(6))
    assert found(folder / "life") == UNREADABLE


@pytest.mark.parametrize("size", [0, 1, WITNESS_BYTES, WITNESS_BYTES + 1])
def test_bytes_that_are_not_a_witness_are_unreadable(folder: Path, size: int) -> None:
    (folder / "life").write_bytes(b"x" * size)
    assert found(folder / "life") == UNREADABLE


def test_a_link_or_a_pipe_in_its_place_is_never_opened(folder: Path) -> None:
    (folder / "life").symlink_to("elsewhere")
    with pytest.raises(UnsafePath, match="symbolic link"):
        read_life(None, str(folder / "life"))
    (folder / "life").unlink()
    os.mkfifo(folder / "life")
    with pytest.raises(UnsafePath, match="not a file"):
        read_life(None, str(folder / "life"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not_believed(folder: Path) -> None:
    written(folder / "life", 5)
    os.chown(folder / "life", 12345, -1)
    with pytest.raises(UnsafePath, match="belongs to another user"):
        read_life(None, str(folder / "life"))


def test_a_boot_has_a_name_or_none() -> None:
    assert len(boot_id()) in {0, 16}
    assert boot_id() == boot_id()


# The record: both files of a broker.

END: Final = RecoveredEnd("a", E1, (), 100, promised=False, format=3)


def record(folder: Path, *, journal: bool = True) -> tuple[DiskRecord, JournalFolder | None]:
    made = DiskRecord(str(folder / "sock"), "a")
    opened = JournalFolder(str(folder / "journal")) if journal else None
    if opened is not None:
        made.look_into(opened, at_once=True)
    return made, opened


def evidence(folder: Path) -> Evidence:
    made, opened = record(folder)
    if opened is not None:
        opened.close()
    return made.evidence


def live(
    folder: Path, accepted: int, *, journal: bool = True, end: RecoveredEnd | None = None
) -> None:
    made, opened = record(folder, journal=journal)
    made.begin(E1 if journal else E2, end, None if end is None else 0)
    made.accepted(accepted)
    if opened is not None:
        opened.close()


def test_both_files_say_how_far_was_accepted(folder: Path) -> None:
    live(folder, 107)
    left = evidence(folder)
    assert left.folder is not None
    assert left.folder == Found(left.folder.witness, bound=True)
    assert left.beside is not None
    assert left.beside.bound
    for each in (left.folder.witness, left.beside.witness):
        assert each is not None
        assert each.accepted == 107
    assert lost_at(END, left) == 7


def test_one_that_is_missing_is_made_up_for_by_the_other(folder: Path) -> None:
    live(folder, 107)
    (folder / "journal" / "life").unlink()
    assert lost_at(END, evidence(folder)) == 7
    live(folder, 107)
    Path(life_beside(str(folder / "sock"))).unlink()
    assert lost_at(END, evidence(folder)) == 7


def test_a_life_without_the_journal_is_known_of(folder: Path) -> None:
    live(folder, 100)
    live(folder, 1, journal=False)
    assert lost_at(END, evidence(folder)) is None


def test_one_that_accepted_nothing_changes_nothing(folder: Path) -> None:
    live(folder, 100)
    made, _ = record(folder, journal=False)
    made.begin(E2, None, None)
    assert lost_at(END, evidence(folder)) == 0


def test_a_socket_folder_in_memory_has_the_count_without_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {tmp_path / "journal": 0xEF53}

    def kind_of(file: int) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        return kinds.get(path, kinds.get(path.parent, 0x01021994))

    monkeypatch.setattr(life_file, "file_system_of", kind_of)
    monkeypatch.setattr(life_record, "file_system_of", kind_of)
    live(tmp_path, 107)
    left = evidence(tmp_path)
    assert left.folder is not None
    assert left.folder.witness is not None
    assert not left.folder.witness.counting
    assert left.folder.witness.accepted == 0
    assert lost_at(END, left) == 7
    Path(life_beside(str(tmp_path / "sock"))).unlink()
    assert lost_at(END, evidence(tmp_path)) is None
    clean = RecoveredEnd("a", E1, (), 100, promised=True, format=3)
    assert lost_at(clean, evidence(tmp_path)) == 0


def test_a_snapshots_witness_comes_with_it(folder: Path) -> None:
    made = DiskRecord(str(folder / "sock"), "a")
    opened = JournalFolder(str(folder / "journal"))
    made.look_into(opened, at_once=False)
    made.begin(E1, None, None)
    made.accepted(100)
    assert evidence_in(opened) is None
    made.leave(opened, 100)
    left = evidence_in(opened)
    assert left is not None
    assert left.bound
    assert left.witness is not None
    assert left.witness.accepted == 100
    after = DiskRecord(str(folder / "sock"), "a")
    after.look_into(opened, at_once=False)
    after.begin(E2, None, None)
    # A start that fails now leaves the snapshot, and so the proof of it.
    assert evidence_in(opened) == left
    after.settle()
    assert evidence_in(opened) is None
    opened.close()


def evidence_in(opened: JournalFolder) -> Found | None:
    return read_life(opened.descriptor, life_record.IN_FOLDER)


def test_a_failure_to_make_the_file_is_logged_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(folder, 100)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    made, opened = record(folder)
    monkeypatch.setattr(os, "pwrite", full)
    with capture_logs() as logs:
        made.begin(E3, END, 0)
        # A start that fails now leaves the proof as it was.
        assert (folder / "journal" / "life").exists()
        made.settle()
        made.accepted(200)
        made.accepted(300)
    monkeypatch.undo()
    told = [(line["event"], Path(line["path"]).name) for line in logs]
    assert told == [("life.unrecorded", "sock.life"), ("life.unrecorded", "life")]
    assert all("No space left" in line["reason"] for line in logs)
    assert opened is not None
    opened.close()
    left = evidence(folder)
    assert (left.folder, left.beside) == (None, None)


def test_without_a_boot_id_it_is_told_once_and_a_crash_is_unknown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life_record, "boot_id", lambda: b"")
    with capture_logs() as logs:
        live(folder, 100)
    assert [line["event"] for line in logs] == ["life.no_boot_id"]
    assert "hides /proc/sys" in logs[0]["remedy"]
    assert lost_at(END, evidence(folder)) is None
    clean = RecoveredEnd("a", E1, (), 100, promised=True, format=3)
    assert lost_at(clean, evidence(folder)) == 0


def test_a_damaged_file_is_told_and_proves_nothing(folder: Path) -> None:
    live(folder, 100)
    data = bytearray((folder / "journal" / "life").read_bytes())
    data[40] ^= 1
    (folder / "journal" / "life").write_bytes(data)
    with capture_logs() as logs:
        left = evidence(folder)
    assert [line["event"] for line in logs] == ["life.unreadable"]
    assert lost_at(END, left) is None


def test_another_users_file_beside_the_socket_is_told_and_ignored(folder: Path) -> None:
    live(folder, 100)
    beside = Path(life_beside(str(folder / "sock")))
    beside.unlink()
    beside.symlink_to("/etc/passwd")
    with capture_logs() as logs:
        left = evidence(folder)
    assert [line["event"] for line in logs] == ["life.foreign"]
    assert lost_at(END, left) == 0


def test_a_publish_costs_no_system_call_if_the_file_is_mapped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life_file, "file_system_of", lambda file: 0x58465342)
    made, opened = record(folder)
    made.begin(E1, None, None)
    monkeypatch.setattr(os, "pwrite", None)
    made.accepted(5)
    assert opened is not None
    opened.close()
    left = evidence(folder)
    assert left.folder is not None
    assert left.folder.witness is not None
    assert left.folder.witness.accepted == 5

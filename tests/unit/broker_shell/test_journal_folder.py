"""A journal's folder is closed to other users, does its steps on disk, and reports them done only when durable."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from tests.other_users import OURS, STRANGER, acting_as, folder_for_all, needs_root

from pubsubd_broker.core.journal.journal import Create, Remove, Work
from pubsubd_broker.core.journal.recovery import JournalError
from pubsubd_broker.journal.folder import JournalFolder


@pytest.mark.parametrize("sync", [True, False])
def test_a_removed_segment_is_gone_for_good_if_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    folder = JournalFolder(str(tmp_path))
    folder.perform(Work(True, [Create(1, [b"a snapshot"])]))
    folder.close()
    again = JournalFolder(str(tmp_path))
    synced: list[tuple[str, list[str]]] = []

    def fsync(file: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{file}"), sorted(os.listdir(tmp_path))))

    monkeypatch.setattr(os, "fsync", fsync)
    again.perform(Work(sync, [Remove(1)]))
    # The folder, as it is without the segment: else it may be back after a power loss.
    assert synced == ([(str(tmp_path), ["lock"])] if sync else [])
    again.close()


def test_what_is_missing_of_its_path_is_made_for_us_alone(tmp_path: Path) -> None:
    JournalFolder(str(tmp_path / "new" / "journal")).close()
    for made in ("new", "new/journal"):
        assert stat.S_IMODE((tmp_path / made).stat().st_mode) == 0o700


def test_a_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "journal").symlink_to("disk")
    JournalFolder(str(tmp_path / "journal")).close()
    assert (tmp_path / "disk" / "lock").exists()


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o1777])
def test_a_folder_that_others_write_to_is_refused_be_it_a_sticky_one(
    tmp_path: Path, mode: int
) -> None:
    place = tmp_path / "journal"
    place.mkdir()
    place.chmod(mode)
    problem = (
        f"the journal {place} cannot be used: {place} (mode {mode:04o}) can be written to by others"
    )
    advice = (
        "choose one below it" if mode & stat.S_ISVTX else "choose another folder, or chmod o-w it"
    )
    with pytest.raises(JournalError, match=re.escape(f"{problem}: {advice}")):
        JournalFolder(str(place))
    assert list(place.iterdir()) == []
    # Below a sticky folder it is safe: other users cannot touch our files there.
    if mode == 0o1777:
        JournalFolder(str(place / "a")).close()


@needs_root
def test_a_folder_that_is_neither_ours_nor_roots_is_refused() -> None:
    with folder_for_all() as folder:
        place = folder / "journal"
        place.mkdir(0o755)
        os.chown(place, STRANGER, STRANGER)
        for uid in (0, OURS):
            problem = rf"{place} belongs to another user .uid {STRANGER}, we are {uid}"
            with acting_as(uid), pytest.raises(JournalError, match=problem):
                JournalFolder(str(place))
        assert list(place.iterdir()) == []


@needs_root
def test_a_folder_of_root_shared_through_our_group_can_be_used() -> None:
    with folder_for_all() as folder:
        place = folder / "journal"
        place.mkdir()
        os.chown(place, 0, STRANGER)
        place.chmod(0o2775)
        with acting_as(OURS, groups=[STRANGER]):
            JournalFolder(str(place)).close()
        with acting_as(OURS), pytest.raises(JournalError, match=f"by its group .gid {STRANGER}"):
            JournalFolder(str(place))

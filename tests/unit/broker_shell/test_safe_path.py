"""Users that could swap the file at a path: real folders of real users, checked as root and as another user."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.other_users import OURS, STRANGER, acting_as, folder_for_all, needs_root

from pubsubd_broker.files.safe_path import MAX_LINKS, Trust, UnsafePath, prepare_folder


@pytest.fixture
def top() -> Iterator[Path]:
    with folder_for_all() as path:
        yield path


def prepare(path: Path | str, mode: int = 0o700, groups: tuple[int, ...] = ()) -> None:
    prepare_folder(str(path), mode, Trust.of_this_process(groups))


def made(path: Path, mode: int = 0o755, uid: int = -1, gid: int = -1) -> Path:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_missing_is_made_all_of_it_with_the_mode(top: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        prepare(top / "a/b/c", 0o711)
    finally:
        os.umask(before)
    assert [permissions(top / each) for each in ("a", "a/b", "a/b/c")] == [0o711] * 3
    prepare(top / "a/b/c", 0o700)
    assert permissions(top / "a/b/c") == 0o711, "what is there is left as it is"


def test_the_group_that_a_folder_hands_down_is_kept(top: Path) -> None:
    prepare(made(top / "shared", 0o2750) / "new")
    assert permissions(top / "shared/new") == 0o2700


@pytest.mark.parametrize("name", ["", ".", "a", "./a//b/", "../{top}/a", "a/../b"])
def test_a_relative_path_is_one_from_here(
    top: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(top)
    (top / "a").mkdir()
    name = name.format(top=top.name)
    prepare(name)
    assert (top / name).is_dir()


def test_an_absolute_path_can_be_had_from_a_folder_that_is_gone(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "gone").mkdir()
    monkeypatch.chdir(top / "gone")
    (top / "gone").rmdir()
    prepare(top / "new")
    with pytest.raises(FileNotFoundError):
        prepare("new")


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o2777])
@pytest.mark.parametrize("below", ["", "/deeper", "/deeper/and/deeper"])
def test_a_folder_on_the_way_that_others_write_to_is_refused(
    top: Path, mode: int, below: str
) -> None:
    open_folder = made(top / "open", mode)
    with pytest.raises(
        UnsafePath, match=rf"\(mode {mode:04o}\) can be written to by others"
    ) as caught:
        prepare(f"{open_folder}{below}")
    assert caught.value.component == str(open_folder)
    assert "chmod o-w" in str(caught.value)
    assert list(open_folder.iterdir()) == []


def test_a_sticky_one_is_safe_as_nobody_can_move_there_what_is_ours(top: Path) -> None:
    prepare(made(top / "open", 0o1777) / "new")
    assert permissions(top / "open/new") == 0o700
    prepare(top / "open")


@needs_root
def test_in_a_sticky_one_what_a_stranger_made_first_is_refused(top: Path) -> None:
    place = made(top / "open", 0o1777)
    made(place / "pubsubd-0", 0o700, STRANGER)
    with pytest.raises(UnsafePath, match=rf"belongs to another user \(uid {STRANGER}, we are 0\)"):
        prepare(place / "pubsubd-0")
    with pytest.raises(UnsafePath, match="belongs to another user"):
        prepare(place / "pubsubd-0/deeper")
    (place / "link").symlink_to(made(top / "ours"))
    os.lchown(place / "link", STRANGER, STRANGER)
    with pytest.raises(UnsafePath, match="belongs to another user") as caught:
        prepare(place / "link/new")
    assert caught.value.component == str(place / "link")
    assert list((top / "ours").iterdir()) == []


@needs_root
def test_our_own_and_roots_files_are_safe_and_other_users_are_not(top: Path) -> None:
    mine, theirs = made(top / "mine", uid=OURS), made(top / "theirs", uid=STRANGER)
    made(theirs / "mine", uid=OURS)
    with acting_as(OURS):
        prepare(top)
        prepare(mine / "new")
        with pytest.raises(UnsafePath, match=f"uid {STRANGER}, we are {OURS}"):
            prepare(theirs)
        with pytest.raises(UnsafePath) as caught:
            prepare(theirs / "mine")
    assert caught.value.component == str(theirs), "its owner can move what is in it"
    assert (mine / "new").stat().st_uid == OURS
    with pytest.raises(UnsafePath, match=f"uid {OURS}, we are 0"):
        prepare(mine)


@needs_root
@pytest.mark.parametrize("mode", [0o770, 0o2775])
def test_a_group_writable_folder_is_safe_for_a_trusted_group(top: Path, mode: int) -> None:
    place = made(top / "shared", mode, OURS, STRANGER)
    with acting_as(OURS):
        with pytest.raises(
            UnsafePath, match=rf"can be written to by its group \(gid {STRANGER}\): .* chmod g-w"
        ):
            prepare(place)
        prepare(place, groups=(STRANGER,))
        place.chmod(mode | stat.S_ISVTX)
        prepare(place)
    # A group of one, as most systems give to each user; its usual mask makes folders like this.
    place.chmod(mode)
    for group in (OURS, 0):
        os.chown(place, OURS, group)
        with acting_as(OURS):
            prepare(place)


@needs_root
def test_to_be_in_a_group_is_not_to_trust_it(top: Path) -> None:
    place = made(top / "shared", 0o770, 0, STRANGER)
    with acting_as(OURS, groups=[STRANGER]), pytest.raises(UnsafePath, match="its group"):
        prepare(place)


@needs_root
def test_the_root_of_all_folders_is_looked_at_as_well(top: Path) -> None:
    (top / "a").mkdir()
    top.chmod(0o777)
    real = os.open("/", os.O_RDONLY)
    back = os.open(".", os.O_RDONLY)
    try:
        os.chroot(top)
        try:
            with pytest.raises(UnsafePath) as caught:
                prepare("/a")
        finally:
            os.fchdir(real)
            os.chroot(".")
            os.fchdir(back)
    finally:
        os.close(real)
        os.close(back)
    assert caught.value.component == "/"


def test_links_are_followed_and_where_they_lead_is_looked_at(top: Path) -> None:
    (top / "real").mkdir()
    (top / "relative").symlink_to("real")
    (top / "absolute").symlink_to(top / "real")
    (top / "around").symlink_to("real/../relative/./../absolute")
    for number, link in enumerate(("relative", "absolute", "around")):
        prepare(top / link / f"{number}")
    assert sorted(each.name for each in (top / "real").iterdir()) == ["0", "1", "2"]
    made(top / "open", 0o777)
    (top / "innocent").symlink_to("open")
    with pytest.raises(UnsafePath) as caught:
        prepare(top / "innocent/new")
    assert caught.value.component == str(top / "open")


def test_a_link_on_the_way_of_a_link_counts_too(top: Path) -> None:
    made(top / "open", 0o777)
    (top / "open/there").symlink_to(made(top / "ours"))
    (top / "innocent").symlink_to("open/there")
    with pytest.raises(UnsafePath) as caught:
        prepare(top / "innocent")
    assert caught.value.component == str(top / "open")


def test_links_that_go_in_a_circle_end(top: Path) -> None:
    (top / "here").symlink_to("there")
    (top / "there").symlink_to("here")
    with pytest.raises(OSError, match="symbolic links"):
        prepare(top / "here")


def test_as_many_links_are_followed_as_the_system_follows(top: Path) -> None:
    (top / "0").mkdir()
    for number in range(MAX_LINKS + 1):
        (top / f"{number + 1}").symlink_to(f"{number}")
    prepare(top / f"{MAX_LINKS}")
    assert (top / f"{MAX_LINKS}").is_dir()
    with pytest.raises(OSError, match="symbolic links"):
        prepare(top / f"{MAX_LINKS + 1}")
    with pytest.raises(OSError, match="symbolic links"):
        os.listdir(top / f"{MAX_LINKS + 1}")


def test_a_path_that_is_not_a_folder_is_told(top: Path) -> None:
    (top / "file").write_text("")
    for path in ("file", "file/deeper"):
        with pytest.raises(NotADirectoryError, match=r"Not a directory.*file"):
            prepare(top / path)


def test_two_brokers_that_make_a_folder_at_once_both_have_it(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = os.mkdir

    def after_another(path: str, mode: int) -> None:
        ours(path, 0o750)
        ours(path, mode)

    monkeypatch.setattr(os, "mkdir", after_another)
    prepare(top / "new")
    assert permissions(top / "new") == 0o750

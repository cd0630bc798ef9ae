"""Unsafe folders for the socket or the journal: the broker refuses in one line, with exit code 2, and touches no
file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.commands import error_of, ok
from tests.integration.steps import StartBroker
from tests.other_users import STRANGER, folder_for_all, needs_root

ALONE = ("--no-listen", "--no-http", "--node", "a")


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_all() as path:
        yield path


def refused(path: Path, kind: str, folder: Path) -> str:
    """The line of a broker whose socket, or journal, must be in `path`, a folder somewhere below `folder`."""
    if kind == "socket":
        return error_of("start", *ALONE, "--socket", str(path / "s"), code=2)
    socket = str(folder / "s")
    line = error_of("start", *ALONE, "--socket", socket, "--journal", str(path), code=2)
    assert not os.path.exists(socket)
    return line


@pytest.mark.parametrize("kind", ["socket", "journal"])
def test_a_folder_that_others_write_to_is_refused(folder: Path, kind: str) -> None:
    place = folder / "open"
    place.mkdir()
    place.chmod(0o777)
    for path in (place, place / "new"):
        line = refused(path, kind, folder)
        assert f"{place} (mode 0777) can be written to by others" in line
        assert "choose another folder, or chmod o-w it" in line
    assert list(place.iterdir()) == []


@needs_root
@pytest.mark.parametrize("kind", ["socket", "journal"])
def test_a_folder_that_a_stranger_has_made_is_refused(folder: Path, kind: str) -> None:
    folder.chmod(0o1777)
    place = folder / "pubsubd-0"
    place.mkdir(0o755)
    os.chown(place, STRANGER, STRANGER)
    line = refused(place, kind, folder)
    assert f"{place} belongs to another user (uid {STRANGER}, we are 0)" in line
    assert list(place.iterdir()) == []


@needs_root
@pytest.mark.parametrize("kind", ["socket", "journal"])
def test_a_link_that_a_stranger_has_made_is_refused(folder: Path, kind: str) -> None:
    folder.chmod(0o1777)
    (folder / "real").mkdir()
    place = folder / "pubsubd-0"
    place.symlink_to("real")
    os.lchown(place, STRANGER, STRANGER)
    line = refused(place, kind, folder)
    assert str(place) in line
    assert "symbolic link" in line or f"another user (uid {STRANGER}" in line
    assert list((folder / "real").iterdir()) == []


def test_a_sticky_folder_is_accepted_for_a_socket(folder: Path, start_broker: StartBroker) -> None:
    folder.chmod(0o1777)
    a = start_broker("a", socket=str(folder / "pubsubd-a.sock"))
    ok("publish", "t", "x", "--socket", a.socket)


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """A folder in which this user cannot create a file."""
    place = folder / "read-only"
    place.mkdir()
    if os.geteuid() != 0:
        place.chmod(0o500)
        yield place
        place.chmod(0o700)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,mode=0700", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs to be allowed to mount a tmpfs: nothing else is read-only for root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("kind", ["socket", "journal"])
@pytest.mark.parametrize("below", ["", "new"])
def test_a_read_only_folder_is_refused(
    folder: Path, read_only: Path, kind: str, below: str
) -> None:
    line = refused(read_only / below, kind, folder)
    assert str(read_only / below) in line
    assert "Read-only file system" in line or "Permission denied" in line
    assert "choose a" in line

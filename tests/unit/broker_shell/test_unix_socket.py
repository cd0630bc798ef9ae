"""Trap 45: a socket file left by a dead broker, by a live one, a symbolic link, a path over 107 bytes."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from structlog.testing import capture_logs
from tests.other_users import OURS, STRANGER, acting_as, folder_for_all, needs_root

from pubsubd_broker.sockets.unix_socket import ClientSocket, SocketError, bind_client_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_all() as path:
        yield path


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def leave_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_the_folder_and_the_socket_are_for_the_owner_only(folder: Path) -> None:
    path = folder / "new" / "pubsubd.sock"
    bound = bind_client_socket(str(path))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not bound.socket.getblocking()
    connect(path)
    bound.release()
    assert not path.exists()
    bound.release()


@pytest.mark.parametrize(
    ("mode", "folder_mode"),
    [(0o600, 0o700), (0o644, 0o700), (0o660, 0o710), (0o606, 0o701), (0o666, 0o711)],
)
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_socket_and_new_folders_are_for_those_whom_the_mode_lets_in(
    folder: Path, mode: int, folder_mode: int, umask: int
) -> None:
    path = folder / "made" / "too" / "s"
    before = os.umask(umask)
    try:
        bound = bind_client_socket(str(path), mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    for made in (path.parent, path.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == folder_mode
    bound.release()


def test_it_has_its_mode_from_the_first_moment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    ours = os.chmod

    def chmod(path: str, mode: int) -> None:
        seen.append(stat.S_IMODE(os.stat(path).st_mode))
        ours(path, mode)

    monkeypatch.setattr(os, "chmod", chmod)
    for mode in (0o600, 0o660, 0o666):
        bind_client_socket(str(folder / "s"), mode).release()
    assert seen == [0o600, 0o660, 0o666]


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o200, 0o066, 0o700, 0o777, 0o1600, 0o4600])
def test_a_mode_without_its_owner_or_with_execution_is_refused(folder: Path, mode: int) -> None:
    with pytest.raises(SocketError, match=f"mode {mode:04o} is invalid"):
        bind_client_socket(str(folder / "s"), mode)
    assert list(folder.iterdir()) == []


def test_a_folder_that_others_write_to_is_refused(folder: Path) -> None:
    folder.chmod(0o777)
    for path in (folder / "s", folder / "new" / "s"):
        with pytest.raises(SocketError, match=r"\(mode 0777\) can be written to by others"):
            bind_client_socket(str(path), 0o666)
    assert list(folder.iterdir()) == []


def test_a_sticky_folder_for_everybody_is_as_good_as_one_of_our_own(folder: Path) -> None:
    folder.chmod(0o1777)
    for _ in range(2):  # The second finds the lock of the first.
        bind_client_socket(str(folder / "s")).release()
    leave_stale(folder / "s")
    bind_client_socket(str(folder / "s")).release()


def test_a_folder_that_is_a_link_is_refused_and_one_above_it_is_not(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    with pytest.raises(SocketError, match=r"its folder .*/link is a symbolic link: give the path"):
        bind_client_socket(str(folder / "link" / "s"))
    assert list((folder / "real").iterdir()) == []
    bind_client_socket(str(folder / "link" / "new" / "s")).release()
    assert (folder / "real" / "new").is_dir()


@needs_root
def test_a_strangers_file_in_a_shared_folder_is_refused(folder: Path) -> None:
    folder.chmod(0o1777)
    with acting_as(STRANGER):
        (folder / "pubsubd-1").mkdir(0o700)
        (folder / "pubsubd-2").symlink_to(folder)
        leave_stale(folder / "stale")
        (folder / "s.lock").write_text("")
        (folder / "s.lock").chmod(0o666)
    before = sorted(folder.rglob("*"))
    for uid in (0, OURS):
        for path, problem in (
            ("pubsubd-1/s", f"pubsubd-1 belongs to another user (uid {STRANGER}, we are {uid})"),
            ("pubsubd-2/s", "pubsubd-2 is a symbolic link"),
            ("pubsubd-2/new/s", f"pubsubd-2 belongs to another user (uid {STRANGER}"),
            ("s", f"s.lock belongs to another user (uid {STRANGER}"),
        ):
            with acting_as(uid), pytest.raises(SocketError, match=re.escape(problem)):
                bind_client_socket(str(folder / path))
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(SocketError, match=f"stale belongs to another user .uid {STRANGER}"):
        bind_client_socket(str(folder / "stale"))
    assert (folder / "stale").exists()


@needs_root
def test_a_lock_that_a_stranger_makes_while_we_look_is_refused_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = os.open

    def after_the_stranger(path: str, flags: int, mode: int) -> int:
        Path(path).write_text("")
        os.chown(path, STRANGER, STRANGER)
        return ours(path, flags, mode)

    monkeypatch.setattr(os, "open", after_the_stranger)
    with pytest.raises(SocketError, match=f"s.lock belongs to another user .uid {STRANGER}"):
        bind_client_socket(str(folder / "s"))


@needs_root
def test_only_a_socket_for_the_group_may_stand_in_a_groups_folder(folder: Path) -> None:
    shared = folder / "shared"
    shared.mkdir()
    os.chown(shared, OURS, STRANGER)
    shared.chmod(0o2770)
    with acting_as(OURS, groups=[STRANGER]):
        with pytest.raises(SocketError, match=rf"by its group \(gid {STRANGER}\)"):
            bind_client_socket(str(shared / "s"))
        bound = bind_client_socket(str(shared / "s"), 0o660)
        assert (shared / "s").stat().st_gid == STRANGER
        bound.release()
    with acting_as(OURS), pytest.raises(SocketError, match="by its group"):
        bind_client_socket(str(shared / "s"), 0o660)


@needs_root
def test_whom_the_mode_lets_in_gets_in_and_nobody_else(folder: Path) -> None:
    def reached(bound: ClientSocket, uid: int, gid: int) -> bool:
        with acting_as(uid, gid):
            try:
                connect(Path(bound.path))
            except PermissionError:
                return False
            return True

    mine = folder / "mine"
    mine.mkdir()
    mine.chmod(0o755)
    os.chown(mine, OURS, OURS)
    clients = ((OURS, OURS), (STRANGER, OURS), (STRANGER, STRANGER))
    for mode, whom in ((0o600, 1), (0o660, 2), (0o666, 3)):
        with acting_as(OURS):
            bound = bind_client_socket(str(mine / f"{mode:o}" / "s"), mode)
        assert [reached(bound, *client) for client in clients].count(True) == whom
        bound.release()


def test_the_mask_of_the_process_is_left_as_it_was(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        bind_client_socket(str(folder / "s")).release()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_the_socket_of_a_dead_broker_is_replaced(folder: Path) -> None:
    path = folder / "s"
    leave_stale(path)
    bound = bind_client_socket(str(path))
    connect(path)
    bound.release()


def test_the_socket_of_a_killed_broker_is_replaced(folder: Path) -> None:
    path = folder / "s"
    program = (
        "import sys; from pubsubd_broker.sockets.unix_socket import bind_client_socket\n"
        "kept = bind_client_socket(sys.argv[1]); print('bound', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as broker:
        assert broker.stdout is not None
        assert broker.stdout.readline() == b"bound\n"
        with pytest.raises(SocketError, match="a broker is running there"):
            bind_client_socket(str(path))
        broker.kill()
    assert path.exists()
    bind_client_socket(str(path)).release()
    assert not path.exists()


def test_the_socket_of_a_live_broker_is_refused_and_left_alone(folder: Path) -> None:
    path = folder / "s"
    bound = bind_client_socket(str(path))
    with pytest.raises(SocketError, match="a broker is running there: stop it or choose another"):
        bind_client_socket(str(path))
    connect(path)
    bound.release()


def test_a_listener_without_a_lock_still_keeps_its_socket(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(path))
        other.listen(0)
        waiting.connect(str(path))
        for _ in range(2):
            with pytest.raises(SocketError, match="a broker is running there"):
                bind_client_socket(str(path))
    assert path.exists()


def test_a_datagram_socket_is_not_taken_for_a_dead_broker(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(SocketError, match="a broker is running there"):
            bind_client_socket(str(path))


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_symbolic_link_is_refused(folder: Path, target: str) -> None:
    path = folder / "s"
    leave_stale(folder / "elsewhere")
    path.symlink_to(folder / target)
    with pytest.raises(SocketError, match="is a symbolic link"):
        bind_client_socket(str(path))
    assert path.is_symlink()


def test_a_symbolic_link_in_the_place_of_the_lock_is_refused(folder: Path) -> None:
    (folder / "s.lock").symlink_to(folder / "victim")
    with pytest.raises(SocketError, match=r"s\.lock is a symbolic link: remove it"):
        bind_client_socket(str(folder / "s"))
    assert not (folder / "victim").exists()


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket"])
def test_a_lock_that_is_no_file_is_refused(folder: Path, kind: str) -> None:
    lock = folder / "s.lock"
    if kind == "folder":
        lock.mkdir()
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        leave_stale(lock)
    with pytest.raises(SocketError, match=r"s\.lock is not a file: remove it"):
        bind_client_socket(str(folder / "s"))


@pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
def test_a_path_that_is_not_a_socket_is_refused_and_kept(folder: Path, kind: str) -> None:
    path = folder / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(SocketError, match="is not a socket"):
        bind_client_socket(str(path))
    assert path.exists()


def test_a_path_of_107_bytes_is_the_longest(folder: Path) -> None:
    longest = f"{folder}/{'s' * (106 - len(str(folder)))}"
    assert len(longest) == 107
    bind_client_socket(longest).release()
    with pytest.raises(SocketError, match="the path has 108 bytes, the limit is 107"):
        bind_client_socket(longest + "s")


def test_a_folder_that_can_not_be_made_is_an_error_with_its_reason(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(SocketError, match=r"Not a directory|File exists"):
        bind_client_socket(str(folder / "file" / "s"))


def test_after_a_refusal_the_path_can_be_had(folder: Path) -> None:
    path = folder / "s"
    path.write_text("in the way")
    with pytest.raises(SocketError):
        bind_client_socket(str(path))
    path.unlink()
    bind_client_socket(str(path)).release()


def test_release_leaves_what_another_has_put_there(folder: Path) -> None:
    path = folder / "s"
    bound = bind_client_socket(str(path))
    path.rename(folder / "moved")
    leave_stale(path)
    bound.release()
    assert path.exists()


def test_release_does_not_mind_that_the_folder_is_gone(folder: Path) -> None:
    bound = bind_client_socket(str(folder / "new" / "s"))
    shutil.rmtree(folder / "new")
    bound.release()


def test_one_of_several_starting_brokers_gets_a_stale_socket(folder: Path) -> None:
    path, starters = folder / "s", 8
    for _ in range(20):
        leave_stale(path)
        barrier = Barrier(starters)

        def start(barrier: Barrier = barrier) -> ClientSocket | None:
            barrier.wait()
            try:
                return bind_client_socket(str(path))
            except SocketError:
                return None

        with ThreadPoolExecutor(starters) as pool:
            attempts = [pool.submit(start) for _ in range(starters)]
            winners = [bound for each in attempts if (bound := each.result()) is not None]
        assert len(winners) == 1
        connect(path)
        winners[0].release()


# While it runs.


def remove_socket(path: Path) -> None:
    path.unlink()


def remove_lock(path: Path) -> None:
    Path(f"{path}.lock").unlink()


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir(0o700)


def leave_a_dead_socket(path: Path) -> None:
    path.unlink()
    leave_stale(path)


@pytest.mark.parametrize(
    "lose", [remove_socket, remove_lock, remove_folder, replace_folder, leave_a_dead_socket]
)
def test_a_removed_socket_is_put_back_and_stays_the_brokers_own(
    folder: Path, lose: Callable[[Path], None]
) -> None:
    path = folder / "new" / "s"
    bound = bind_client_socket(str(path), 0o660)
    assert bound.look() is None
    first = bound.socket
    lose(path)
    with capture_logs() as logs:
        assert bound.look() is None
        assert bound.look() is None
    assert [(line["event"], line["path"]) for line in logs] == [("place.put_back", str(path))]
    connect(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(SocketError, match="a broker is running there"):
        bind_client_socket(str(path))
    bound.release()
    # The listener's task, where there is one.
    first.close()
    assert not path.exists()
    bind_client_socket(str(path)).release()


def test_without_its_lock_a_broker_keeps_others_away_by_answering(folder: Path) -> None:
    path = folder / "s"
    bound = bind_client_socket(str(path))
    remove_lock(path)
    with pytest.raises(SocketError, match="a broker is running there"):
        bind_client_socket(str(path))
    assert bound.look() is None
    bound.release()


def test_a_faster_second_broker_keeps_the_place_until_it_ends(folder: Path) -> None:
    path = folder / "new" / "s"
    first = bind_client_socket(str(path))
    remove_folder(path)
    second = bind_client_socket(str(path))
    for _ in range(2):
        assert f"socket {path}: a broker is running there: stop it" in str(first.look())
    assert second.look() is None
    second.release()
    lost = first.socket
    assert first.look() is None
    connect(path)
    first.release()
    lost.close()


@pytest.mark.parametrize("how", ["file", "link", "live socket", "folder is a file"])
def test_what_stands_in_the_place_is_left_alone_and_told(folder: Path, how: str) -> None:
    path = folder / "new" / "s"
    bound = bind_client_socket(str(path))
    with bound.socket, socket.socket(socket.AF_UNIX) as live:
        remove_folder(path)
        if how == "folder is a file":
            path.parent.write_text("precious")
        else:
            path.parent.mkdir(0o700)
        if how == "file":
            path.write_text("precious")
        elif how == "link":
            path.symlink_to(folder / "elsewhere")
        elif how == "live socket":
            live.bind(str(path))
            live.listen()
        trouble = bound.look()
        assert trouble is not None
        assert str(path) in trouble
        assert path.parent.exists()
        assert path.is_symlink() or path.exists() or how == "folder is a file"
        remove_folder(path) if path.parent.is_dir() else path.parent.unlink()
    assert bound.look() is None
    connect(path)
    bound.release()


def test_nothing_is_put_back_after_the_end(folder: Path) -> None:
    bound = bind_client_socket(str(folder / "s"))
    bound.release()
    assert bound.look() is None
    assert not (folder / "s").exists()

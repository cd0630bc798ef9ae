"""Trap 45: a socket file left by a dead broker, by a live one, a symbolic link, a path over 107 bytes."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from pubsubd_broker.unix_socket import ClientSocket, SocketError, bind_client_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders are too long for the path of a socket.
    path = Path(tempfile.mkdtemp(prefix="ps-"))
    yield path
    shutil.rmtree(path)


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
        "import sys; from pubsubd_broker.unix_socket import bind_client_socket\n"
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


def test_a_listener_that_knows_no_lock_is_refused_also_with_a_full_backlog(folder: Path) -> None:
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
    with pytest.raises(SocketError, match="symbolic link"):
        bind_client_socket(str(folder / "s"))
    assert not (folder / "victim").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "fifo"])
def test_what_is_no_socket_is_refused_and_kept(folder: Path, kind: str) -> None:
    path = folder / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(SocketError, match="something that is no socket"):
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


def test_of_brokers_that_start_at_once_over_a_stale_socket_one_gets_it(folder: Path) -> None:
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

"""Credentials of the remote end, as the kernel tells them: for real processes of other users."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from tests.other_users import OURS, STRANGER, needs_root

from pubsubd_broker.sockets.credentials import Credentials, credentials_of

CONNECT = "client.connect('\\0' + sys.argv[1])"
WAIT = "print('connected', flush=True); sys.stdin.read()"


def become(uid: int, gid: int, groups: Sequence[int]) -> str:
    return f"os.setgroups({list(groups)}); os.setgid({gid}); os.setuid({uid})"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        # Without a file: what is asked for here has nothing to do with who may reach one.
        listening.bind(f"\0pubsubd-test-{os.getpid()}")
        listening.listen()
        listening.settimeout(20)
        yield listening


@contextmanager
def process(listener: socket.socket, *steps: str) -> Iterator[tuple[int, socket.socket]]:
    """A process that has done these steps, a connect among them: its pid, and our end of the connection."""
    name = listener.getsockname()[1:].decode()
    # It becomes another user by itself: that one may not be allowed to run this interpreter.
    program = ["import os, socket, sys", "client = socket.socket(socket.AF_UNIX)", *steps, WAIT]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "\n".join(program), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"connected\n"
        taken, _ = listener.accept()
        with taken:
            yield child.pid, taken
        child.communicate()


def test_a_process_of_our_own_is_known_by_its_pid_and_our_groups(listener: socket.socket) -> None:
    with process(listener, CONNECT) as (pid, taken):
        assert credentials_of(taken) == Credentials(
            pid, os.getuid(), os.getgid(), tuple(sorted(os.getgroups()))
        )


@needs_root
@pytest.mark.parametrize("groups", [(), (STRANGER,), (7, 9, OURS, STRANGER)])
def test_another_users_process_is_known_by_user_and_all_groups(
    listener: socket.socket, groups: tuple[int, ...]
) -> None:
    with process(listener, become(OURS, STRANGER, groups), CONNECT) as (pid, taken):
        assert credentials_of(taken) == Credentials(pid, OURS, STRANGER, groups)


@needs_root
@pytest.mark.parametrize("count", [255, 256, 257, 5000])
def test_a_user_in_very_many_groups_is_known_by_all_of_them(
    listener: socket.socket, count: int
) -> None:
    groups = tuple(range(100_000, 100_000 + count))
    with process(listener, become(OURS, OURS, groups), CONNECT) as (pid, taken):
        assert credentials_of(taken) == Credentials(pid, OURS, OURS, groups)


@needs_root
def test_what_counts_is_who_it_was_as_it_connected(listener: socket.socket) -> None:
    steps = f"os.setgroups([{OURS}])", CONNECT, become(STRANGER, STRANGER, [])
    with process(listener, *steps) as (pid, taken):
        assert os.stat(f"/proc/{pid}").st_uid == STRANGER
        assert credentials_of(taken) == Credentials(pid, 0, 0, (OURS,))


def test_it_is_still_known_when_it_has_gone(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
    taken, _ = listener.accept()
    with taken:
        assert taken.recv(1) == b""
        known = credentials_of(taken)
        assert known is not None
        assert (known.pid, known.uid) == (os.getpid(), os.getuid())


def test_the_kernel_tells_nothing_of_an_unconnected_socket() -> None:
    with socket.socket(socket.AF_UNIX) as alone:
        assert credentials_of(alone) is None


def test_the_kernel_tells_nothing_of_a_peer_over_tcp() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert credentials_of(client) is None

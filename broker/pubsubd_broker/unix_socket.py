"""The clients' Unix socket: a safe place for it, one broker at a time, gone when the broker ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from typing import Final

from pubsubd_broker.safe_path import Trust, UnsafePath, prepare_folder
from pubsubd_broker.setting_forms import MAX_SOCKET_PATH_BYTES
from pubsubd_protocol.errors import PubSubError

SOCKET_MODE: Final = 0o600
BACKLOG: Final = 1024


class SocketError(PubSubError):
    """The clients' socket can't be had at `path`. The text says why and what to do."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"socket {path}: {problem}")
        self.path = path


class ClientSocket:
    """A bound, listening, non-blocking `socket`, and the lock that keeps other brokers off its path."""

    __slots__ = ("_identity", "_lock", "path", "socket")

    def __init__(self, path: str, bound: socket.socket, lock: int) -> None:
        self.path = path
        self.socket = bound
        self._lock = lock
        status = os.lstat(path)
        self._identity = (status.st_dev, status.st_ino)

    def trouble(self) -> str | None:
        """Why clients can't find it, if they can't: its file is gone, or is another one."""
        try:
            status = os.lstat(self.path)
        except OSError as error:
            return f"the socket {self.path} is gone ({error.strerror}): restart the broker"
        if (status.st_dev, status.st_ino) != self._identity:
            return f"something else is in the place of the socket {self.path}: restart the broker"
        return None

    def release(self) -> None:
        """Close the socket and remove its file, if it is still ours. A second call does nothing.

        The lock's file stays: whoever removed it could remove one that the next broker holds.
        """
        if self._lock < 0:
            return
        try:
            status = os.lstat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self.path)
        except OSError:
            pass  # Gone already, or its folder is: nothing of ours is left to remove.
        self.socket.close()
        os.close(self._lock)
        self._lock = -1


def bind_client_socket(path: str, mode: int = SOCKET_MODE) -> ClientSocket:
    """Bind and listen at `path`; its file has `mode`, 0600 to 0666, from its first moment. Raises `SocketError`.

    A missing folder is made, for those whom `mode` lets in; a dead broker's socket is replaced. Refused:
    a live broker's, a symbolic link, anything that is no socket, a place where another user could swap it
    (see `safe_path`). A socket that is for its group may stand in a folder that a group of ours writes to.
    """
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise SocketError(
            path,
            f"the path has {length} bytes, the limit is {MAX_SOCKET_PATH_BYTES}: choose a shorter",
        )
    if mode & 0o600 != 0o600 or mode & ~0o666:
        raise SocketError(
            path, f"mode {mode:04o} makes no sense: its owner reads and writes, nobody executes"
        )
    trust = Trust.of_this_process(os.getgroups() if mode & stat.S_IWGRP else ())
    try:
        _prepare_folder(path, mode, trust)
        lock = _lock(path, trust)
    except UnsafePath as error:
        raise SocketError(path, str(error)) from error
    except OSError as error:
        raise SocketError(path, f"{_reason(error)}: choose another path") from error
    try:
        _clear_the_way(path, trust)
        return ClientSocket(path, _bind(path, mode), lock)
    except UnsafePath as error:
        os.close(lock)
        raise SocketError(path, str(error)) from error
    except OSError as error:
        os.close(lock)
        raise SocketError(path, f"{_reason(error)}: choose another path") from error
    except BaseException:
        os.close(lock)
        raise


def _prepare_folder(path: str, mode: int, trust: Trust) -> None:
    folder = os.path.dirname(path) or "."
    if os.path.islink(folder):
        raise SocketError(
            path, f"its folder {folder} is a symbolic link: give the path that it points to"
        )
    for_group = stat.S_IXGRP if mode & stat.S_IWGRP else 0
    for_others = stat.S_IXOTH if mode & stat.S_IWOTH else 0
    prepare_folder(folder, stat.S_IRWXU | for_group | for_others, trust)


def _lock(path: str, trust: Trust) -> int:
    """Held as long as the broker lives, so two that start at once can't both find the socket stale."""
    name = f"{path}.lock"
    # In a folder like /tmp it may be a stranger's, who would hold it for ever, or a link to what is not for us.
    with contextlib.suppress(FileNotFoundError):
        _check_lock(name, os.lstat(name), trust)
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _check_lock(name, os.fstat(lock), trust)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _taken(path) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_lock(name: str, status: os.stat_result, trust: Trust) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePath(name, "is a symbolic link: remove it")
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePath(name, "is no file: remove it")
    trust.check_owner(name, status)


def _clear_the_way(path: str, trust: Trust) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise SocketError(path, "is a symbolic link: give the path that it points to")
    if not stat.S_ISSOCK(mode):
        raise SocketError(path, "there is something that is no socket: remove it or choose another")
    trust.check_owner(path, status)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == errno.ENOENT:
        return
    # Only a refusal proves that nobody listens; a full backlog, for one, proves the contrary.
    if answer != errno.ECONNREFUSED:
        raise _taken(path)
    os.unlink(path)


def _bind(path: str, mode: int) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # With the mask the file has its mode from the first moment, not only after a chmod.
    mask = os.umask(0o777 & ~mode)
    try:
        bound.bind(path)
        os.chmod(path, mode)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound


def _taken(path: str) -> SocketError:
    return SocketError(path, "a broker is running there: stop it or choose another path (--socket)")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)

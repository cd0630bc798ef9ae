"""The clients' Unix socket: a safe place for it, one broker at a time, gone when the broker ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from pubsubd_broker.files.safe_path import Trust, UnsafePath, prepare_folder
from pubsubd_broker.settings.forms import MAX_SOCKET_PATH_BYTES
from pubsubd_protocol.errors import PubSubError

T = TypeVar("T")

SOCKET_MODE: Final = 0o600
UNIX_BACKLOG: Final = 1024

log = structlog.get_logger("pubsubd")


class SocketError(PubSubError):
    """The clients' socket cannot be had at `path`. The text says why and what to do."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"socket {path}: {problem}")
        self.path = path


class ClientSocket:
    """A bound, listening, non-blocking `socket`, and the lock that keeps other brokers off its path.

    `look` and `release` block and may run in any thread.
    """

    def __init__(self, path: str, mode: int) -> None:
        """Raises `SocketError`. See `bind_client_socket`."""
        self.path = path
        self._mode = mode
        self._trust = Trust.of_this_process(os.getgroups() if mode & stat.S_IWGRP else ())
        self._turn = threading.Lock()
        self._lock: int | None = None
        self._bound: socket.socket | None = None
        self._identity: os.stat_result | None = None
        self._released = False
        self._take_place()

    @property
    def socket(self) -> socket.socket:
        """The one that clients reach now; another one once it had to be put back."""
        assert self._bound is not None
        return self._bound

    def look(self) -> str | None:
        """Reason why clients cannot find it, if they cannot. A socket or a lock that was removed is put back first.

        The rules are those of a start, so a place that another broker has taken meanwhile stays with it.
        """
        with self._turn:
            if self._released or (self._holds_lock() and self._holds_socket()):
                return None
            try:
                self._take_place()
            except SocketError as error:
                return f"no client can connect (the broker tries again every second): {error}"
        log.warning("place.put_back", what="socket", path=self.path)
        return None

    def while_held(self, step: Callable[[], T]) -> T | None:
        """The outcome of `step`, which no other broker at this path comes between; None if this one may not."""
        with self._turn:
            return None if self._released or not self._holds_lock() else step()

    def release(self) -> None:
        """Close the socket and remove its file, if it is still ours. A second call does nothing.

        The lock's file stays: a process that removed it could remove one that the next broker holds.
        """
        with self._turn:
            if self._released:
                return
            self._released = True
            if self._holds_socket():
                # Gone already, or its folder is: nothing of ours is left to remove.
                with contextlib.suppress(OSError):
                    os.unlink(self.path)
            self.socket.close()
            if self._lock is not None:
                os.close(self._lock)

    def _take_place(self) -> None:
        """Takes what is not held at this path: the lock, the socket, or both. Raises `SocketError`."""
        try:
            _prepare_folder(self.path, self._mode, self._trust)
            if not self._holds_lock():
                lock = _lock(self.path, self._trust)
                if self._lock is not None:
                    os.close(self._lock)
                self._lock = lock
            if not self._holds_socket():
                _clear_the_way(self.path, self._trust)
                # Not closed here, the one before: it is the listener's, who takes the new one in its place.
                self._bound = _bind(self.path, self._mode)
                self._identity = os.lstat(self.path)
        except BaseException as error:
            if self._identity is None and self._lock is not None:
                os.close(self._lock)
            if isinstance(error, UnsafePath):
                raise SocketError(self.path, str(error)) from error
            if isinstance(error, OSError):
                raise SocketError(self.path, _problem(error)) from error
            raise

    def _holds_lock(self) -> bool:
        if self._lock is None:
            return False
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(_lock_of(self.path)), os.fstat(self._lock))
        return False

    def _holds_socket(self) -> bool:
        if self._identity is None:
            return False
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(self.path), self._identity)
        return False


def bind_client_socket(path: str, mode: int = SOCKET_MODE) -> ClientSocket:
    """Bind and listen at `path`; its file has `mode`, 0600 to 0666, from its first moment. Raises `SocketError`.

    A missing folder is made, for those whom `mode` lets in; a dead broker's socket is replaced. Refused:
    a live broker's, a symbolic link, anything but a socket, a place where another user could swap it
    (see `safe_path`). A socket that is for its group may stand in a folder that a group of ours writes to.
    """
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise SocketError(
            path,
            f"the path has {length} bytes, the limit is {MAX_SOCKET_PATH_BYTES}: choose a shorter one",
        )
    if mode & 0o600 != 0o600 or mode & ~0o666:
        raise SocketError(
            path,
            f"mode {mode:04o} is invalid: the owner must read and write, and no user may execute",
        )
    return ClientSocket(path, mode)


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
    """Held as long as the broker lives, so two that start at once cannot both find the socket stale."""
    name = _lock_of(path)
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


def _lock_of(path: str) -> str:
    return f"{path}.lock"


def _check_lock(name: str, status: os.stat_result, trust: Trust) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePath(name, "is a symbolic link: remove it")
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePath(name, "is not a file: remove it")
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
        raise SocketError(path, "is not a socket: remove it or choose another")
    trust.check_owner(path, status)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == errno.ENOENT:
        return
    # Only a refusal proves that no broker listens; a full backlog, for one, proves the contrary.
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
        bound.listen(UNIX_BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound


def _taken(path: str) -> SocketError:
    return SocketError(path, "a broker is running there: stop it or choose another path (--socket)")


def _problem(error: OSError) -> str:
    reason = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{reason}: mend that, or choose another path (--socket)"

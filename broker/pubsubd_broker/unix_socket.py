"""The clients' Unix socket: a safe place for it, one broker at a time, gone when the broker ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import Final

from pubsubd_broker.setting_forms import MAX_SOCKET_PATH_BYTES
from pubsubd_protocol.errors import PubSubError

FOLDER_MODE: Final = 0o700
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


def bind_client_socket(path: str) -> ClientSocket:
    """Bind and listen at `path`. Raises `SocketError`.

    A missing folder is made (0700), a dead broker's socket replaced. Refused: a live broker's, a
    symbolic link, anything that is no socket, a folder that another user could swap it in.
    """
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise SocketError(
            path,
            f"the path has {length} bytes, the limit is {MAX_SOCKET_PATH_BYTES}: choose a shorter",
        )
    try:
        _prepare_folder(path)
        lock = _lock(path)
    except OSError as error:
        raise SocketError(path, f"{_reason(error)}: choose another path") from error
    try:
        _clear_the_way(path)
        return ClientSocket(path, _bind(path), lock)
    except OSError as error:
        os.close(lock)
        raise SocketError(path, f"{_reason(error)}: choose another path") from error
    except BaseException:
        os.close(lock)
        raise


def _prepare_folder(path: str) -> None:
    folder = Path(path).parent
    folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    owner = folder.stat().st_uid
    # Whoever owns the folder can put another socket in the place of ours. Root may ask for that.
    if os.geteuid() not in (0, owner) and owner != 0:
        raise SocketError(
            path, f"folder {folder} belongs to another user (uid {owner}): choose one of your own"
        )


def _lock(path: str) -> int:
    """Held as long as the broker lives, so two that start at once can't both find the socket stale."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _taken(path) from None
    except OSError:
        os.close(lock)
        raise
    return lock


def _clear_the_way(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise SocketError(path, "is a symbolic link: give the path that it points to")
    if not stat.S_ISSOCK(mode):
        raise SocketError(path, "there is something that is no socket: remove it or choose another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer == errno.ENOENT:
        return
    # Only a refusal proves that nobody listens; a full backlog, for one, proves the contrary.
    if answer != errno.ECONNREFUSED:
        raise _taken(path)
    os.unlink(path)


def _bind(path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # With the mask the file has its mode from the first moment, not only after a chmod.
    mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        bound.bind(path)
        os.chmod(path, SOCKET_MODE)
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

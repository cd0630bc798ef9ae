"""Files that only we may read: the cluster's secret, the key of a certificate."""

from __future__ import annotations

import os
import stat
from typing import Final

from pubsubd_broker.files.safe_path import ROOT
from pubsubd_protocol.errors import PubSubError

LEAST_SECRET_BYTES: Final = 16
MAX_SECRET_BYTES: Final = 4096


class SecretError(PubSubError):
    """The file at `path` cannot be had, or is not a secret. Says why and what to do, never what is in it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"secret file {path}: {problem}")
        self.path = path
        self.problem = problem


def read_secret(path: str) -> bytes:
    """The bytes of a secret of at least `LEAST_SECRET_BYTES`, without one line feed at its end. Raises `SecretError`.

    Links are followed: what is mounted into a container often is one. What counts is the file they lead to.
    """
    try:
        # Not waited for, should it be a pipe.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        _check(path, os.fstat(file))
        secret = _read_at_most(file, MAX_SECRET_BYTES + len(b"\n") + 1).removesuffix(b"\n")
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(file)
    if len(secret) < LEAST_SECRET_BYTES:
        raise SecretError(
            path,
            f"{len(secret)} bytes are too easily guessed: "
            f"write at least {LEAST_SECRET_BYTES} random ones into it",
        )
    if len(secret) > MAX_SECRET_BYTES:
        raise SecretError(
            path, f"it has more than {MAX_SECRET_BYTES} bytes: give the file of the secret"
        )
    return secret


class SecretFile:
    """The secret in the file at `path`, which may be replaced while the broker runs."""

    __slots__ = ("_seen", "path", "value")

    def __init__(self, path: str) -> None:
        """Raises `SecretError`."""
        self.path = path
        self.value = self._seen = read_secret(path)

    def refresh(self) -> bool:
        """Whether `value` is another one from now on. Blocking. Raises `SecretError`; `value` then stays as it is.

        A file that is being written may hold a part: what counts is what two looks in a row have found.
        """
        seen, self._seen = self._seen, read_secret(self.path)
        if self._seen != seen or seen == self.value:
            return False
        self.value = seen
        return True


def exposure(status: os.stat_result) -> str | None:
    """Reason why others could know or change what is in such a file, and the remedy; None if they cannot.

    Its group may read: that is how a file of root's is shown to a broker that is not root.
    """
    if status.st_uid not in (ROOT, os.geteuid()):
        return f"it belongs to another user (uid {status.st_uid}, we are {os.geteuid()}): chown it"
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return f"mode {mode} lets others read or change it: chmod it to 0600, or 0640 for a group"
    return None


def _check(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SecretError(path, "it is not a regular file: give the path of one")
    problem = exposure(status)
    if problem is not None:
        raise SecretError(path, problem)


def _read_at_most(file: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(file, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _unreadable(path: str, error: OSError) -> SecretError:
    return SecretError(
        path,
        f"{error.strerror or error}: give the path of a file that we (uid {os.geteuid()}) can read",
    )

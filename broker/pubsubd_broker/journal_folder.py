"""A journal's folder on disk: reads its segments at the start, and does what the core's journal says. Blocking."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pubsubd_broker.core.journal.journal import Append, Create, Remove, Work
from pubsubd_broker.core.journal.recovery import JournalError
from pubsubd_broker.safe_path import Trust, UnsafePath, prepare_folder

_SEGMENT: Final = re.compile(r"(\d{16})\.journal\Z")
_UNFINISHED: Final = ".unfinished"
_LOCK: Final = "lock"
_MOST_BUFFERS: Final = 512
"""Buffers in one write; Linux takes 1,024."""


class JournalFolder:
    """One broker's, for as long as it lives: a lock keeps others out. `perform` may run in any one thread."""

    def __init__(self, path: str) -> None:
        """Raises `JournalError` if it can't be used, is in use, or could be changed by another user."""
        self.path = path
        # A group of ours may write to it: what a volume is shared through where no container is root.
        trust = Trust.of_this_process(os.getgroups())
        try:
            prepare_folder(path, 0o700, trust)
            # Not even a sticky one: what we find in it is what we believe to have published.
            trust.check_writers(path, os.stat(path))
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except UnsafePath as error:
            raise JournalError(f"the journal {path} can't be used: {error}") from error
        except OSError as error:
            raise unusable(path, error) from error
        try:
            self._lock = self._take_lock()
        except OSError as error:
            os.close(self._folder)
            raise unusable(path, error) from error
        except JournalError:
            os.close(self._folder)
            raise
        self._held = [self._lock, self._folder]
        self._number = 0
        self._open: int | None = None

    def numbers(self) -> tuple[int, ...]:
        """Of the segments that there are, in order."""
        names = map(_SEGMENT.match, os.listdir(self.path))
        return tuple(sorted(int(name[1]) for name in names if name is not None))

    def read(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each segment, oldest first. Raises `JournalError`."""
        try:
            for number in self.numbers():
                with open(self._name(number), "rb") as segment:
                    yield number, segment.read()
        except OSError as error:
            raise unusable(self.path, error) from error

    def probe(self) -> None:
        """Raises `JournalError` unless files can be made there and removed again."""
        path = os.path.join(self.path, f"probe{_UNFINISHED}")
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            os.unlink(path)
        except OSError as error:
            raise unusable(self.path, error) from error

    def tidy(self) -> None:
        """Removes what was being made as the last life ended: it was not needed yet. Raises `OSError`."""
        for name in os.listdir(self.path):
            if name.endswith(_UNFINISHED):
                _remove(os.path.join(self.path, name))

    def perform(self, work: Work) -> float | None:
        """Does it. Returns how many seconds making it durable took, None if it was not. Raises `OSError`."""
        synced_s = 0.0
        for step in work.steps:
            match step:
                case Append(number, buffers):
                    assert number == self._number, "only the newest segment is appended to"
                    assert self._open is not None
                    _write(self._open, buffers)
                case Create(number, buffers):
                    synced_s += self._create(number, buffers, sync=work.sync)
                case Remove(number):
                    _remove(self._name(number))
        self.check()
        if not work.sync:
            return None
        if self._open is not None:
            synced_s += _timed(os.fdatasync, self._open)
        if any(isinstance(step, Remove) for step in work.steps):
            # A snapshot that is used up must not be there again after a power loss.
            synced_s += _timed(os.fsync, self._folder)
        return synced_s

    def check(self) -> None:
        """Raises `OSError` if what is written is not at this path any more: the next life would not find it."""
        here, ours = os.stat(self.path), os.fstat(self._folder)
        if (here.st_dev, here.st_ino) != (ours.st_dev, ours.st_ino):
            raise OSError(errno.ESTALE, "another folder is in its place", self.path)
        if self._open is not None and not os.fstat(self._open).st_nlink:
            raise OSError(errno.ESTALE, "its newest file was removed", self.path)

    def close(self) -> None:
        """Lets others have it. A second call does nothing."""
        held, self._held = self._held, []
        if self._open is not None:
            held.append(self._open)
            self._open = None
        for descriptor in held:
            os.close(descriptor)

    def _create(self, number: int, buffers: Sequence[bytes], *, sync: bool) -> float:
        synced_s = 0.0
        if self._open is not None:
            # What this one follows on has to be there if it is.
            if sync:
                synced_s += _timed(os.fdatasync, self._open)
            os.close(self._open)
            self._open = None
        name = self._name(number)
        self._open = os.open(name + _UNFINISHED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._number = number
        _write(self._open, buffers)
        if sync:
            synced_s += _timed(os.fsync, self._open)
        os.rename(name + _UNFINISHED, name)
        if sync:
            synced_s += _timed(os.fsync, self._folder)
        return synced_s

    def _take_lock(self) -> int:
        path = os.path.join(self.path, _LOCK)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise JournalError(
                f"the journal {self.path} is in use by another broker: each needs a --journal of its own"
            ) from None
        return lock

    def _name(self, number: int) -> str:
        return os.path.join(self.path, f"{number:016}.journal")


def unusable(path: str, error: OSError) -> JournalError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    advice = {
        errno.ENOSPC: "make room there",
        errno.EROFS: "choose a folder that can be written to",
        errno.EACCES: "choose a folder that can be written to",
    }.get(error.errno or 0, "choose another folder")
    return JournalError(f"the journal {path} can't be used: {reason}: {advice}")


def _write(file: int, buffers: Sequence[bytes]) -> None:
    left = list(buffers)
    while left:
        written = os.writev(file, left[:_MOST_BUFFERS])
        done = 0
        while done < len(left) and written >= len(left[done]):
            written -= len(left[done])
            done += 1
        del left[:done]
        if written:
            left[0] = left[0][written:]


def _remove(path: str) -> None:
    # Somebody may have tidied up: it was not needed.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _timed(step: Callable[[int], None], file: int) -> float:
    began = time.monotonic()
    step(file)
    return time.monotonic() - began

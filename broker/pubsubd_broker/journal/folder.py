"""A journal's folder on disk: reads its segments at the start, and does what the core's journal says. Blocking."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from pubsubd_broker.core.journal.journal import Append, Create, Remove, Work
from pubsubd_broker.core.journal.recovery import JournalError
from pubsubd_broker.files.safe_path import Trust, UnsafePath, prepare_folder
from pubsubd_protocol.errors import PubSubError

_SEGMENT: Final = re.compile(r"(\d{16})\.journal\Z")
_UNFINISHED: Final = ".unfinished"
_ASIDE: Final = ".set-aside"
_LOCK: Final = "lock"
_ANEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_MOST_BUFFERS: Final = 512
"""Buffers in one write; Linux takes 1,024."""
MAKE_ROOM: Final = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or raise the quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f, LimitFSIZE=)",
}
"""Remedy for a write that finds no room."""


class JournalFolder:
    """Folder of one broker, for as long as it lives: a lock keeps others out. `perform` may run in any one thread.

    All is done in the folder that was opened, never in another one that stands at `path` by then. `check` says whether
    it is there still.
    """

    def __init__(self, path: str) -> None:
        """Raises `JournalError` if it cannot be used, is in use, or could be changed by another user."""
        self.path = path
        # A group of ours may write to it: what a volume is shared through where no container is root.
        trust = Trust.of_this_process(os.getgroups())
        try:
            prepare_folder(path, 0o700, trust)
            # Not even a sticky one: what we find in it is what we believe to have published.
            trust.check_writers(path, os.stat(path))
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except (UnsafePath, OSError) as error:
            raise unusable(path, error) from error
        try:
            self._lock = self._take_lock()
        except OSError as error:
            os.close(self._folder)
            raise unusable(path, error) from error
        except JournalError:
            os.close(self._folder)
            raise
        self.unknown = False
        """Whether what is in it is of a format that only another version reads."""
        self._number = 0
        self._open: int | None = None
        self._closed = False

    @property
    def descriptor(self) -> int:
        """The descriptor of the open folder."""
        return self._folder

    def numbers(self) -> tuple[int, ...]:
        """Numbers of the segments in the folder, in order."""
        names = map(_SEGMENT.match, os.listdir(self._folder))
        return tuple(sorted(int(name[1]) for name in names if name is not None))

    def read(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each segment, oldest first. Raises `OSError`."""
        for number in self.numbers():
            with open(self._file(_name(number), os.O_RDONLY), "rb") as segment:
                yield number, segment.read()

    def probe(self) -> None:
        """Raises `JournalError` unless files can be made there and removed again."""
        name = f"probe{_UNFINISHED}"
        try:
            os.close(self._file(name, _ANEW))
            self._remove(name)
        except OSError as error:
            raise unusable(self.path, error) from error

    def tidy(self) -> None:
        """Removes what was being made as the last life ended: it was not needed yet. Raises `OSError`."""
        for name in os.listdir(self._folder):
            if name.endswith(_UNFINISHED):
                self._remove(name)

    def set_aside(self, numbers: Iterable[int]) -> list[str]:
        """Keeps those segments under names that no life reads, and returns their paths. Raises `OSError`.

        What was set aside earlier is removed: at most two rings lie there.
        """
        for name in os.listdir(self._folder):
            if name.endswith(_ASIDE):
                self._remove(name)
        kept = []
        for name in map(_name, numbers):
            self._rename(name, name + _ASIDE)
            kept.append(os.path.join(self.path, name + _ASIDE))
        return kept

    def perform(self, work: Work) -> float | None:
        """Does it. Returns how many seconds making it durable took, None if it was not.

        Raises `OSError`, or `JournalError` as `check` does.
        """
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
                    self._remove(_name(number))
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
        """Raises `JournalError` if what is written is not at this path any more: the next life would not find it.

        A lock that was removed is taken again, unless another broker was faster.
        """
        if not _stands(self.path, None, self._folder):
            raise self._gone("its folder was removed, or another one is in its place")
        if not _stands(_LOCK, self._folder, self._lock):
            gone, self._lock = self._lock, self._take_lock()
            os.close(gone)
        if self._open is not None and not _stands(_name(self._number), self._folder, self._open):
            raise self._gone(f"its newest file {_name(self._number)} was removed or replaced")

    @property
    def held(self) -> bool:
        """Whether the lock that keeps other brokers out is this one's."""
        return not self._closed and _stands(_LOCK, self._folder, self._lock)

    def missing(self, numbers: Iterable[int]) -> list[str]:
        """Names of those segments that are not there any more."""
        left = set(self.numbers())
        return [_name(number) for number in numbers if number not in left]

    def close(self) -> None:
        """Lets others have it. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for descriptor in (self._open, self._lock, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._open = None

    def _create(self, number: int, buffers: Sequence[bytes], *, sync: bool) -> float:
        synced_s = 0.0
        if self._open is not None:
            # The segment before this one has to exist if this one does.
            if sync:
                synced_s += _timed(os.fdatasync, self._open)
            os.close(self._open)
            self._open = None
        name = _name(number)
        self._open = self._file(name + _UNFINISHED, _ANEW)
        self._number = number
        _write(self._open, buffers)
        if sync:
            synced_s += _timed(os.fsync, self._open)
        self._rename(name + _UNFINISHED, name)
        if sync:
            synced_s += _timed(os.fsync, self._folder)
        return synced_s

    def _take_lock(self) -> int:
        lock = self._file(_LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise JournalError(
                f"the journal {self.path} is in use by another broker: each needs a --journal of its own"
            ) from None
        return lock

    def _gone(self, problem: str) -> JournalError:
        advice = "put it back if you can, and restart the broker"
        return JournalError(f"the journal {self.path} cannot be used any more: {problem}: {advice}")

    def _file(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._folder)

    def _rename(self, name: str, other: str) -> None:
        os.rename(name, other, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _remove(self, name: str) -> None:
        # Another process may have removed it: it was not needed.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)


def _name(number: int) -> str:
    return f"{number:016}.journal"


def _stands(name: str, folder: int | None, descriptor: int) -> bool:
    """Whether what is open is what stands under its name, in `folder` if the name is relative."""
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False


def unusable(path: str, error: OSError | PubSubError) -> JournalError:
    """Names the path in front of what is wrong there."""
    if isinstance(error, PubSubError):
        return JournalError(f"the journal {path} cannot be used: {error}")
    advice = {
        errno.EROFS: "choose a folder that can be written to",
        errno.EACCES: "choose a folder that can be written to",
    } | MAKE_ROOM
    remedy = advice.get(error.errno or 0, "choose another folder")
    return JournalError(f"the journal {path} cannot be used: {_said(error)}: {remedy}")


def unwritten(path: str, error: BaseException) -> str:
    """Reason why a write below `path` failed, and its remedy."""
    if not isinstance(error, OSError):
        return str(error) or repr(error)
    advice = {errno.EROFS: "mount it writable"} | MAKE_ROOM
    remedy = advice.get(error.errno or 0, "look at its disk")
    return f"{path} cannot be written: {_said(error)}: {remedy}"


def failed_for_good(path: str, error: BaseException) -> str:
    """The same, of a journal that accepts nothing any more."""
    reason = unwritten(path, error)
    if not isinstance(error, OSError):
        return reason
    return f"{reason}, then restart the broker; until then accepted messages stay readable"


def _said(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


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


def _timed(step: Callable[[int], None], file: int) -> float:
    began = time.monotonic()
    step(file)
    return time.monotonic() - began

"""The file that a witness lies in: made anew by each life, and then only its count of accepted messages is rewritten.

Where the file system writes in place, the count is a word of a shared mapping: a store costs no system call, and what was
stored outlives the process. The file is written as a whole and synced before it is mapped, so that a store needs no
block. On a copy-on-write file system even a block that is there needs room to be written again, and a store that
finds none ends the process (SIGBUS). There, and where nothing is known of the file system, the count is written by `pwrite`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import struct
import sys
from dataclasses import replace
from typing import Final

from pubsubd_broker.core.journal.whole_end import (
    COUNT_AT,
    WITNESS_BYTES,
    FileIdentity,
    Found,
    Witness,
    checked,
    decode_witness,
    encode_witness,
)
from pubsubd_broker.files.safe_path import Trust, UnsafePath
from pubsubd_protocol.positions import MAX_OFFSET

LIFE_FILE_MODE: Final = 0o400
"""Mode of the file. Only the descriptor that made it writes to it: a restore into it, or `: >`, is refused (but to root)."""

_UNFINISHED: Final = ".unfinished"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

_EXT: Final = 0xEF53
_XFS: Final = 0x58465342
_TMPFS: Final = 0x01021994
_RAMFS: Final = 0x858458F6
IN_MEMORY: Final = frozenset({_TMPFS, _RAMFS})
IN_PLACE: Final = frozenset({_EXT, _XFS, *IN_MEMORY})
"""File systems (`f_type` of statfs) that write a block where it is. Not overlayfs: what lies below it cannot be seen."""

_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_STATFS_BYTES: Final = 256
_MASK = struct.Struct("=I")
_BIRTH: Final = struct.Struct("=qI")
_BIRTH_AT: Final = 80
_F_TYPE: Final = struct.Struct("=L" if struct.calcsize("P") == 4 else "=Q")


class LifeFile:
    """The witness of this life for `name`. Takes the place of an earlier one's, and never writes into that file."""

    def __init__(self, folder: int | None, name: str, witness: Witness) -> None:
        """Prepared, and not in place yet. `folder`: descriptor of the folder that `name` is in; None for a path.

        Blocks for the disk. Raises `OSError`; then the one of an earlier life is still there, which must not speak for this
        one: see `remove_life`.
        """
        self._folder = folder
        self._name = name
        self._unfinished = name + _UNFINISHED
        _unlink(folder, self._unfinished)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._unfinished, flags, LIFE_FILE_MODE, dir_fd=folder)
        try:
            self._head = self._fill(witness)
            self.in_memory = file_system_of(self._file) in IN_MEMORY
            """Whether no store into it ever waits for a disk."""
            self._word = self._map()
        except BaseException:
            self._give_up()
            raise

    @property
    def word(self) -> memoryview | None:
        """The mapped count: its only item is an aligned uint64, as `checked` makes it. None where it has to be written."""
        return self._word

    def put_in_place(self) -> None:
        """Takes the name. Raises `OSError`; then it is of no use any more, nor is what lies under that name."""
        try:
            os.rename(
                self._unfinished, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
            )
            _sync_folder(self._folder, self._name)
        except BaseException:
            _unlink(self._folder, self._unfinished)
            raise

    def write(self, count: int) -> None:
        """Rewrites the count where it is not mapped. Raises `OSError`; then nothing is told by this file any more."""
        try:
            if os.pwrite(self._file, count.to_bytes(8, sys.byteorder), COUNT_AT) != 8:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._file, 0)
            raise

    def problem(self, least: int | None) -> str | None:
        """Reason why this is not the file under its name any more, or a bad one. Never looks through the mapping.

        `least`: its count says at least that, None if it does not count. Where the disk gives no answer nothing is known, and
        None returned: a count that may be good is not thrown away.
        """
        try:
            there = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            ours = os.fstat(self._file)
            data = os.pread(self._file, WITNESS_BYTES, 0)
        except (FileNotFoundError, NotADirectoryError):
            return "was removed"
        except OSError:
            return None
        if not os.path.samestat(there, ours):
            return "was replaced"
        if ours.st_size != WITNESS_BYTES or len(data) != WITNESS_BYTES:
            return f"had {ours.st_size} bytes instead of {WITNESS_BYTES}"
        if data[:COUNT_AT] != self._head:
            return "was overwritten"
        if least is not None and not told(data, least):
            return "was overwritten: its count was not this life's"
        return None

    def close(self) -> None:
        """Ends storing. What was stored stays."""
        os.close(self._file)
        self._word = None

    def _fill(self, witness: Witness) -> bytes:
        data = encode_witness(replace(witness, file=identity_of(self._file)))
        done = 0
        while done < len(data):
            # After a short write, at a limit or on a full disk, the next call has the reason.
            written = os.pwrite(self._file, data[done:], done)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += written
        # Blocks are given out late: from here on this one is the file's.
        os.fsync(self._file)
        return data[:COUNT_AT]

    def _map(self) -> memoryview | None:
        if file_system_of(self._file) not in IN_PLACE:
            return None
        try:
            mapped = mmap.mmap(self._file, WITNESS_BYTES, mmap.MAP_SHARED)
        except (OSError, ValueError):
            return None
        return memoryview(mapped)[COUNT_AT:].cast("Q")

    def _give_up(self) -> None:
        os.close(self._file)
        _unlink(self._folder, self._unfinished)


def told(data: bytes, least: int) -> bool:
    """Whether the count in these bytes of a whole file is one, and at least `least`."""
    count = int.from_bytes(data[COUNT_AT:], sys.byteorder)
    accepted = count & MAX_OFFSET
    return checked(accepted) == count and accepted >= least


def read_life(folder: int | None, name: str) -> Found | None:
    """Witness that an earlier life left at `name`; None without one. Raises `UnsafePath` for what is another user's."""
    try:
        # Another user may have put a pipe there: it must not be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafePath(name, "is a symbolic link: remove it") from None
        return Found(None, bound=False)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafePath(name, "is not a file: remove it")
        Trust.of_this_process().check_owner(name, status)
        witness = decode_witness(os.read(file, WITNESS_BYTES + 1))
        return Found(witness, witness is not None and witness.file == identity_of(file))
    except OSError:
        return Found(None, bound=False)
    finally:
        os.close(file)


def remove_life(folder: int | None, name: str) -> None:
    """Removes a witness, or empties it where nothing can be removed from the folder."""
    try:
        _unlink(folder, name)
    except OSError:
        # Where that fails too, it is another user's file, and is never believed.
        empty_life(folder, name, os.O_WRONLY)


def empty_life(folder: int | None, name: str, flags: int = os.O_WRONLY | os.O_CREAT) -> bool:
    """Leaves a file there that says nothing: the next life takes what came before it for unknown. Whether that worked.

    An empty file takes no block: it can be made on most disks that are full.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        _make_writable(folder, name)
        file = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            if not _is_ours(file):
                return False
            os.ftruncate(file, 0)
            os.fchmod(file, LIFE_FILE_MODE)
        finally:
            os.close(file)
    except OSError:
        return False
    return True


def boot_id() -> bytes:
    """Names the machine's present boot; empty where the system has no name for it."""
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return b""


def identity_of(file: int) -> FileIdentity:
    """Identity of an open file. Without its device: that number may change with every boot."""
    status = os.fstat(file)
    born_s = getattr(status, "st_birthtime", None)
    born_ns = _born_ns(file) if born_s is None else int(born_s * 10**9)
    return FileIdentity(status.st_ino, born_ns)


def file_system_of(file: int) -> int:
    """`f_type` of the file's system, 0 where it cannot be had."""
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    try:
        if not sys.platform.startswith("linux") or _libc().fstatfs(file, answer):
            return 0
    except AttributeError:
        return 0
    (kind,) = _F_TYPE.unpack_from(answer)
    return int(kind) & 0xFFFFFFFF


def _born_ns(file: int) -> int:
    """0 where the file system, the kernel, the C library or a sandbox does not tell it."""
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    try:
        failed = _libc().statx(file, b"", _AT_EMPTY_PATH, _STATX_BTIME, answer)
    except AttributeError:
        return 0
    (mask,) = _MASK.unpack_from(answer)
    if failed or not mask & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(answer, _BIRTH_AT)
    return max(0, int(seconds * 10**9 + nanoseconds))


def _make_writable(folder: int | None, name: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        return
    try:
        if _is_ours(file):
            os.fchmod(file, 0o600)
    finally:
        os.close(file)


def _is_ours(file: int) -> bool:
    """A file of this user, and no second name of another one."""
    status = os.fstat(file)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _sync_folder(folder: int | None, name: str) -> None:
    if folder is not None:
        os.fsync(folder)
        return
    opened = os.open(os.path.dirname(name) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _unlink(folder: int | None, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)

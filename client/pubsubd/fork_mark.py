"""A mark that every fork wipes out, also one that Python is not told of."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from typing import Final

_MADV_WIPEONFORK: Final = 18
"""Linux 4.14 and later: a forked child finds zeros, see madvise(2). `mmap` does not name it."""


def _wiped_by_a_fork() -> memoryview:
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):
            page.madvise(_MADV_WIPEONFORK)
            return memoryview(page)
    return memoryview(bytearray(1))


mark: Final = _wiped_by_a_fork()
"""`mark[0]` is 1 in the process that has set it, and 0 in a child that was forked since.

Asking the system for the process id costs ten times as much: a message that is in hand is not worth a system call.
Where the system wipes no memory it stays 1, and a fork by C code is noticed by `forks.check_process` alone.
"""

"""A mark that every fork clears, also a fork by C code of which Python does not know."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from typing import Final

_MADV_WIPEONFORK: Final = 18
"""Linux 4.14 and later: a forked child finds zeros, see madvise(2). The module `mmap` lacks this constant."""


def _wiped_by_a_fork() -> memoryview:
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):
            page.madvise(_MADV_WIPEONFORK)
            return memoryview(page)
    return memoryview(bytearray(1))


mark: Final = _wiped_by_a_fork()
"""`mark[0]` is 1 in the process that set it, and 0 in a child forked later.

Reading it costs a tenth of a system call for the process id. On other systems than Linux it stays 1 after a fork by
C code; then only `forks.check_process` notices that fork.
"""

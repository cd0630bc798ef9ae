"""Addresses of Unix sockets: a path of any length within the limit of the system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

ADDRESS_BYTES: Final = 107
"""The longest path that the address of a Unix socket holds."""


@contextlib.contextmanager
def within_limit(path: str) -> Iterator[str]:
    """A path to the same socket within `ADDRESS_BYTES`, by the folder's file descriptor if `path` is too long."""
    folder, name = os.path.split(path)
    if len(os.fsencode(path)) <= ADDRESS_BYTES or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{name}"
    finally:
        os.close(opened)

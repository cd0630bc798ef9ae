"""Tests as other users: they need root, which can act as any user and give files away, or are skipped with the
reason.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

OURS: Final = 54_321
STRANGER: Final = 54_322
"""Uids, and gids of the groups of these names. They need no entry in the user database."""

needs_root: Final = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to be other users and give files to them"
)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A new folder that all users may enter. pytest's folders are for one user, and too long for a socket's path."""
    path = Path(tempfile.mkdtemp(prefix="ps-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def acting_as(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """Inside this context the process has the rights of another user, in all its threads."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])
        os.setgroups(before[2])

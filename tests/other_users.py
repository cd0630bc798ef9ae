"""Tests about other users: run as root, who can be anybody and give files to anybody, or skipped with the reason."""

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
"""Uids, and gids of the groups of these names. Nobody has to know them."""

needs_root: Final = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to be other users and give files to them"
)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A new one that everybody may look into; pytest's own are for one user, and too long for a socket's path."""
    path = Path(tempfile.mkdtemp(prefix="ps-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def acting_as(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """This process has the rights of another user in here, in all its threads."""
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

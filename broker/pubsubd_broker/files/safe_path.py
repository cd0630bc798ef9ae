"""Safe paths: no other user can swap what stands there. Folders are checked one by one, and made where missing.

A folder on the way is safe if only we and root can put something else in the place of what is in it:

- it belongs to us (effective uid) or to root, and so does every symbolic link that leads there;
- others cannot write to it, unless it is sticky: there, no other user can touch what belongs to us or root;
- nor can its group, unless it is sticky, or root's group, or one that we are told to trust. Our own primary
  group always is: on most systems it has no other member, and with their usual umask all that we make is
  writable by it.

What has been found safe stays so: only those whom we trust could change it between this look and its use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from pubsubd_protocol.errors import PubSubError

MAX_LINKS: Final = 40
"""Symbolic links on one way; as many as Linux follows."""

ROOT: Final = 0


class UnsafePath(PubSubError):
    """Another user could put something in the place of what is at or below `component`. Says who, and what to do."""

    def __init__(self, component: str, problem: str) -> None:
        super().__init__(f"{component} {problem}")
        self.component = component


@dataclass(frozen=True, slots=True)
class Trust:
    """Users that may own what is on the way, and groups that may write to it."""

    uids: frozenset[int]
    gids: frozenset[int]

    @classmethod
    def of_this_process(cls, groups: Iterable[int] = ()) -> Self:
        """This user and root, this process's primary group and root's, and `groups`."""
        return cls(frozenset({ROOT, os.geteuid()}), frozenset({ROOT, os.getegid(), *groups}))

    def check_owner(self, path: str, status: os.stat_result) -> None:
        """Raises `UnsafePath`."""
        if status.st_uid not in self.uids:
            raise UnsafePath(
                path,
                f"belongs to another user (uid {status.st_uid}, we are {os.geteuid()}): "
                "choose a place of your own",
            )

    def check_writers(self, path: str, status: os.stat_result) -> None:
        """Raises `UnsafePath` if a stranger can make something in this folder, sticky or not."""
        if status.st_mode & stat.S_IWOTH:
            whom, way_out = "others", "o-w"
        elif status.st_mode & stat.S_IWGRP and status.st_gid not in self.gids:
            whom, way_out = f"its group (gid {status.st_gid})", "g-w"
        else:
            return
        # A sticky one, /tmp for one, is open on purpose.
        sticky = status.st_mode & stat.S_ISVTX
        advice = (
            "choose one below it" if sticky else f"choose another folder, or chmod {way_out} it"
        )
        raise UnsafePath(
            path,
            f"(mode {stat.S_IMODE(status.st_mode):04o}) can be written to by {whom}: {advice}",
        )


def prepare_folder(path: str, mode: int, trust: Trust) -> None:
    """Makes the folder `path` where it is missing, each with `mode`, and checks all that leads there from `/`.

    Raises `UnsafePath`, or `OSError` for what cannot be made or looked at. The last folder may be a sticky one
    that others write to, as /tmp is: see `Trust.check_writers`.
    """
    # Where we are matters only to a relative path, and may be gone.
    left = deque(_names(path if os.path.isabs(path) else os.path.join(os.getcwd(), path)))
    here = "/"
    _check_folder(here, os.lstat(here), trust)
    links = 0
    while left:
        name = left.popleft()
        if name == "..":
            # The real folder is checked, as the kernel sees it: no link is left in `here`.
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        status = _found_or_made(there, mode)
        trust.check_owner(there, status)
        if not stat.S_ISLNK(status.st_mode):
            _check_folder(there, status, trust)
            here = there
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(there)
        left.extendleft(reversed(_names(target)))
        if target.startswith("/"):
            here = "/"


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _found_or_made(path: str, mode: int) -> os.stat_result:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        # Another process was faster. Its folder is checked like one that was there before.
        return os.lstat(path)
    # The umask may have taken something; what the folder above has handed down stays.
    os.chmod(path, mode | os.lstat(path).st_mode & stat.S_ISGID)
    return os.lstat(path)


def _check_folder(path: str, status: os.stat_result, trust: Trust) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    trust.check_owner(path, status)
    if not status.st_mode & stat.S_ISVTX:
        trust.check_writers(path, status)

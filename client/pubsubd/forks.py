"""Forked children: they inherit objects whose connections, tasks and locks belong to the parent's loop.

In the child each of them becomes what it was before it was opened. Nothing is said on the parent's
connections: a shutdown would end them for the parent too, and so would a change of the epoll set that
both processes share. Therefore /dev/null takes the place of each inherited socket, under the same
descriptor, and a later close of that descriptor in the child closes /dev/null. A parent that dies
is then noticed by its broker at once, though its children live on.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final, Protocol
from weakref import WeakSet

from pubsubd.fork_mark import mark


class Inherited(Protocol):
    """An object that knows how to begin anew."""

    def forked(self) -> None:
        """Called in the child, before it runs on: forget all that the parent goes on using. Never blocks."""


_objects: Final[WeakSet[Inherited]] = WeakSet()
_sockets: Final[WeakSet[socket.socket]] = WeakSet()
_kept: Final[list[object]] = []


def begins_anew(thing: Inherited) -> None:
    """Makes `thing` begin anew in every child that is forked from now on."""
    _objects.add(thing)


def belongs_here(sock: socket.socket) -> None:
    """Makes every child that is forked from now on let go of `sock`."""
    _sockets.add(sock)


def keep(*things: object) -> None:
    """Keeps `things` of the parent's loop from being destroyed in the child, with complaints and effects."""
    _kept.append(things)


def _let_go() -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for sock in list(_sockets):
            if sock.fileno() >= 0:
                os.dup2(null, sock.fileno(), inheritable=False)
        os.close(null)


def check_process() -> None:
    """Notices a fork by C code, which Python was not told of. Call it before anything open is used."""
    if not mark[0] or os.getpid() != _process[0]:
        _begin_anew()


def _begin_anew() -> None:
    """In a child, before it has opened anything."""
    _this_process()
    _let_go()
    for thing in list(_objects):
        thing.forked()


def _this_process() -> None:
    _process[:] = [os.getpid()]
    mark[0] = 1


_process: Final[list[int]] = []
_this_process()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)

"""Forked children: they inherit objects whose connections, tasks and locks belong to the parent's event loop.

In the child each such object returns to its state before it was opened. The child sends nothing on the parent's
connections and does not shut them down: that would end them for the parent, too. The same holds for the epoll set
that both processes share. Therefore the child replaces each inherited socket by /dev/null, under the same
descriptor, and later closes /dev/null. When the parent dies, the broker notices it at once, though children live on.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final, Protocol
from weakref import WeakSet

from pubsubd.fork_mark import mark


class Inherited(Protocol):
    """An object that can return to its state before it was opened."""

    def forked(self) -> None:
        """Forget all that the parent goes on using. Called in the child, first of all. Never blocks."""


_objects: Final[WeakSet[Inherited]] = WeakSet()
_sockets: Final[WeakSet[socket.socket]] = WeakSet()
_kept: Final[list[object]] = []


def begins_anew(thing: Inherited) -> None:
    """Call `thing.forked()` in every child that is forked from now on."""
    _objects.add(thing)


def belongs_here(sock: socket.socket) -> None:
    """Release `sock` in every child that is forked from now on."""
    _sockets.add(sock)


def keep(*things: object) -> None:
    """Keep `things` of the parent's loop alive in the child: destroying them would warn and have effects."""
    _kept.append(things)


def _let_go() -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for sock in list(_sockets):
            if sock.fileno() >= 0:
                os.dup2(null, sock.fileno(), inheritable=False)
        os.close(null)


def check_process() -> None:
    """Notice a fork by C code, of which Python does not know. Call it before using anything open."""
    if not mark[0] or os.getpid() != _process[0]:
        _begin_anew()


def _begin_anew() -> None:
    """Reset all registered objects. Called in a child, before it opens anything."""
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

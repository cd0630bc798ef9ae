"""Credentials of the process at the other end of a Unix socket, as the kernel names them."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Final

_PEER_GROUPS: Final = 59
"""SO_PEERGROUPS, since Linux 4.13; Python has no name for it."""

_NOBODY: Final = 2**32 - 1
"""Id where the kernel knows of no process. An unknown one's pid alone is 0 too: one outside of our container."""

_UCRED: Final = struct.Struct("iII")
_GID: Final = struct.Struct("I")

_USUAL_BYTES: Final = 1024
"""256 groups: the longest answer that Python takes from `getsockopt`."""

_MOST_BYTES: Final = 65_536 * _GID.size
"""NGROUPS_MAX: no process has more."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials that the other end had as it connected, or began to listen; later changes do not count.

    `groups`: its supplementary groups, in order; empty where the system does not tell. In a container, whom it has
    no number for appears as the overflow uid and gid, 65534 as a rule.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def credentials_of(sock: socket.socket) -> Credentials | None:
    """None where the kernel says nothing: not Linux, not a Unix socket, not connected. Raises `OSError`."""
    if sys.platform != "linux":
        return None
    answer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(answer)
    if pid == 0 and uid == gid == _NOBODY:
        return None
    return Credentials(pid, uid, gid, _groups_of(sock))


def _groups_of(sock: socket.socket) -> tuple[int, ...]:
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, _USUAL_BYTES)
    except OSError as error:
        if error.errno in (errno.ENOPROTOOPT, errno.ENODATA):
            return ()
        if error.errno != errno.ERANGE:
            raise
        answer = _long_answer(sock.fileno())
    return tuple(gid for (gid,) in _GID.iter_unpack(answer))


def _long_answer(descriptor: int) -> bytes:
    """Groups of a user with more than 256, which directories of large companies give. Past Python's limit."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_MOST_BYTES)
    length = ctypes.c_uint32(_MOST_BYTES)
    if libc.getsockopt(descriptor, socket.SOL_SOCKET, _PEER_GROUPS, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "the groups of the other end cannot be read")
    return buffer.raw[: length.value]

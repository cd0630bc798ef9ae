"""Texts of `BrokerUnavailable`: cause and remedy."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from pubsubd.errors import BrokerUnavailable
from pubsubd_protocol.socket_path import folder_below_tmp

_NOBODY = {errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


def not_reached(socket: str, error: OSError) -> BrokerUnavailable:
    """The error for a connection that the system refused."""
    if error.errno in _NOBODY:
        remedy = "start one with `pubsubd start`"
    elif error.errno in _FORBIDDEN:
        remedy = f"it belongs to {_owner(socket)}, this process is uid {os.getuid()}: run it as that user"
    else:
        remedy = "check that this is the path of a broker's socket"
    return BrokerUnavailable(socket, f"{error.strerror or error}; {remedy}")


def check_folder_below_tmp(socket: str) -> None:
    """Raises `BrokerUnavailable` for the default path below /tmp, if another user owns its folder.

    Every user knows that path and can create the folder first, and then listen there. Other users cannot change a
    folder of this user or of root. Any other path was chosen by an administrator or the application, so it is not
    checked. Raises `OSError`.
    """
    uid = os.getuid()
    folder = folder_below_tmp(uid)
    if os.path.dirname(socket) != folder:
        return
    status = os.lstat(folder)
    if status.st_uid not in (0, uid) or not stat.S_ISDIR(status.st_mode):
        owned = status.st_uid in (0, uid)
        what = "is not a folder" if owned else f"belongs to uid {status.st_uid}"
        raise BrokerUnavailable(
            socket,
            f"{folder} {what}, so another user may listen there (this process is uid {uid}): "
            "remove it, or give another path ($PUBSUBD_SOCKET) to the broker and to its clients",
        )


def silent(socket: str, timeout_s: float) -> BrokerUnavailable:
    """The error for a process that listens at the socket and does not answer."""
    return BrokerUnavailable(
        socket,
        f"a process listens there, but sent nothing for {timeout_s:g} s; "
        "it hangs, is stopped or is overloaded: look at that process",
    )


def connection_lost(socket: str, error: Exception | None) -> BrokerUnavailable:
    """The error for a connection that was open and is gone."""
    return BrokerUnavailable(
        socket, f"the connection was lost ({error or 'closed by the broker'}); its log may say why"
    )


def _owner(socket: str) -> str:
    for place in (Path(socket), *Path(socket).absolute().parents):
        try:
            return f"uid {place.stat().st_uid}"
        except OSError:
            continue  # This user may not search the folder: name the folder's owner instead.
    return "another user"

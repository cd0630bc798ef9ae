"""Sentences for `BrokerUnavailable`: each cause, and the remedy."""

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
    """The system says why there is no connection."""
    if error.errno in _NOBODY:
        remedy = "start one with `pubsubd start`"
    elif error.errno in _FORBIDDEN:
        remedy = f"it belongs to {_owner(socket)}, this process is uid {os.getuid()}: run it as that user"
    else:
        remedy = "is that the path of a broker's socket?"
    return BrokerUnavailable(socket, f"{error.strerror or error}; {remedy}")


def check_folder_below_tmp(socket: str) -> None:
    """Raises `BrokerUnavailable` for the default path below /tmp, if a stranger has made its folder.

    Every user knows that path and may be the first to make it, so any user could listen there. A folder that is ours or
    root's no other user can change. Any other path was chosen by an administrator or the application. Raises `OSError`.
    """
    uid = os.getuid()
    folder = folder_below_tmp(uid)
    if os.path.dirname(socket) != folder:
        return
    status = os.lstat(folder)
    if status.st_uid not in (0, uid) or not stat.S_ISDIR(status.st_mode):
        what = "is no folder" if status.st_uid in (0, uid) else f"belongs to uid {status.st_uid}"
        raise BrokerUnavailable(
            socket,
            f"{folder} {what}, so anybody may listen there, and this process is uid {uid}: "
            "remove it, or give another path ($PUBSUBD_SOCKET) to the broker and to its clients",
        )


def silent(socket: str, timeout_s: float) -> BrokerUnavailable:
    """A process holds the socket, and says nothing."""
    return BrokerUnavailable(
        socket,
        f"something listens there, but has said nothing for {timeout_s:g} s; "
        "it hangs, is stopped or has too much to do: look at its process",
    )


def lost(socket: str, error: Exception | None) -> BrokerUnavailable:
    """The broker was there, and has gone."""
    return BrokerUnavailable(
        socket, f"the connection was lost ({error or 'closed by the broker'}); its log may say why"
    )


def _owner(socket: str) -> str:
    for place in (Path(socket), *Path(socket).absolute().parents):
        try:
            return f"uid {place.stat().st_uid}"
        except OSError:
            continue  # The path lies in a folder that may not be searched: the folder's owner will do.
    return "another user"

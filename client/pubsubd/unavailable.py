"""Why no broker answers, and what helps: a sentence for each thing that can happen."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pubsubd.errors import BrokerUnavailable

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


def silent(socket: str, timeout_s: float) -> BrokerUnavailable:
    """Somebody holds the socket, and says nothing."""
    return BrokerUnavailable(
        socket,
        f"something listens there, but has said nothing for {timeout_s:g} s; "
        "it hangs, is stopped or has too much to do: look at its process",
    )


def lost(socket: str, error: Exception | None) -> BrokerUnavailable:
    """It was there, and has gone."""
    return BrokerUnavailable(
        socket, f"the connection was lost ({error or 'closed by the broker'}); its log may say why"
    )


def _owner(socket: str) -> str:
    for place in (Path(socket), *Path(socket).absolute().parents):
        try:
            return f"uid {place.stat().st_uid}"
        except OSError:
            continue  # What stands in a folder that may not be searched: the folder's owner will do.
    return "another user"

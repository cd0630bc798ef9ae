"""The default path of the clients' Unix socket, the same for brokers, clients and commands."""

from __future__ import annotations

from collections.abc import Mapping


def default_socket_path(environment: Mapping[str, str], uid: int) -> str:
    """`$PUBSUBD_SOCKET`, else in `$XDG_RUNTIME_DIR`, else below `/tmp`."""
    path = environment.get("PUBSUBD_SOCKET")
    if path:
        return path
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime:
        return f"{runtime}/pubsubd/pubsubd.sock"
    return f"{folder_below_tmp(uid)}/pubsubd.sock"


def folder_below_tmp(uid: int) -> str:
    """The folder of last resort. Any local user can create it first: check its owner before use."""
    return f"/tmp/pubsubd-{uid}"

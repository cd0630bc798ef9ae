"""Place of the snapshot that a broker without a journal leaves at a clean stop: beside the clients' socket. Pure.

/run/user/1000/pubsubd/pubsubd.sock
/run/user/1000/pubsubd/pubsubd.sock.state/NODE/      a journal's folder, for each node that was served there
"""

from __future__ import annotations


def snapshots_of(socket: str) -> str:
    return f"{socket}.state"


def folder_beside(socket: str, node: str) -> str:
    """Folder of `node` if the settings name no journal. A node's name is always good as a file's."""
    return f"{snapshots_of(socket)}/{node}"

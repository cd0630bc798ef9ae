"""Snapshots of earlier lives beside the clients' socket: removed, or kept, once a new life has begun.

The socket's lock keeps other brokers off these folders, too: only the broker that has the socket looks into them.
"""

from __future__ import annotations

import os
import shutil
from typing import Final

import structlog

from pubsubd_broker.core.journal.journal import Remove, Work
from pubsubd_broker.core.journal.recovery import JournalError
from pubsubd_broker.journal.folder import JournalFolder
from pubsubd_broker.settings.snapshot_place import folder_beside, snapshots_of
from pubsubd_broker.settings.values import Settings

MOST_OTHERS: Final = 1
"""Snapshots of other nodes that stay beside a socket: a wrong `--node` is forgiven once, renamed nodes fill no disk."""

log = structlog.get_logger("pubsubd")


def tidy_snapshots(settings: Settings) -> None:
    """Removes what lies beside the socket and is not for this life. To be called when the life has begun."""
    if settings.journal != folder_beside(settings.socket, settings.node):
        use_up(settings.socket, settings.node)
    make_room(settings.socket, settings.node)


def use_up(socket: str, node: str) -> None:
    """Removes the snapshot of `node`: a life that does not go on with its history has begun.

    A later life would continue that history as if there had been nothing in between.
    """
    path = folder_beside(socket, node)
    if not os.path.lexists(path):
        return
    try:
        folder = JournalFolder(path)
        try:
            numbers = folder.numbers()
            folder.tidy()
            folder.perform(Work(True, [Remove(number) for number in numbers]))
        finally:
            folder.close()
        if numbers:
            log.warning(
                "snapshot.discarded",
                folder=path,
                reason="this life keeps its stream elsewhere, or nowhere: readers are told state_lost",
            )
        shutil.rmtree(path)
    except (JournalError, OSError) as error:
        log.warning("snapshot.left", folder=path, reason=str(error), remedy="remove it by hand")


def make_room(socket: str, node: str) -> None:
    """Removes what other nodes left beside this socket, but for the newest `MOST_OTHERS`, and what they used up."""
    above = snapshots_of(socket)
    try:
        others = [
            each.path
            for each in os.scandir(above)
            if each.name != node and each.is_dir(follow_symlinks=False)
        ]
        held = sorted((path for path in others if _holds(path)), key=os.path.getmtime)
        useless = {*others} - {*held[-MOST_OTHERS:]}
        for path in sorted(useless):
            shutil.rmtree(path)
            if path in held:
                log.warning("snapshot.removed", folder=path, reason="newer ones lie beside it")
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("snapshot.left", folder=above, reason=str(error), remedy="remove it by hand")


def _holds(path: str) -> bool:
    # A folder that was set aside counts, too: ".journal" is not the end of its name.
    return any(".journal" in name for name in os.listdir(path))

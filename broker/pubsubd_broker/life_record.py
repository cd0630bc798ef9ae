"""A broker's record of its lives: one witness beside the clients' socket, and one in the journal's folder.

/run/user/1000/pubsubd/pubsubd.sock
/run/user/1000/pubsubd/pubsubd.sock.life     the last life that was served there, with a journal or without
/var/lib/pubsubd/life                        in the journal's folder

Nothing that goes wrong here keeps a broker from starting. What can't be proved after it is told as unknown.

A store into a mapped file waits for the disk now and then: when its page was just written back, or the file system is frozen.
(JVMs stood still for seconds that way: their statistics were mapped from /tmp.) A socket mostly lies on a tmpfs, as /run is,
where that never happens. Then the count is kept there alone, and the witness in the journal's folder does not count.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

import structlog

from pubsubd_broker.core.journal.whole_end import End, Evidence, Found, Witness, begun
from pubsubd_broker.journal_folder import JournalFolder
from pubsubd_broker.life_file import (
    BOOT_ID,
    IN_MEMORY,
    boot_id,
    file_system_of,
    read_life,
    remove_life,
)
from pubsubd_broker.life_place import Counter, LifePlace
from pubsubd_broker.safe_path import UnsafePath
from pubsubd_protocol.positions import Epoch

IN_FOLDER: Final = "life"

log = structlog.get_logger("pubsubd")

_UNPROVED: Final = {
    "consequence": "after a crash readers may be told state_lost, though nothing is missing"
}

_SHOW_BOOT_ID: Final = "on Linux, something hides /proc/sys from the broker, as ProcSubset=pid of a systemd unit does: leave that out"


def life_beside(socket: str) -> str:
    return f"{socket}.life"


class DiskRecord:
    """See `LifeRecord`. It is made and begun in any thread; `accepted` is called by the loop's."""

    def __init__(self, socket: str, node: str) -> None:
        """Reads what lies beside `socket`, whose lock keeps other brokers off that file, too."""
        self._node = node
        self._path = life_beside(socket)
        self._folder: JournalFolder | None = None
        self._at_once = False
        self._witness: Witness | None = None
        self._counter = Counter()
        self.beside: LifePlace | None = None
        """The place beside the socket, once this life has begun."""
        self.within: LifePlace | None = None
        """The place in the journal's folder, if this life has left a witness there as it began."""
        self._settled = False
        self.evidence = Evidence(None, _read(None, self._path), boot_id())
        if not self.evidence.boot:
            log.warning("life.no_boot_id", path=BOOT_ID, **_UNPROVED, remedy=_SHOW_BOOT_ID)

    def look_into(self, folder: JournalFolder, *, at_once: bool) -> None:
        """Reads what lies in the journal's folder. `at_once`: this life leaves its witness there as it begins.

        Otherwise `leave` does it at the clean end: before that the folder holds nothing that it could speak for. Nor may
        the witness of an earlier life stay: it would still vouch for a copy of that life's snapshot.
        """
        self._folder, self._at_once = folder, at_once
        self.evidence = replace(self.evidence, folder=_read(folder, IN_FOLDER))

    def begin(self, life: Epoch, end: End | None, missing: int | None) -> None:
        self._witness = begun(self._node, life, end, missing, self.evidence)
        self._counter.accepted = self._witness.accepted
        self.beside = self._make(None, self._path, self._witness)
        if self._folder is not None and self._at_once:
            elsewhere = self.beside.in_memory
            counting = not elsewhere or file_system_of(self._folder.descriptor) in IN_MEMORY
            witness = replace(self._witness, counting=counting)
            self.within = self._make(self._folder, IN_FOLDER, witness)
        elif self._settled:
            self._remove_used_up()

    def settle(self) -> None:
        """This life has really begun. Removes the witness of an earlier one where there is none of this one.

        Not before: a start that fails, as on a full disk, leaves the proof as it was, and takes no room that it had.
        """
        self._settled = True
        for place in (self.beside, self.within):
            if place is not None:
                place.remove_stale()
        if self._witness is not None:
            self._remove_used_up()

    def _remove_used_up(self) -> None:
        if self._folder is not None and not self._at_once:
            remove_life(self._folder.descriptor, IN_FOLDER)

    def leave(self, folder: JournalFolder, accepted: int) -> None:
        """This life ends cleanly, and all that it keeps is about to be written into `folder`."""
        if self._witness is not None:
            self._make(folder, IN_FOLDER, replace(self._witness, accepted=accepted))

    def accepted(self, following: int) -> None:
        self._counter.store(following)

    def _make(self, folder: JournalFolder | None, name: str, witness: Witness) -> LifePlace:
        place = LifePlace(folder, name, witness, self._counter, _say_unrecorded)
        place.make()
        if self._settled:
            place.remove_stale()
        return place


def _path(folder: JournalFolder | None, name: str) -> str:
    return name if folder is None else os.path.join(folder.path, name)


def _read(folder: JournalFolder | None, name: str) -> Found | None:
    path = _path(folder, name)
    try:
        found = read_life(None if folder is None else folder.descriptor, name)
    except UnsafePath as error:
        # It was never ours, so it says nothing of us. Nor can it be replaced where it is another user's.
        log.warning("life.foreign", path=path, reason=str(error), **_UNPROVED)
        return None
    if found is not None and found.witness is None:
        log.warning("life.unreadable", path=path, consequence="readers are told state_lost")
    return found


def _say_unrecorded(place: LifePlace, error: OSError) -> None:
    reason = error.strerror or str(error)
    log.warning("life.unrecorded", path=place.path, reason=reason, **_UNPROVED)

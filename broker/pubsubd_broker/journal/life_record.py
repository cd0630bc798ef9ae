"""A broker's record of its lives: one witness beside the clients' socket, and one in the journal's folder.

/run/user/1000/pubsubd/pubsubd.sock
/run/user/1000/pubsubd/pubsubd.sock.life     the last life that was served there, with a journal or without
/var/lib/pubsubd/life                        in the journal's folder

Nothing that goes wrong here keeps a broker from starting. What cannot be proved after it is told as unknown.

A store into a mapped file waits for the disk now and then: when its page was just written back, or the file system is frozen.
(JVMs stood still for seconds that way: their statistics were mapped from /tmp.) A socket mostly lies on a tmpfs, as /run is,
where that never happens. Then the count is kept there alone, and the witness in the journal's folder does not count.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Final

import structlog

from pubsubd_broker.core.journal.whole_end import Evidence, Found, RecoveredEnd, Witness, begun
from pubsubd_broker.files.safe_path import UnsafePath
from pubsubd_broker.journal.folder import MAKE_ROOM, JournalFolder
from pubsubd_broker.journal.life_file import (
    BOOT_ID,
    IN_MEMORY,
    boot_id,
    file_system_of,
    read_life,
    remove_life,
)
from pubsubd_broker.journal.life_place import Counter, LifePlace
from pubsubd_protocol.positions import Epoch

IN_FOLDER: Final = "life"

log = structlog.get_logger("pubsubd")

_MAY_BE_TOLD: Final = "readers may be told state_lost, though no message is missing"
_UNPROVED: Final = {"consequence": f"after a crash {_MAY_BE_TOLD}"}
_OTHERS_UNKNOWN: Final = {
    "consequence": "readers are not told of messages that lives at this socket without the journal have accepted; "
    f"after a crash {_MAY_BE_TOLD}"
}
_REMEDIES: Final = {
    errno.EISDIR: "remove the directory there",
    errno.EROFS: "mount it writable",
    errno.EACCES: "let the broker's user write into that folder",
    errno.EPERM: "let the broker's user write into that folder",
} | MAKE_ROOM

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
        # No call in between: it is called for each batch.
        self.accepted = self._counter.store
        self._beside: LifePlace | None = None
        self._within: LifePlace | None = None
        self._settled = False
        self._begun = False
        self.evidence = Evidence(None, _read(None, self._path), boot_id())
        if not self.evidence.boot:
            log.warning("life.no_boot_id", path=BOOT_ID, **_UNPROVED, remedy=_SHOW_BOOT_ID)

    @property
    def beside(self) -> LifePlace | None:
        """The place beside the socket, to be looked at as soon as this life has begun."""
        return self._beside if self._begun else None

    @property
    def within(self) -> LifePlace | None:
        """The place in the journal's folder, if this life has left a witness there as it began."""
        return self._within if self._begun else None

    def look_into(self, folder: JournalFolder, *, at_once: bool) -> None:
        """Reads what lies in the journal's folder. `at_once`: this life leaves its witness there as it begins.

        Otherwise `leave` does it at the clean end: before that the folder holds nothing that it could speak for. Nor may
        the witness of an earlier life stay: it would still vouch for a copy of that life's snapshot.
        """
        self._folder, self._at_once = folder, at_once
        self.evidence = replace(self.evidence, folder=_read(folder, IN_FOLDER))

    def begin(self, epoch: Epoch, end: RecoveredEnd | None, missing: int | None) -> None:
        self._witness = begun(self._node, epoch, end, missing, self.evidence)
        self._counter.accepted = self._witness.accepted
        alone = self._folder is None or not self._at_once
        self._beside = self._make(None, self._path, self._witness, alone=alone)
        if self._folder is not None and self._at_once:
            elsewhere = self._beside.in_memory
            counting = not elsewhere or file_system_of(self._folder.descriptor) in IN_MEMORY
            witness = replace(self._witness, counting=counting)
            self._within = self._make(self._folder, IN_FOLDER, witness)
        if self._settled:
            self.settle()

    def settle(self) -> None:
        """This life has really begun. No witness of an earlier one stays where none could be made for this one.

        Not before: a start that fails, as on a full disk, leaves the proof as it was, and takes no room that it had.
        """
        self._settled = True
        for place in (self._beside, self._within):
            if place is not None:
                place.settle()
        if self._witness is not None and self._folder is not None and not self._at_once:
            # The snapshot in it is used up.
            remove_life(self._folder.descriptor, IN_FOLDER)
        self._begun = self._witness is not None

    def leave(self, folder: JournalFolder, accepted: int) -> None:
        """This life ends cleanly, and all that it keeps is about to be written into `folder`."""
        if self._witness is not None:
            self._make(folder, IN_FOLDER, replace(self._witness, accepted=accepted)).settle()

    def _make(
        self, folder: JournalFolder | None, name: str, witness: Witness, *, alone: bool = False
    ) -> LifePlace:
        place = LifePlace(folder, name, witness, self._counter, self._unrecorded, alone=alone)
        place.make()
        return place

    def _unrecorded(self, place: LifePlace, error: OSError) -> None:
        remedy = _REMEDIES.get(error.errno or 0, "look at its disk")
        if place in (self._beside, self._within):
            remedy += ": the broker tries again every second"
        log.warning(
            "life.unrecorded",
            path=place.path,
            reason=error.strerror or str(error),
            consequence=self._without(place),
            remedy=remedy,
        )

    def _without(self, place: LifePlace) -> str:
        """Consequence of a missing witness at this place. Each file makes up for the other where it can."""
        if place is not self._beside:
            if self._beside is not None and self._beside.counts:
                return f"after the machine has gone down {_MAY_BE_TOLD}"
            return f"after this life {_MAY_BE_TOLD}"
        if self._folder is not None and self._at_once:
            if self._within is not None and self._within.counts:
                return f"if the journal's folder is lost, or copied, {_MAY_BE_TOLD}"
            return f"after a crash {_MAY_BE_TOLD}"
        if place.marked and self._folder is not None:
            return f"after this life {_MAY_BE_TOLD}"
        if place.marked:
            return f"in a later life that goes on with an older journal {_MAY_BE_TOLD}"
        return (
            "a later life that goes on with an older journal does not know of this one: its readers get no notice "
            "of the messages that are accepted now"
        )


def _path(folder: JournalFolder | None, name: str) -> str:
    return name if folder is None else os.path.join(folder.path, name)


def _read(folder: JournalFolder | None, name: str) -> Found | None:
    path = _path(folder, name)
    try:
        found = read_life(None if folder is None else folder.descriptor, name)
    except UnsafePath as error:
        # It was never ours, so it says nothing of us. Nor can it be replaced where it is another user's.
        meaning = _OTHERS_UNKNOWN if folder is None else _UNPROVED
        log.warning("life.foreign", path=path, reason=str(error), **meaning)
        return None
    if found is not None and found.witness is None:
        log.warning("life.unreadable", path=path, consequence="readers are told state_lost")
    return found

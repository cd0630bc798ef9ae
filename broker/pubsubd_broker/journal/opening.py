"""Opening of a journal: its folder, and what an earlier life left there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog

from pubsubd_broker.core.journal import whole_end
from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.journal.keeper import Kept
from pubsubd_broker.core.journal.records import FORMAT
from pubsubd_broker.core.journal.recovery import (
    Damage,
    JournalError,
    Recovered,
    UnknownFormat,
    recover,
    unreadable,
)
from pubsubd_broker.core.journal.whole_end import EndProof, Evidence
from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.journal.folder import JournalFolder, unusable
from pubsubd_broker.journal.life_record import DiskRecord
from pubsubd_broker.settings.snapshot_place import folder_beside
from pubsubd_broker.settings.values import Settings
from pubsubd_protocol.positions import MAX_LINEAGE

log = structlog.get_logger("pubsubd")

SEGMENTS_A_RING: Final = 8
"""Segments that hold as much as the ring. On disk is at most one segment more than that."""

LEAST_SEGMENT_BYTES: Final = 64 * 1024

_END: Final = {0: "whole", None: "unknown"}

LOST: Final = {"consequence": "readers are told state_lost after a restart"}


def open_journal(settings: Settings, record: DiskRecord) -> tuple[JournalFolder, Kept] | None:
    """Opens the folder, and reads what an earlier life left there; None if nothing is to be kept. Raises `JournalError`.

    `record`: of the lives of this node, which tells whether something is missing at the end of what was found.

    The folder beside the socket is used if no setting names one. The broker then starts even if that folder cannot be used.
    """
    if settings.journal is None:
        return None
    promised = settings.journal != folder_beside(settings.socket, settings.node)
    try:
        folder = open_folder(settings.journal)
    except JournalError as error:
        if promised:
            raise
        log.warning("snapshot.unavailable", folder=settings.journal, reason=str(error), **LOST)
        return None
    try:
        numbers = folder.numbers()
        record.look_into(folder, at_once=Fsync(settings.fsync) is not Fsync.SNAPSHOT)
        recovered = _recover(settings, folder, record.evidence, promised=promised)
    except BaseException:
        folder.close()
        raise
    interval_ns = int(settings.fsync_interval_s * SECOND_NS)
    segment_bytes = max(LEAST_SEGMENT_BYTES, settings.core.ring_bytes // SEGMENTS_A_RING)
    kept = Kept(Fsync(settings.fsync), interval_ns, segment_bytes, recovered, numbers, promised)
    return folder, kept


def open_folder(path: str) -> JournalFolder:
    """Raises `JournalError`. A snapshot that could not be removed would be continued a second time."""
    folder = JournalFolder(path)
    try:
        folder.probe()
    except BaseException:
        folder.close()
        raise
    return folder


def _recover(
    settings: Settings, folder: JournalFolder, evidence: Evidence, *, promised: bool
) -> Recovered | None:
    """State in the folder. Raises `JournalError` for one that cannot be used, if the settings promise that it is."""
    try:
        judge = partial(whole_end.lost_at, evidence=evidence)
        recovered = recover(settings.node, folder.read(), judge)
    except (JournalError, OSError) as error:
        if promised:
            raise unusable(folder.path, error) from error
        log.warning("snapshot.unusable", folder=folder.path, reason=str(error), **LOST)
        folder.unknown = isinstance(error, UnknownFormat)
        return None
    _log_damage(recovered.damage if recovered is not None else map(unreadable, folder.numbers()))
    if recovered is not None:
        _log_recovered(folder.path, recovered, whole_end.prove(recovered.end, evidence))
    return recovered


def _log_damage(found: Iterable[Damage]) -> None:
    for damage in found:
        log.warning(
            "journal.damaged",
            segment=damage.segment,
            what=damage.what,
            lost_from=damage.lost.start if damage.lost else None,
            lost_to=damage.lost.stop if damage.lost else None,
        )


def _log_recovered(path: str, recovered: Recovered, proof: EndProof) -> None:
    say = log.info if recovered.lost == 0 else log.warning
    say(
        "journal.recovered",
        journal=path,
        epoch=recovered.state.epoch.hex(),
        oldest=recovered.first,
        next=recovered.next,
        messages=sum(entry.count for entry in recovered.entries),
        consumers=len(recovered.state.consumers),
        sessions=len(recovered.state.sessions),
        end=_END.get(recovered.lost, "short"),
        lost=recovered.lost,
        **proof.told,
    )
    if recovered.format != FORMAT:
        log.info(
            "journal.upgraded",
            journal=path,
            from_format=recovered.format,
            to_format=FORMAT,
            consequence="earlier versions refuse this journal from now on",
        )
    forgotten = recovered.forgotten
    if forgotten:
        log.warning(
            "journal.lives_forgotten",
            lives=len(forgotten),
            up_to=max(end for _, end in forgotten),
            limit=MAX_LINEAGE,
            consequence="readers that stand there are told state_lost",
        )

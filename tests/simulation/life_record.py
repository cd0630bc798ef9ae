"""The files in which a simulated broker's lives leave their witnesses. They may be copied, lost or spoilt."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import Final

from tests.simulation.machine import Machine, Trace

from pubsubd_broker.core.journal.whole_end import (
    COUNT_AT,
    Evidence,
    FileIdentity,
    Found,
    RecoveredEnd,
    Witness,
    begun,
    checked,
    decode_witness,
    encode_witness,
)
from pubsubd_protocol.positions import Epoch

_COUNT: Final = struct.Struct("=Q")


class SimRecord:
    """See `LifeRecord`. Each life has its own; the files are the machine's."""

    def __init__(self, node: str, machine: Machine, *, looks_into_folder: bool) -> None:
        folder = _found(machine.folder) if looks_into_folder else None
        self.evidence = Evidence(folder, _found(machine.beside), b"boot %011d" % machine.boot)
        self._node = node
        self._machine = machine
        self._witness: Witness | None = None
        self._mapped: list[Trace] = []

    def begin(self, life: Epoch, end: RecoveredEnd | None, missing: int | None) -> None:
        self._witness = begun(self._node, life, end, missing, self.evidence)
        for trace in (self._machine.beside, self._machine.folder):
            if trace is not None and trace.life == life.hex():
                self._write(trace, self._witness)

    def leave(self, accepted: int) -> None:
        """A clean end: from here on the journal's folder speaks for this life."""
        trace = self._machine.folder
        if self._witness is not None and trace is not None and not trace.data:
            self._write(trace, replace(self._witness, accepted=accepted))

    def accepted(self, following: int) -> None:
        for trace in self._mapped:
            _COUNT.pack_into(trace.data, COUNT_AT, checked(following))

    def _write(self, trace: Trace, witness: Witness) -> None:
        trace.data[:] = encode_witness(
            replace(witness, file=FileIdentity(trace.inode, trace.inode))
        )
        trace.begin = witness.begin
        self._mapped.append(trace)


def forget_the_last(trace: Trace, chance: random.Random) -> None:
    """The last stored count did not reach the disk: an earlier count stands there."""
    witness = decode_witness(bytes(trace.data))
    if witness is not None:
        count = chance.randint(trace.begin, witness.accepted)
        _COUNT.pack_into(trace.data, COUNT_AT, checked(count))


def _found(trace: Trace | None) -> Found | None:
    if trace is None:
        return None
    witness = decode_witness(bytes(trace.data))
    bound = witness is not None and witness.file == FileIdentity(trace.inode, trace.inode)
    return Found(witness, bound)

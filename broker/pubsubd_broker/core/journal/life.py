"""This life of a node, noted for later lives: the history that it continues, and the end of what it has accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from pubsubd_broker.core.journal import whole_end
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.journal.whole_end import EndProof, Evidence, RecoveredEnd, Witness, begun
from pubsubd_protocol.positions import Epoch


class LifeRecord(Protocol):
    """Notes that no later life may miss. The shell provides a record that outlives the process."""

    evidence: Evidence
    """Witnesses of earlier lives."""

    def begin(self, epoch: Epoch, end: RecoveredEnd | None, missing: int | None) -> None:
        """Notes a life that begins behind `end`, where `missing` messages are lost. It has accepted none yet. May block."""

    def accepted(self, following: int) -> None:
        """Notes that all before the offset `following` is accepted. Called before the receipts are sent. Cheap."""


class MemoryRecord:
    """A `LifeRecord` in memory. A test can hand its `left` witness to a later record."""

    def __init__(self, node: str, evidence: Evidence | None = None) -> None:
        self.evidence = evidence or Evidence()
        self.witness: Witness | None = None
        self._node = node
        self._accepted = 0

    def begin(self, epoch: Epoch, end: RecoveredEnd | None, missing: int | None) -> None:
        self.witness = begun(self._node, epoch, end, missing, self.evidence)
        self._accepted = self.witness.begin

    def accepted(self, following: int) -> None:
        self._accepted = following

    @property
    def left(self) -> Witness | None:
        """The witness that stays if the life ends now."""
        return None if self.witness is None else replace(self.witness, accepted=self._accepted)


class Life:
    """The life of epoch `epoch`. The shell calls `begin` before the node serves any client or peer."""

    __slots__ = ("_behind", "epoch", "proof", "record", "recovered")

    def __init__(self, epoch: Epoch, record: LifeRecord, recovered: Recovered | None) -> None:
        self.epoch = epoch
        self.record = record
        self._behind: tuple[RecoveredEnd, int | None] | None = None
        self.recovered: Recovered | None = None
        """The history that peers gave; None if they gave none."""
        self.proof: EndProof | None = None
        """The proof for the history that peers gave; None if this life did not ask peers."""
        if recovered is not None:
            self._behind = recovered.end, recovered.lost

    def goes_on(self, recovered: Recovered) -> None:
        """Goes on with a history from peers. Witnesses of earlier lives tell how much is lost behind it."""
        self.recovered = recovered
        self.proof = whole_end.prove(recovered.end, self.record.evidence)
        recovered.judge(self.proof.lost)
        self._behind = recovered.end, recovered.lost

    def continues(self, recovered: Recovered) -> bool:
        """Whether `recovered` is proved to be the last state of its life, and no other life came since.

        Only then facts that later states may contradict can be trusted, such as the holder of a name.
        """
        evidence = self.record.evidence
        return recovered.lost == 0 and whole_end.is_last(recovered.end.epoch, evidence)

    def begin(self) -> None:
        """Notes this life for the next one. May block for a disk."""
        self.record.begin(self.epoch, *(self._behind or (None, None)))

    @property
    def latest_known(self) -> Epoch | None:
        """The last life of this node that a witness here names; None if none does."""
        beside = self.record.evidence.beside
        return None if beside is None or beside.witness is None else beside.witness.epoch

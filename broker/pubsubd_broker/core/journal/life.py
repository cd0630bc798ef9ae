"""This life of a node, as later ones will find it: what it goes on with, and how far it has accepted."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from pubsubd_broker.core.journal import whole_end
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.journal.whole_end import End, Evidence, Proof, Witness, begun
from pubsubd_protocol.positions import Epoch


class LifeRecord(Protocol):
    """Where a node notes what no later life may forget. A shell brings one that outlives the process."""

    evidence: Evidence
    """The witnesses of earlier lives."""

    def begin(self, life: Epoch, end: End | None, missing: int | None) -> None:
        """A life begins behind `end`, of which `missing` are lost. Nothing has been accepted under it yet. May block."""

    def accepted(self, following: int) -> None:
        """Everything before the offset `following` is accepted. Called before any receipt says so; cheap."""


class MemoryRecord:
    """A `LifeRecord` that ends with its object: its `witness` may be what a later one finds."""

    def __init__(self, node: str, evidence: Evidence | None = None) -> None:
        self.evidence = evidence or Evidence()
        self.witness: Witness | None = None
        self._node = node
        self._accepted = 0

    def begin(self, life: Epoch, end: End | None, missing: int | None) -> None:
        self.witness = begun(self._node, life, end, missing, self.evidence)
        self._accepted = self.witness.begin

    def accepted(self, following: int) -> None:
        self._accepted = following

    @property
    def left(self) -> Witness | None:
        """The witness that stays if the life ends now."""
        return None if self.witness is None else replace(self.witness, accepted=self._accepted)


class Life:
    """The life that has the epoch `epoch`. `begin` comes before the node serves anybody."""

    __slots__ = ("_behind", "epoch", "proof", "record", "recovered")

    def __init__(self, epoch: Epoch, record: LifeRecord, recovered: Recovered | None) -> None:
        self.epoch = epoch
        self.record = record
        self._behind: tuple[End, int | None] | None = None
        self.recovered: Recovered | None = None
        """The history that peers gave, if they gave one."""
        self.proof: Proof | None = None
        """The proof for the history that peers gave; None if this life did not ask peers."""
        if recovered is not None:
            self._behind = recovered.end, recovered.lost

    def goes_on(self, recovered: Recovered) -> None:
        """Peers have given this. How much is lost behind it is judged by what an earlier life left here."""
        self.recovered = recovered
        self.proof = whole_end.prove(recovered.end, self.record.evidence)
        recovered.judge(self.proof.lost)
        self._behind = recovered.end, recovered.lost

    def continues(self, recovered: Recovered) -> bool:
        """Whether it is proved that no other life came since, and that `recovered` is the last state of its own life.

        What a later state would contradict, as who holds a name, may be believed only then.
        """
        evidence = self.record.evidence
        return recovered.lost == 0 and whole_end.is_last(recovered.end.epoch, evidence)

    def begin(self) -> None:
        """Notes this life where the next one looks. May block for a disk."""
        self.record.begin(self.epoch, *(self._behind or (None, None)))

    @property
    def latest_known(self) -> Epoch | None:
        """The last life of this node that is known of here."""
        beside = self.record.evidence.beside
        return None if beside is None or beside.witness is None else beside.witness.life

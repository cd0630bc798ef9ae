"""The sessions of one consumer node that read from the producer itself: readers of its ring, from fetch to fetch."""

from __future__ import annotations

from typing import Final

from pubsubd_broker.core.log.pacing import Pacing
from pubsubd_protocol.attach import At, Claim
from pubsubd_protocol.positions import Position

MAX_CATCH_UPS: Final = 64
"""So many are waited for at once; of further ones those that asked last."""


class CatchUp:
    """One of them. Between two fetches it is known by the position to which the last answer led."""

    __slots__ = ("index", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self.index: int | None = None


class CatchUps:
    """Those of one link."""

    def __init__(self, pacing: Pacing, consumer: str) -> None:
        self._pacing = pacing
        self._consumer = consumer
        self._readers: dict[Position, CatchUp] = {}

    def goes_on(self, claim: Claim, index: int) -> CatchUp:
        """One that asks for what begins at item `index`: a new one, or one that has read up to there."""
        reader = self._take(claim) or CatchUp(self._consumer)
        reader.index = index
        return reader

    def reads_to(self, reader: CatchUp, position: Position, index: int) -> None:
        """It has been sent all before `position`."""
        reader.index = index
        replaced = self._readers.pop(position, None)
        if replaced is not None:
            self._pacing.leave(replaced)
        elif len(self._readers) >= MAX_CATCH_UPS:
            self._pacing.leave(self._readers.pop(next(iter(self._readers))))
        self._readers[position] = reader
        self._pacing.enter(reader)

    def ends(self, claim: Claim) -> None:
        """One has caught up, or asks for nothing more."""
        reader = self._take(claim)
        if reader is not None:
            self._pacing.leave(reader)

    def close(self) -> None:
        """The link is gone, and with it everybody behind it."""
        for reader in self._readers.values():
            self._pacing.leave(reader)
        self._readers.clear()

    def _take(self, claim: Claim) -> CatchUp | None:
        return self._readers.pop(claim.position, None) if isinstance(claim, At) else None

"""Sessions of one consumer node that read from the producer itself. Each is a reader of the ring, from fetch to fetch."""

from __future__ import annotations

from typing import Final

from pubsubd_broker.core.log.pacing import Pacing
from pubsubd_protocol.attach import At, Claim
from pubsubd_protocol.positions import Position

MAX_CATCH_UPS: Final = 64
"""Catch-ups of one link that publishers wait for. Beyond that the ones that asked longest ago are not waited for."""


class CatchUp:
    """A catch-up. Between two fetches it is known by the position at which the last answer ended."""

    __slots__ = ("index", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self.index: int | None = None


class CatchUps:
    """The catch-ups of one link."""

    def __init__(self, pacing: Pacing, consumer: str) -> None:
        self._pacing = pacing
        self._consumer = consumer
        self._readers: dict[Position, CatchUp] = {}

    def goes_on(self, claim: Claim, index: int) -> CatchUp:
        """The catch-up that asks for items from `index` on: a new one, or one that has read all before."""
        reader = self._take(claim) or CatchUp(self._consumer)
        reader.index = index
        return reader

    def reads_to(self, reader: CatchUp, position: Position, index: int) -> None:
        """Notes that `reader` has been sent all before `position`, where item `index` begins."""
        reader.index = index
        replaced = self._readers.pop(position, None)
        if replaced is not None:
            self._pacing.leave(replaced)
        elif len(self._readers) >= MAX_CATCH_UPS:
            self._pacing.leave(self._readers.pop(next(iter(self._readers))))
        self._readers[position] = reader
        self._pacing.enter(reader)

    def ends(self, claim: Claim) -> None:
        """Ends the catch-up that stands at `claim`: it has caught up, or asks for no more."""
        reader = self._take(claim)
        if reader is not None:
            self._pacing.leave(reader)

    def close(self) -> None:
        """Ends all catch-ups: the link is gone."""
        for reader in self._readers.values():
            self._pacing.leave(reader)
        self._readers.clear()

    def _take(self, claim: Claim) -> CatchUp | None:
        return self._readers.pop(claim.position, None) if isinstance(claim, At) else None

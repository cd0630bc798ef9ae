"""Quota: a shared amount of which each claimant leaves room for a newcomer."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple


def has_room(own: int, used: int, limit: int, more: int = 1) -> bool:
    """Whether a claimant that holds `own` of the `used` may take `more`: not if it held more than would stay free.

    A single claimant takes half of `limit` (and the amount that it takes last), k take all but a part in k + 1, and the
    next one finds room. Nothing is set aside: a single claimant is not kept small for others that are absent.
    Source: Choudhury and Hahne, Dynamic queue length thresholds for shared-memory packet switches (1998), alpha = 1.
    """
    return own <= limit - used - more


class Claimant(NamedTuple):
    """An account. `first`: it may take all that is left."""

    name: str
    first: bool = False


class Quota:
    """`used` of `limit` is taken, by claimants."""

    __slots__ = ("_of", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._of: Counter[Claimant] = Counter()

    def change(self, claimant: Claimant, held: int, wanted: int) -> bool:
        """Gives `claimant` the amount `wanted` instead of `held`. False: no room is left for that, and nothing has changed."""
        own = 0 if claimant.first else self._of[claimant] - held
        if wanted > held and not has_room(own, self.used, self.limit, wanted - held):
            return False
        self.used += wanted - held
        self._of[claimant] += wanted - held
        if not self._of[claimant]:
            del self._of[claimant]
        return True

    def taken(self, claimant: Claimant) -> str:
        """The amounts that are taken, for the message to a claimant that finds no room."""
        own = self._of[claimant]
        share = "" if claimant.first else ", which must leave as much to others"
        return f"{self.used} of {self.limit} are taken, {own} of them by {claimant.name}{share}"

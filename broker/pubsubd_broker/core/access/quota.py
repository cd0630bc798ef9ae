"""What there is only so much of, shared so that nobody who takes of it can keep the others out."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple


def has_room(own: int, used: int, limit: int, more: int = 1) -> bool:
    """Whether one who holds `own` of the `used` may take `more`: not if he held more than would stay free.

    So one takes half of `limit` (and what he takes last), k take all but a part in k + 1, and whoever comes next
    finds room. Nothing is set aside: one alone is not kept small for others who are not there.
    Source: Choudhury and Hahne, Dynamic queue length thresholds for shared-memory packet switches (1998), alpha = 1.
    """
    return own <= limit - used - more


class Claimant(NamedTuple):
    """Who takes. `first`: he may take all that is left."""

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
        """`claimant` has `wanted` instead of `held`. False: there is no room for him, and nothing has changed."""
        own = 0 if claimant.first else self._of[claimant] - held
        if wanted > held and not has_room(own, self.used, self.limit, wanted - held):
            return False
        self.used += wanted - held
        self._of[claimant] += wanted - held
        if not self._of[claimant]:
            del self._of[claimant]
        return True

    def taken(self, claimant: Claimant) -> str:
        """How much that is, for the one who finds no room."""
        own = self._of[claimant]
        share = "" if claimant.first else ", who is to leave as much to others"
        return f"{self.used} of {self.limit} are taken, {own} of them by {claimant.name}{share}"

"""What producers have answered on behalf of sessions, and those have not read yet: bounded for all of them together.

A session that takes nothing more keeps what was fetched for it, of every peer a pull's worth, or one entry if that is
larger. What is dropped here is fetched again when its session is there to read it: nothing is lost by that.
"""

from __future__ import annotations

from typing import Protocol


class Keeper(Protocol):
    """Who is given what was fetched."""

    @property
    def fetched_bytes(self) -> int:
        """How much of it has not been read."""

    def forget_fetched(self) -> None:
        """Drops it, to ask for it again."""


class FetchedShare:
    """At most `limit` bytes are kept, or what was fetched last."""

    __slots__ = ("_keepers", "dropped", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        """How often somebody has had to ask again."""
        # Whoever was given something longest ago first.
        self._keepers: dict[Keeper, None] = {}

    def given(self, keeper: Keeper) -> None:
        """`keeper` has been given something. Cost: a look at all who had something when that was done last."""
        self._keepers.pop(keeper, None)
        self._keepers[keeper] = None
        sizes = {each: each.fetched_bytes for each in self._keepers}
        total = sum(sizes.values())
        for each, size in sizes.items():
            if size and total > self.limit and each is not keeper:
                total -= size
                sizes[each] = 0
                self.dropped += 1
                each.forget_fetched()
        self._keepers = {each: None for each, size in sizes.items() if size}

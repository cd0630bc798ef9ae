"""Fetch budget: the bytes that were fetched from producers for sessions and not read yet, bounded for all sessions together.

A session that takes nothing more keeps what was fetched for it, of every peer a pull's worth, or one entry if that is
larger. What is dropped here is fetched again when its session is there to read it: nothing is lost by that.
"""

from __future__ import annotations

from typing import Protocol


class FetchingReader(Protocol):
    """A reader on whose behalf something was fetched."""

    @property
    def fetched_bytes(self) -> int:
        """Bytes that it has not read."""

    def forget_fetched(self) -> None:
        """Drops them, to ask for them again."""


class FetchBudget:
    """At most `limit` bytes are kept, or what was fetched last."""

    __slots__ = ("_readers", "dropped", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = 0
        """Number of times that fetched bytes were dropped, to be asked for again."""
        # The reader that was given something longest ago comes first.
        self._readers: dict[FetchingReader, None] = {}

    def given(self, reader: FetchingReader) -> None:
        """`reader` has been given something. Cost: a look at all who had something when that was done last."""
        self._readers.pop(reader, None)
        self._readers[reader] = None
        sizes = {each: each.fetched_bytes for each in self._readers}
        total = sum(sizes.values())
        for each, size in sizes.items():
            if size and total > self.limit and each is not reader:
                total -= size
                sizes[each] = 0
                self.dropped += 1
                each.forget_fetched()
        self._readers = {each: None for each, size in sizes.items() if size}

"""Send budget: the bytes of large entries that slow readers together may keep.

A reader is given a pull, or one entry if that is larger, and no more before its socket has taken that. The bytes are the
ring's own; but the ring goes on, and each of many slow readers could keep another entry that it has long dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from pubsubd_broker.core.limits import FETCH_BYTES

LARGE_BYTES: Final = FETCH_BYTES
"""Shorter buffers are not counted: a pull has few of them."""

R = TypeVar("R")


class SendBudget(Generic[R]):
    """`bytes` are kept, each buffer counted once, however many readers have it; `limit` may be."""

    __slots__ = ("_kept", "_readers", "bytes", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        # The one that has kept longest first.
        self._kept: dict[R, list[bytes]] = {}
        self._readers: Counter[int] = Counter()

    def given(self, reader: R, buffers: Iterable[bytes]) -> list[R]:
        """`reader` has sent what it was given before, and is given this. Returns the readers that keep too much for too long."""
        self.gone(reader)
        large = [each for each in buffers if len(each) > LARGE_BYTES]
        if not large:
            return []
        self._kept[reader] = large
        for each in large:
            # It is kept as long as it is counted: no other buffer has its id.
            self._readers[id(each)] += 1
            if self._readers[id(each)] == 1:
                self.bytes += len(each)
        slowest: list[R] = []
        while self.bytes > self.limit and len(self._kept) > 1:
            slowest.append(next(iter(self._kept)))
            self.gone(slowest[-1])
        return slowest

    def keeps(self, reader: R) -> bool:
        """Whether `reader` has something that counts."""
        return reader in self._kept

    def gone(self, reader: R) -> None:
        """`reader` keeps nothing any more."""
        for each in self._kept.pop(reader, ()):
            self._readers[id(each)] -= 1
            if not self._readers[id(each)]:
                del self._readers[id(each)]
                self.bytes -= len(each)

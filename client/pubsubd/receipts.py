"""Receipts: the places of published messages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import overload


class Receipt:
    """The place of an accepted message: `offset` of `node`'s stream under `epoch` (32 hex digits)."""

    __slots__ = ("epoch", "node", "offset")

    def __init__(self, node: str, epoch: str, offset: int) -> None:
        self.node = node
        self.epoch = epoch
        self.offset = offset

    def __repr__(self) -> str:
        return f"Receipt(node={self.node!r}, epoch={self.epoch!r}, offset={self.offset})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Receipt):
            return NotImplemented
        return (self.node, self.epoch, self.offset) == (other.node, other.epoch, other.offset)

    def __hash__(self) -> int:
        return hash((self.node, self.epoch, self.offset))


class Receipts(Sequence[Receipt]):
    """The receipts of many messages, in order: a sequence, with index, slice and length. Each is made on access.

    Cost: memory for each run of messages with consecutive offsets, usually one run a batch.
    """

    # For each run: the first receipt, and its index.
    __slots__ = ("_firsts", "_length", "_starts")

    def __init__(self) -> None:
        self._firsts: list[Receipt] = []
        self._starts: list[int] = []
        self._length = 0

    def append(self, node: str, epoch: str, offset: int, count: int) -> None:
        """Add `count` messages; the first stands at `offset`."""
        if not (self._firsts and self._goes_on(node, epoch, offset)):
            self._firsts.append(Receipt(node, epoch, offset))
            self._starts.append(self._length)
        self._length += count

    def _goes_on(self, node: str, epoch: str, offset: int) -> bool:
        last, behind = self._firsts[-1], self._length - self._starts[-1]
        return (last.node, last.epoch, last.offset + behind) == (node, epoch, offset)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Receipt: ...

    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...

    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"receipt {index} does not exist: there are {len(self)}")
        run = bisect_right(self._starts, at) - 1
        first = self._firsts[run]
        return Receipt(first.node, first.epoch, first.offset + at - self._starts[run])

    def __repr__(self) -> str:
        return f"Receipts({len(self)} messages in {len(self._firsts)} runs)"

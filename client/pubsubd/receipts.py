"""Where published messages stand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload


class Receipt:
    """A message was accepted: it stands at `offset` of `node`'s stream under `epoch` (32 hex digits)."""

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
    """The receipts of many messages, in their order; each is made when it is looked at.

    Held as runs: the receipt of a run's first message, and how many follow one another from there.
    """

    __slots__ = ("_runs", "_starts")

    def __init__(self, runs: Sequence[tuple[Receipt, int]]) -> None:
        self._runs = runs
        self._starts = list(accumulate((count for _, count in runs), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Receipt: ...

    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...

    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"receipt {index} of {len(self)}")
        run = bisect_right(self._starts, at) - 1
        first, _ = self._runs[run]
        return Receipt(first.node, first.epoch, first.offset + at - self._starts[run])

    def __repr__(self) -> str:
        return f"Receipts({len(self)} messages in {len(self._runs)} runs)"

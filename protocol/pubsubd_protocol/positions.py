"""Where a reader stands: epochs, offsets, lineages, positions, and their JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from pubsubd_protocol.errors import InvalidPosition

Epoch = NewType("Epoch", bytes)
"""Random 128-bit id (16 bytes) of one unbroken history of a stream."""

EPOCH_BYTES = 16

MAX_OFFSET = 2**53 - 1
"""Publishing is refused here, long before uint64 ends: every JSON reader can still hold the number."""

Lineage = tuple[tuple[Epoch, int], ...]
"""`((epoch, end), …)`, newest first: earlier epochs the stream continues, each up to offset `end`."""

MAX_LINEAGE = 1023
"""Lives that left something in the stream, and crashes that may have: a ring of the default size holds entries of fewer."""

MAX_NODE_NAME = 64

_NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")
_EPOCH_HEX = re.compile(r"[0-9A-Fa-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset a reader needs of one stream, and the epoch in which that offset means something."""

    epoch: Epoch
    offset: int


UNTOLD = Position(Epoch(bytes(EPOCH_BYTES)), 0)
"""Where a reader stands that has lost something and does not know it yet. No stream continues this epoch, so the
attach rule always tells it.
"""


@dataclass(frozen=True, slots=True)
class StreamView:
    """What a producer holds at one moment: `oldest <= offset < next`, on the branch `epoch` + `lineage`."""

    epoch: Epoch
    lineage: Lineage
    oldest: int
    next: int

    def until(self, offset: int) -> StreamView:
        """The part of it before `offset`."""
        return StreamView(self.epoch, self.lineage, min(self.oldest, offset), offset)

    def reach(self, epoch: Epoch) -> int | None:
        """The highest position under `epoch` that this branch contains; None if it never was on it."""
        if epoch == self.epoch:
            return self.next
        for earlier, end in self.lineage:
            if earlier == epoch:
                return end
        return None

    def place(self, offset: int) -> Position:
        """The position at `offset`, in the name that every reader there has."""
        return place(self.epoch, self.lineage, offset)

    def depth(self, position: Position) -> tuple[int, int]:
        """Orders positions in this stream: the later history first, then the offset. One of another branch is the lowest."""
        histories = [*(epoch for epoch, _ in reversed(self.lineage)), self.epoch]
        age = histories.index(position.epoch) if position.epoch in histories else -1
        return age, position.offset

    def contains(self, position: Position) -> bool:
        """Whether this branch holds, held or will hold all before `position`. The present epoch has no end yet."""
        reach = self.reach(position.epoch)
        return reach is not None and (position.epoch == self.epoch or position.offset <= reach)

    def covers(self, epoch: Epoch, following: int) -> bool:
        """Whether messages up to `following` that were placed under `epoch` can be part of this branch.

        A full lineage has let go of its oldest epochs. What they placed stands before the oldest end that it names.
        """
        reach = self.reach(epoch)
        if reach is not None:
            return following <= reach
        return len(self.lineage) >= MAX_LINEAGE and following <= self.lineage[-1][1]


def place(epoch: Epoch, lineage: Lineage, offset: int) -> Position:
    """The position at `offset`, named by the epoch that placed the message before it. Pure.

    That is the earliest epoch that reaches so far. So an epoch under which nothing was placed is in nobody's position,
    except for the first of a stream, and a lineage can do without it. Cost: a look at each later epoch.
    """
    for earlier, end in lineage:
        if end < offset:
            break
        epoch = earlier
    return Position(epoch, offset)


def succeed(view: StreamView, *, whole: bool) -> Lineage:
    """The lineage of the epoch that goes on where `view` ends. Pure.

    `whole`: everything that was ever placed under the epoch that ended is in `view`. If it placed nothing, no position
    names it and it takes no room. Else its readers may hold what is lost: they have to be told `ahead`.
    """
    if whole and view.place(view.next).epoch != view.epoch:
        return view.lineage
    lineage = ((view.epoch, view.next), *view.lineage)
    spare = len(lineage) - MAX_LINEAGE
    if spare <= 0:
        return lineage
    # First those under which no reader can stand where the ring goes on; then the oldest. Of epochs that end at one
    # place the earliest is the one that positions name.
    ends = [end for _, end in lineage]
    useless = [
        index
        for index in range(len(lineage) - 1, -1, -1)
        if ends[index] < view.oldest or ends[index] in ends[index + 1 :][:1]
    ]
    rest = [index for index in range(len(lineage) - 1, -1, -1) if index not in set(useless)]
    dropped = set([*useless, *rest][:spare])
    return tuple(each for index, each in enumerate(lineage) if index not in dropped)


def new_epoch(entropy: bytes) -> Epoch:
    """An epoch out of 16 bytes of the system's entropy. Never drawn twice, also not after a restore."""
    if len(entropy) != EPOCH_BYTES:
        raise ValueError(f"an epoch is {EPOCH_BYTES} bytes, not {len(entropy)}")
    return Epoch(entropy)


def is_node_name(name: str) -> bool:
    """1–64 of `A-Z a-z 0-9 . _ -`, beginning and ending with a letter or digit: what a host name may be."""
    return _NODE_NAME.match(name) is not None


def dump_positions(positions: Mapping[str, Position]) -> dict[str, list[str | int]]:
    """`{node: [epoch in hex, next offset]}`: survives `json.dumps` and back."""
    return {node: [p.epoch.hex(), p.offset] for node, p in positions.items()}


def load_positions(stored: object) -> dict[str, Position]:
    """The inverse of `dump_positions`. Raises `InvalidPosition` for anything else, naming the spot."""
    if not isinstance(stored, Mapping):
        raise InvalidPosition(
            f"a position is a mapping of node to [epoch, offset], not {type(stored).__name__}"
        )
    loaded: dict[str, Position] = {}
    for node, place in stored.items():
        if not isinstance(node, str) or not is_node_name(node):
            raise InvalidPosition(f"a position names its nodes; {node!r} is no node name")
        if not isinstance(place, (list, tuple)) or len(place) != 2:
            raise InvalidPosition(
                f"position of node {node!r}: expected [epoch, offset], found {place!r}"
            )
        text, offset = place
        if not isinstance(text, str) or not _EPOCH_HEX.match(text):
            raise InvalidPosition(
                f"position of node {node!r}: an epoch is 32 hex digits, found {text!r}"
            )
        if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset <= MAX_OFFSET:
            raise InvalidPosition(
                f"position of node {node!r}: an offset is 0..{MAX_OFFSET}, found {offset!r}"
            )
        loaded[node] = Position(Epoch(bytes.fromhex(text)), offset)
    return loaded

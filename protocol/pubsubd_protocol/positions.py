"""Positions of readers: epochs, offsets, lineages, positions, and their JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NewType

from pubsubd_protocol.errors import InvalidPosition

Epoch = NewType("Epoch", bytes)
"""Random 128-bit id (16 bytes) of one unbroken history of a stream."""

EPOCH_BYTES = 16

MAX_OFFSET = 2**53 - 1
"""The last offset. Publishing stops here, long before uint64 ends: every JSON reader can hold the number."""

Lineage = tuple[tuple[Epoch, int], ...]
"""`((epoch, end), …)`, newest first: earlier epochs that the stream continues, each up to offset `end`."""

Losses = tuple[tuple[Epoch, int | None], ...]
"""`((epoch, lost), …)`, newest first: earlier epochs that lost accepted messages beyond their end.

`lost`: the number of lost messages; None if unknown. An epoch of the lineage that is not listed here ended whole.
"""

MAX_LINEAGE = 1023
"""Earlier epochs that a lineage holds at most. A ring of the default size holds entries of fewer epochs."""

MAX_NODE_NAME = 64

_NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")
_EPOCH_HEX = re.compile(r"[0-9A-Fa-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset that a reader needs of one stream, and the epoch in which that offset is valid."""

    epoch: Epoch
    offset: int


NO_EPOCH = Epoch(bytes(EPOCH_BYTES))
"""The epoch of no stream, and of none's lineage."""

UNREPORTED_LOSS = Position(NO_EPOCH, 0)
"""The position of a reader that lost messages and was not told yet. No stream continues this epoch, so the attach
rule always answers with an expiry.
"""


@dataclass(frozen=True, slots=True)
class StreamView:
    """A producer's stream at one moment: it holds `oldest <= offset < next`, on the branch `epoch` + `lineage`.

    An epoch that ended with a loss leaves two positions at one offset: `(epoch, end)` stands before the gap, and the
    same offset under the next epoch stands behind it.
    """

    epoch: Epoch
    lineage: Lineage
    oldest: int
    next: int
    losses: Losses = ()

    def until(self, offset: int) -> StreamView:
        """The view of the stream before `offset`."""
        return replace(self, oldest=min(self.oldest, offset), next=offset)

    def reach(self, epoch: Epoch) -> int | None:
        """The highest offset under `epoch` that this branch contains; None if the branch never had this epoch."""
        if epoch == self.epoch:
            return self.next
        for earlier, end in self.lineage:
            if earlier == epoch:
                return end
        return None

    def place(self, offset: int) -> Position:
        """The position at `offset`, as every reader there names it; at a gap, the position behind the gap."""
        return place(self.epoch, self.lineage, offset, self.losses)

    @property
    def start(self) -> Position:
        """The position of a reader that has seen nothing of the stream: before every gap."""
        return Position(self.lineage[-1][0] if self.lineage else self.epoch, 0)

    def depth(self, position: Position) -> tuple[int, int]:
        """A key that orders positions of this stream: by epoch, then by offset. Another branch's position is lowest."""
        histories = [*(epoch for epoch, _ in reversed(self.lineage)), self.epoch]
        age = histories.index(position.epoch) if position.epoch in histories else -1
        return age, position.offset

    def is_before(self, one: Position, other: Position) -> bool:
        """Whether position `one` of this stream stands before `other`: by offset, and at one offset by the gaps ahead."""
        if one.offset != other.offset or not self.losses:
            return one.offset < other.offset
        return len(self.gaps(one.epoch)) > len(self.gaps(other.epoch))

    def contains(self, position: Position) -> bool:
        """Whether this branch holds, held or will hold all before `position`. The present epoch is still open."""
        reach = self.reach(position.epoch)
        return reach is not None and (position.epoch == self.epoch or position.offset <= reach)

    def covers(self, epoch: Epoch, following: int) -> bool:
        """Whether messages up to `following` that were placed under `epoch` can be part of this branch.

        A full lineage has dropped its oldest epochs. Their messages stand before the oldest end in the lineage.
        """
        reach = self.reach(epoch)
        if reach is not None:
            return following <= reach
        return len(self.lineage) >= MAX_LINEAGE and following <= self.lineage[-1][1]

    def gaps(self, epoch: Epoch) -> list[tuple[int, int | None]]:
        """`(offset, lost)` of each gap that lies before a reader under `epoch`, nearest first."""
        if not self.losses or epoch == self.epoch:
            return []
        lost = dict(self.losses)
        found: list[tuple[int, int | None]] = []
        for earlier, end in self.lineage:
            if earlier in lost:
                found.append((end, lost[earlier]))
            if earlier == epoch:
                found.reverse()
                return found
        return []


def place(epoch: Epoch, lineage: Lineage, offset: int, losses: Losses = ()) -> Position:
    """The position at `offset`, named by the epoch that placed the message before it. Pure.

    That is the earliest epoch that reaches `offset` and stands behind every gap there. An epoch that placed no message
    is therefore in no position, except the first epoch of a stream and the first behind a gap. A lineage can leave all
    others out. Cost: a look at each later epoch.
    """
    lost = dict(losses) if losses else ()
    for earlier, end in lineage:
        if end < offset or (end == offset and earlier in lost):
            break
        epoch = earlier
    return Position(epoch, offset)


def add_lost(one: int | None, other: int | None) -> int | None:
    """The sum of the messages lost in two places; None if one number is unknown."""
    return None if one is None or other is None else one + other


def succeed(view: StreamView, *, lost: int | None) -> tuple[Lineage, Losses]:
    """Lineage and losses of the epoch that goes on at the end of `view`. Pure.

    `lost`: the number of messages that the ended epoch accepted and `view` does not hold; None if unknown.
    An epoch that placed nothing and lost nothing is in no position, so the lineage leaves it out.
    """
    if lost == 0 and view.place(view.next).epoch != view.epoch:
        return view.lineage, view.losses
    lineage = ((view.epoch, view.next), *view.lineage)
    losses = view.losses if lost == 0 else ((view.epoch, lost), *view.losses)
    spare = len(lineage) - MAX_LINEAGE
    return (lineage, losses) if spare <= 0 else _shorten(lineage, losses, view.oldest, spare)


def _shorten(lineage: Lineage, losses: Losses, oldest: int, spare: int) -> tuple[Lineage, Losses]:
    """A lineage without `spare` of its epochs.

    First it drops epochs that no position in the ring can name, then the oldest ones. Of several epochs with the same
    end, positions name only the earliest, unless a gap lies between them. The loss of a dropped epoch is added to the
    next older epoch, because a reader from there passes both gaps.
    """
    lost = dict(losses)
    ends = [end for _, end in lineage]
    useless = [
        index
        for index in range(len(lineage) - 1, -1, -1)
        if ends[index] < oldest
        or (ends[index] in ends[index + 1 :][:1] and lineage[index + 1][0] not in lost)
    ]
    rest = [index for index in range(len(lineage) - 1, -1, -1) if index not in set(useless)]
    dropped = set([*useless, *rest][:spare])
    for index in sorted(dropped):
        epoch = lineage[index][0]
        if epoch in lost and index + 1 < len(lineage):
            older = lineage[index + 1][0]
            lost[older] = add_lost(lost.pop(epoch), lost.get(older, 0))
    kept = tuple(each for index, each in enumerate(lineage) if index not in dropped)
    return kept, tuple((epoch, lost[epoch]) for epoch, _ in kept if epoch in lost)


def new_epoch(entropy: bytes) -> Epoch:
    """An epoch from 16 bytes of the system's entropy. Draw a new one for each life, also after a restore from a backup."""
    if len(entropy) != EPOCH_BYTES:
        raise ValueError(f"an epoch is {EPOCH_BYTES} bytes, not {len(entropy)}")
    return Epoch(entropy)


def is_node_name(name: str) -> bool:
    """Whether `name` has 1–64 characters of `A-Z a-z 0-9 . _ -`, first and last a letter or digit, as a host name."""
    return _NODE_NAME.match(name) is not None


def dump_positions(positions: Mapping[str, Position]) -> dict[str, list[str | int]]:
    """`{node: [epoch in hex, next offset]}`: survives `json.dumps` and back."""
    return {node: [p.epoch.hex(), p.offset] for node, p in positions.items()}


def load_positions(stored: object) -> dict[str, Position]:
    """The inverse of `dump_positions`. Raises `InvalidPosition`, which names the malformed place."""
    if not isinstance(stored, Mapping):
        raise InvalidPosition(
            f"a position is a mapping of node to [epoch, offset], not {type(stored).__name__}"
        )
    loaded: dict[str, Position] = {}
    for node, place in stored.items():
        if not isinstance(node, str) or not is_node_name(node):
            raise InvalidPosition(f"a position has an invalid node name: {node!r}")
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

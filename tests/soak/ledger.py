"""The messages that one reader was handed, kept as sums: cheap enough for full speed, and exact. Pure.

Each message names its publisher and carries that publisher's count. The reader needs no list of published messages:
counts go on by 1, whichever publishers publish between them. Where a count does not go on, a notice must have stood
before it, with at least as many messages missed.

At the end each publisher says how far it came, and `audit` compares each ledger with that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Final, Self

from pubsubd import CursorExpired, Message

HEAD: Final = Struct(">IQ")
"""The publisher's number and its count, from 0. The payload's rest is padding."""

UNCOUNTED: Final = 0
"""The number of publishers without a count: passers-by and marks.

The place of their messages is checked all the same.
"""

LANES: Final = ("x", "y")
"""The topics of a publisher, with one count each: a reader of one topic can check its counts, too."""


class Broken(AssertionError):
    """The guarantee does not hold for this reader."""


def number_of(node: str, lane: str, life: int) -> int:
    """The number of one life of the publisher on `node`, for one of its topics. `node` is one letter."""
    return ord(node) << 24 | ord(lane) << 16 | life


def node_of(number: int) -> str:
    return chr(number >> 24)


def lane_of(number: int) -> str:
    return chr(number >> 16 & 0xFF)


@dataclass(slots=True)
class Stream:
    """The reader's place in one node's stream, and the notices on the way."""

    next: int
    got: int = 0
    notices: int = 0
    missed: int = 0
    """Offsets that notices have passed over."""
    jumped: int = 0
    """Missing counts between messages: at most `missed`."""
    again: bool = False
    """A life began here at a place that the broker knew: at or before the last message counted."""


class Ledger:
    """Checks all that one reader is handed.

    `whole`: the reader wants every message, so its offsets go on by 1 as well.
    """

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.streams: dict[str, Stream] = {}
        self.nexts: dict[int, int] = {}
        """The next count of each publisher."""
        self.at_notice: dict[int, int] = {}
        """`nexts` as it was at the last notice of its stream."""

    def begin(self, position: Mapping[str, list[str | int]], *, again: bool) -> None:
        """A subscription is open at `position`.

        `again`: it was resumed by name, perhaps at a place before the ledger's.
        """
        for node, (_, offset) in position.items():
            stream = self.streams.setdefault(node, Stream(int(offset)))
            stream.again = again
            passed = int(offset) > stream.next
            # A reader of a part may have passed messages that are not for it.
            if (passed and self.whole) or (int(offset) < stream.next and not again):
                raise Broken(f"{node}: begins at {offset}, stood at {stream.next}")

    def got(self, batch: Sequence[Message]) -> None:
        first = batch[0]
        stream = self.streams.get(first.node)
        if stream is None:
            raise Broken(f"{first.node}: a message before any position in its stream")
        if first.offset < stream.next:
            if not stream.again:
                raise Broken(f"{first.node}: {first.offset} once more, {stream.next} is next")
            batch = [message for message in batch if message.offset >= stream.next]
            if not batch:
                return
            first = batch[0]
        last = batch[-1].offset
        if self.whole and (first.offset != stream.next or last - first.offset != len(batch) - 1):
            raise Broken(
                f"{first.node}: {len(batch)} messages from {first.offset} to {last}, {stream.next} is next"
            )
        stream.again = False
        stream.next = last + 1
        stream.got += len(batch)
        nexts, read = self.nexts, HEAD.unpack_from
        for message in batch:
            number, count = read(message.raw)
            if number:
                if count != nexts.get(number):
                    self._jump(stream, first.node, number, count)
                nexts[number] = count + 1

    def expired(self, notice: CursorExpired) -> None:
        """Raises `Broken` for a loss that a ring of this size does not explain."""
        stream = self.streams.get(notice.node)
        if stream is None or notice.reason != "overwritten" or notice.missed is None:
            raise Broken(f"nothing explains this: {notice!r}")
        lost = notice.next - stream.next
        # A reader of a part, and one that reads again, stands at a place that its broker knows and this ledger does
        # not.
        if lost < 0 or (self.whole and not stream.again and notice.missed != lost):
            raise Broken(f"{notice.node}: {notice}, but {stream.next} was next")
        stream.again = False
        stream.next = notice.next
        stream.notices += 1
        stream.missed += lost
        self.at_notice.update(
            {
                number: count
                for number, count in self.nexts.items()
                if node_of(number) == notice.node
            }
        )

    def stands(self, position: Mapping[str, list[str | int]]) -> None:
        """The subscription's place in each stream, behind all that this ledger has got."""
        for node, (_, offset) in position.items():
            stream = self.streams.setdefault(node, Stream(int(offset)))
            if stream.again and int(offset) < stream.next:
                continue
            # A reader of a part passes offsets that are not for it.
            if int(offset) < stream.next or (self.whole and int(offset) != stream.next):
                raise Broken(f"{node}: stands at {offset}, {stream.next} is next")
            stream.next = int(offset)

    def dump(self) -> str:
        """The ledger as text, for the next life."""
        return json.dumps(
            {
                "whole": self.whole,
                "streams": {node: asdict(stream) for node, stream in self.streams.items()},
                "nexts": self.nexts,
                "at_notice": self.at_notice,
            }
        )

    @classmethod
    def load(cls, text: str) -> Self:
        kept = json.loads(text)
        ledger = cls(kept["whole"])
        ledger.streams = {node: Stream(**stream) for node, stream in kept["streams"].items()}
        ledger.nexts = {int(number): count for number, count in kept["nexts"].items()}
        ledger.at_notice = {int(number): count for number, count in kept["at_notice"].items()}
        return ledger

    def _jump(self, stream: Stream, node: str, number: int, count: int) -> None:
        """A publisher's first message here, or one with another count than the next."""
        expected = self.nexts.get(number, 0)
        name = f"{node}: publisher {lane_of(number)}{number & 0xFFFF}"
        if node_of(number) != node:
            raise Broken(f"{name} of {node_of(number)} stands in another node's stream")
        if count < expected:
            raise Broken(f"{name}: {count} once more, {expected} is next")
        if count == expected:
            return
        stream.jumped += count - expected
        if expected != self.at_notice.get(number, 0) or stream.jumped > stream.missed:
            raise Broken(f"{name}: {expected} to {count - 1} are missing, and no notice said so")


@dataclass(frozen=True, slots=True)
class Account:
    """The counts of one life of a publisher: messages tried, and messages accepted."""

    number: int
    tried: int
    accepted: int


def audit(ledger: Ledger, lanes: str, accounts: Iterable[Account]) -> None:
    """Raises `Broken` unless each accepted message on these lanes came or was told as lost, and no other message
    came.
    """
    known = {account.number: account for account in accounts}
    for number in ledger.nexts:
        if number not in known:
            raise Broken(f"no publisher has published as {number:#x}")
    for account in known.values():
        if lane_of(account.number) not in lanes:
            continue
        came = ledger.nexts.get(account.number, 0)
        name = f"publisher {account.number:#x}"
        if came > account.tried:
            raise Broken(f"{name}: {came} came, {account.tried} were tried")
        stream = ledger.streams[node_of(account.number)]
        told = stream.notices > 0 and came == ledger.at_notice.get(account.number, 0)
        if came < account.accepted and not told:
            raise Broken(f"{name}: {came} came of {account.accepted}, and no notice said so")
        if told and stream.jumped + account.accepted - came > stream.missed:
            raise Broken(f"{name}: {came} came of {account.accepted}, {stream} explains fewer")

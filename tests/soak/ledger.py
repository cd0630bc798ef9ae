"""What one reader was handed, kept as sums: cheap enough for full speed, and exact. Pure.

Each message names its publisher and carries that publisher's count. So a reader needs no list of what was published to
know that it misses nothing: counts go on by one, whoever publishes between them. Where they do not, a notice must have
stood there, and must have missed at least as many.

At the end each publisher says how far it came, and each book is held against that (`audit`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Final, Self

from pubsubd import CursorExpired, Message

HEAD: Final = Struct(">IQ")
"""Who published it, and its count, from 0; the payload's rest is padding."""

NOBODY: Final = 0
"""Of whom nobody keeps count: passers-by and marks. Their place in the stream is checked like any other."""

LANES: Final = ("x", "y")
"""A publisher counts for each of its topics alone, so that who reads one of them can count as well."""


class Broken(AssertionError):
    """The guarantee does not hold for this reader."""


def who(node: str, lane: str, life: int) -> int:
    """The number of one life of the publisher on `node`, for one of its topics. A node's name is one letter."""
    return ord(node) << 24 | ord(lane) << 16 | life


def node_of(number: int) -> str:
    return chr(number >> 24)


def lane_of(number: int) -> str:
    return chr(number >> 16 & 0xFF)


@dataclass(slots=True)
class Stream:
    """How far the reader has come in one node's stream, and what it was told on the way."""

    next: int
    got: int = 0
    notices: int = 0
    missed: int = 0
    """Offsets that notices have passed over."""
    jumped: int = 0
    """Counts that are missing between messages: never more than `missed`."""
    again: bool = False
    """A life began here where the broker knew the place: it may be behind what was counted, never before it."""


class Ledger:
    """`whole`: every message is for this reader, so offsets go on by one as well."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.streams: dict[str, Stream] = {}
        self.nexts: dict[int, int] = {}
        """The count that comes next of each publisher."""
        self.at_notice: dict[int, int] = {}
        """The same, when the last notice of its stream came."""

    def begin(self, position: Mapping[str, list[str | int]], *, again: bool) -> None:
        """A subscription is open and stands there. `again`: by its name, maybe behind what is in this book."""
        for node, (_, offset) in position.items():
            stream = self.streams.setdefault(node, Stream(int(offset)))
            stream.again = again
            passed = int(offset) > stream.next
            # Who reads a part may have been told meanwhile how far nothing is for it.
            if (passed and self.whole) or (int(offset) < stream.next and not again):
                raise Broken(f"{node}: begins at {offset}, stood at {stream.next}")

    def got(self, batch: list[Message]) -> None:
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
        """Raises `Broken` for any loss but one that a ring of this size explains."""
        stream = self.streams.get(notice.node)
        if stream is None or notice.reason != "overwritten" or notice.missed is None:
            raise Broken(f"nothing explains this: {notice!r}")
        lost = notice.next - stream.next
        # Who reads a part, or reads again, stands at a place that its broker knows and this book does not.
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
        """Where the subscription says that it stands, behind all that this book has got."""
        for node, (_, offset) in position.items():
            stream = self.streams.setdefault(node, Stream(int(offset)))
            if stream.again and int(offset) < stream.next:
                continue
            # Who reads a part comes past offsets that were not for it.
            if int(offset) < stream.next or (self.whole and int(offset) != stream.next):
                raise Broken(f"{node}: stands at {offset}, {stream.next} is next")
            stream.next = int(offset)

    def dump(self) -> str:
        """As text, for the next life."""
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
        """A publisher's first message here, or not the one that was to come."""
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
            raise Broken(f"{name}: {expected} to {count - 1} are missing, and nobody said so")


@dataclass(frozen=True, slots=True)
class Account:
    """What one life of a publisher says of itself: it tried so many, and was told that so many are accepted."""

    number: int
    tried: int
    accepted: int


def audit(ledger: Ledger, lanes: str, accounts: Iterable[Account]) -> None:
    """Everything that was accepted on these lanes has come, or the reader was told; and nothing else has come."""
    known = {account.number: account for account in accounts}
    for number in ledger.nexts:
        if number not in known:
            raise Broken(f"nobody has published as {number:#x}")
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
            raise Broken(f"{name}: {came} came of {account.accepted}, and nobody said so")
        if told and stream.jumped + account.accepted - came > stream.missed:
            raise Broken(f"{name}: {came} came of {account.accepted}, {stream} explains fewer")

"""What a journal's segments still tell: a pure function of their bytes.

Each segment begins with a checkpoint and goes on with records. Up to the first record that is not whole it is
believed. In the newest segment that is where the stream ends; in an older one something is missing before the next
begins, and only what follows is kept: the ring has to be unbroken, and its newest messages are what readers need.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pubsubd_broker.core.journal.checkpoint import (
    Checkpoint,
    apply_cursor,
    apply_session,
    decode_checkpoint,
)
from pubsubd_broker.core.journal.records import (
    FORMAT,
    OLDEST_FORMAT,
    Kind,
    first_line,
    format_of,
    scan,
)
from pubsubd_broker.core.journal.whole_end import End
from pubsubd_protocol.entries import Entry, open_entry, read_entry
from pubsubd_protocol.errors import ProtocolError, PubSubError
from pubsubd_protocol.positions import UNTOLD, Lineage, Losses, Position, StreamView, succeed

SEQUENCE: Final = struct.Struct("<Q")
"""In front of an entry's frame: the number that its publisher gave it."""

Judge = Callable[[End], int | None]
"""How many accepted messages are missing behind an end; None where that is not known. See `whole_end.lost`."""


class JournalError(PubSubError):
    """A journal that can't be used. The text says which, why, and what to do."""


class UnknownFormat(JournalError):
    """A segment of a format that this version does not read. It is whole: another version can read it."""

    def __init__(self, segment: int, version: int) -> None:
        super().__init__(
            f"segment {segment} has format {version}, this version reads {OLDEST_FORMAT} to {FORMAT}: start the version "
            "that wrote it, or move the journal away (readers are then told of a loss)"
        )


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in `segment` is not as it was written. `lost`: the offsets that are gone with it, if any are."""

    segment: int
    what: str
    lost: range


def unreadable(segment: int) -> Damage:
    return Damage(segment, "its beginning is not readable", range(0))


@dataclass(slots=True)
class Recovered:
    """An unbroken run of entries up to `next`, and what else was kept there.

    `state` is as of the last whole record; its epoch is the one that ended at `next`. `placed`: for each entry its
    publisher's sequence. `segments`: number and end offset of each that holds some of it. `ended`: the bytes say that
    nothing was placed beyond this, because the life ended cleanly, or because it showed nothing before it was on disk.
    `lost`: how many messages were accepted under the epoch that ended, and are missing; None where that is not known.
    `format`: of the newest segment.
    """

    state: Checkpoint
    next: int
    entries: list[Entry] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    ended: bool = False
    lost: int | None = None
    format: int = FORMAT

    @property
    def first(self) -> int:
        """The oldest offset that is left."""
        return self.entries[0].first if self.entries else self.next

    @property
    def end(self) -> End:
        """As the bytes alone tell it."""
        state = self.state
        return End(state.node, state.epoch, state.lineage, self.next, self.ended, self.format)

    @property
    def lineage(self) -> Lineage:
        """What a new epoch continues, and up to where: no further than the data that is left."""
        return self._succession[0]

    @property
    def losses(self) -> Losses:
        """Which of the epochs of its lineage a new epoch says ended with a loss."""
        return self._succession[1]

    @property
    def view(self) -> StreamView:
        """The history that ended, as far as the data is left."""
        earlier = tuple((epoch, min(end, self.next)) for epoch, end in self.state.lineage)
        return StreamView(self.state.epoch, earlier, self.first, self.next, self.state.losses)

    @property
    def _succession(self) -> tuple[Lineage, Losses]:
        return succeed(self.view, lost=self.lost)

    def judge(self, lost: int | None) -> None:
        """Says how many are lost at the end, once. Lets go of entries before a loss for which the lineage has no room any
        more: a reader that began with them would come over that place and not be told.
        """
        self.lost = lost
        lineage = [epoch for epoch, _ in self.lineage]
        lossy = {self.state.epoch: lost, **dict(self.state.losses)}
        lives = [(self.state.epoch, self.next), *self.view.lineage]
        earlier = lives[max((n + 1 for n, (e, _) in enumerate(lives) if e in lineage), default=0) :]
        known_from = max((end for epoch, end in earlier if lossy.get(epoch, 0) != 0), default=0)
        begin = sum(entry.first < known_from for entry in self.entries)
        del self.entries[:begin], self.sequences[:begin]

    @property
    def forgotten(self) -> Lineage:
        """Earlier epochs for which the lineage had no room: their readers are told `state_lost`."""
        kept = dict(self.lineage)
        return tuple(each for each in self.state.lineage if each[0] not in kept)


def recover(node: str, segments: Iterable[tuple[int, bytes]], judge: Judge) -> Recovered | None:
    """What the journal of `node` still holds; None if no segment is readable. `segments`: number and bytes, oldest first.

    `judge`: says what is missing at the end that is found. What is kept before that depends on it.

    Raises `JournalError` for the journal of another node, `UnknownFormat` for one that this version does not read.
    """
    found: Recovered | None = None
    damage: list[Damage] = []
    last: int = Kind.CHECKPOINT
    for number, data in segments:
        state, begin = _begin(node, number, data)
        if state is None:
            damage.append(unreadable(number))
            if found is not None:
                found.ended = False
            continue
        if found is not None:
            _continues_at(found, state.next, damage)
            found.state = state
            found.next = state.next
        else:
            found = Recovered(state, state.next)
        end, last = _read(found, data, begin)
        found.format = format_of(data) or FORMAT
        found.ended = end == len(data) and (state.durable or last == Kind.END)
        found.segments.append((number, found.next))
        if end < len(data):
            damage.append(Damage(number, f"no whole record at byte {end} of {len(data)}", range(0)))
    if found is not None:
        found.damage = damage
        if last != Kind.END:
            # Another one may have taken a name in the last moments: to send that one away would be wrong.
            found.state.holders.clear()
        _clamp(found)
        found.judge(judge(found.end))
        _forget_contradicted(found)
        _pass_over_empty(found)
    return found


def _begin(node: str, number: int, data: bytes) -> tuple[Checkpoint | None, int]:
    version = format_of(data)
    if version is None:
        return None, 0
    if not OLDEST_FORMAT <= version <= FORMAT:
        raise UnknownFormat(number, version)
    for kind, body, end in scan(data, len(first_line(version))):
        if kind != Kind.CHECKPOINT:
            break
        try:
            state = decode_checkpoint(body)
        except ProtocolError:
            break
        if state.node != node:
            raise JournalError(
                f"it is of node {state.node!r}, this is {node!r}: each node needs a journal of its own"
            )
        return state, end
    return None, 0


def _continues_at(found: Recovered, offset: int, damage: list[Damage]) -> None:
    """A later segment begins at `offset`: what is held has to lead up to it, without a hole."""
    oldest = found.first
    while found.entries and found.entries[-1].next > offset:
        # What an earlier recovery did not take over stands there still.
        found.next = found.entries.pop().first
        found.sequences.pop()
    if found.next < offset:
        number = found.segments[-1][0]
        gone = range(oldest, offset)
        damage.append(Damage(number, "the segments after it begin later than it ends", gone))
        found.entries.clear()
        found.sequences.clear()
        found.segments.clear()
    found.segments = [(number, min(end, offset)) for number, end in found.segments]


def _read(found: Recovered, data: bytes, begin: int) -> tuple[int, int]:
    """Takes over what stands in one segment behind its checkpoint. Returns where its last whole record ends, and its kind."""
    last: int = Kind.CHECKPOINT
    for kind, body, end in scan(data, begin):
        try:
            match kind:
                case Kind.ENTRY:
                    _take_entry(found, body)
                case Kind.CURSOR:
                    apply_cursor(found.state, body)
                case Kind.SESSION:
                    apply_session(found.state, body)
                case Kind.END:
                    pass
                case _:
                    return begin, last
        except ProtocolError:
            return begin, last
        begin, last = end, kind
    return begin, last


def _take_entry(found: Recovered, body: bytes) -> None:
    (sequence,) = SEQUENCE.unpack_from(body.ljust(SEQUENCE.size, b"\0"))
    entry = read_entry(memoryview(body)[SEQUENCE.size :])
    state = found.state
    # A snapshot holds what earlier lives placed, too.
    branch = replace(state.view, next=entry.next)
    if (
        entry.node != state.node
        or entry.first != found.next
        or not branch.covers(entry.epoch, entry.next)
    ):
        raise ProtocolError("offset", f"an entry at {entry.first}, {found.next} comes next")
    found.entries.append(entry)
    found.sequences.append(sequence)
    found.next = entry.next


def _clamp(found: Recovered) -> None:
    """Nobody has read further than the stream goes: whoever had read more read something else."""
    for consumer in found.state.consumers.values():
        if consumer.cursor.offset > found.next:
            consumer.cursor = found.view.place(found.next)


def _forget_contradicted(found: Recovered) -> None:
    """Drops entries that the lineage says were never part of this history, and all before them. No broker wrote those.

    Consumers would take them for a violation, at every attach.
    """
    branch = StreamView(UNTOLD.epoch, found.lineage, found.first, found.next)
    begin = len(found.entries)
    while begin and branch.covers(found.entries[begin - 1].epoch, found.entries[begin - 1].next):
        begin -= 1
    del found.entries[:begin], found.sequences[:begin]


def _pass_over_empty(found: Recovered) -> None:
    """A segment that holds nothing of what is left is not needed: lives without a message would fill the disk."""
    reached = found.first
    holding = []
    for number, end in found.segments:
        if end > reached:
            holding.append((number, end))
            reached = end
    found.segments = holding


def from_peers(
    node: str, view: StreamView, entries: list[Entry], names: Mapping[str, Position]
) -> Recovered:
    """The history of `node`'s stream as a peer held it. `names`: positions of named sessions in that stream."""
    sessions = {name: {node: place} for name, place in names.items()}
    state = Checkpoint(
        *(node, view.epoch, view.lineage, view.oldest, {}, {}, sessions), losses=view.losses
    )
    sequences = [open_entry(entry).sequence for entry in entries]
    return Recovered(state, view.next, entries, sequences)

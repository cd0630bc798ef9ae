"""Recovers a node's state from its journal: a pure function of the segments' bytes.

Each segment begins with a checkpoint and goes on with records. Recovery believes a segment up to the first record that
is not whole. In the newest segment the stream ends there. In an older segment messages are missing before the next one
begins, and recovery keeps only the newer segments: the ring must be unbroken, and readers need the newest messages.
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
from pubsubd_broker.core.journal.whole_end import RecoveredEnd
from pubsubd_protocol.entries import Entry, open_entry, read_entry
from pubsubd_protocol.errors import ProtocolError, PubSubError
from pubsubd_protocol.positions import NO_EPOCH, Lineage, Losses, Position, StreamView, succeed

SEQUENCE: Final = struct.Struct("<Q")
"""The publisher's sequence, in front of the entry's frame."""

Judge = Callable[[RecoveredEnd], int | None]
"""Counts the accepted messages that are missing behind an end; None if unknown. See `whole_end.lost`."""


class JournalError(PubSubError):
    """A journal that cannot be used. The text names the journal, the cause and the remedy."""


class UnknownFormat(JournalError):
    """A segment of a format that this version does not read. Another version can."""

    def __init__(self, segment: int, version: int) -> None:
        super().__init__(
            f"segment {segment} has format {version}, this version reads {OLDEST_FORMAT} to {FORMAT}: start the version "
            "that wrote it, or move the journal away (readers are then told of a loss)"
        )


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage in `segment`: bytes differ from those that were written. `lost`: the offsets that are gone with them."""

    segment: int
    what: str
    lost: range


def unreadable(segment: int) -> Damage:
    return Damage(segment, "its beginning is not readable", range(0))


@dataclass(slots=True)
class Recovered:
    """An unbroken run of entries up to `next`, and the other state of that moment.

    `state`: as of the last whole record; its epoch is the one that ended at `next`. `sequences`: of each entry, as its
    publisher numbered the batch. `segments`: number and end offset of each segment that holds some of the entries.
    `ended`: the bytes prove that no message behind `next` was accepted: the life ended cleanly, or wrote each message
    before it accepted it. `lost`: the accepted messages of the ended epoch that are missing; None if unknown. `format`:
    of the newest segment. `partial_answers`: answers to publishers are left only as far as the entries show them.
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
    partial_answers: bool = False

    @property
    def first(self) -> int:
        """The oldest offset that is left."""
        return self.entries[0].first if self.entries else self.next

    @property
    def end(self) -> RecoveredEnd:
        """The end of the history, by the bytes alone."""
        state = self.state
        return RecoveredEnd(
            state.node, state.epoch, state.lineage, self.next, self.ended, self.format
        )

    @property
    def lineage(self) -> Lineage:
        """The lineage of a new epoch: no ended epoch reaches further than the entries that are left."""
        return self._succession[0]

    @property
    def losses(self) -> Losses:
        """The losses of a new epoch: the epochs of its lineage that ended with one."""
        return self._succession[1]

    @property
    def view(self) -> StreamView:
        """The history that ended, as far as its entries are left."""
        earlier = tuple((epoch, min(end, self.next)) for epoch, end in self.state.lineage)
        return StreamView(self.state.epoch, earlier, self.first, self.next, self.state.losses)

    @property
    def _succession(self) -> tuple[Lineage, Losses]:
        return succeed(self.view, lost=self.lost)

    def judge(self, lost: int | None) -> None:
        """Sets the number of messages lost at the end. Called once.

        Drops entries before a loss for which the lineage has no more room: a reader of them would pass the loss untold.
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
    """The state that the journal of `node` still holds; None if no segment is readable.

    `segments`: number and bytes of each, oldest first. `judge`: counts the missing messages behind the end that was found.
    The count also decides which entries are kept.

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
            # Another session may have taken a name in the last moments, and must not be sent away.
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
    """Goes on with a segment that begins at `offset`. Drops the entries before it unless they lead up to it."""
    oldest = found.first
    while found.entries and found.entries[-1].next > offset:
        # Entries that an earlier recovery did not take over are still in the file.
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
    """Takes over the records of a segment. Returns the end of the last whole record, and the kind of that record."""
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
    # A snapshot also holds entries that earlier lives placed.
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
    """Moves cursors behind the stream's end back to it: their consumers read messages that are lost."""
    for consumer in found.state.consumers.values():
        if consumer.cursor.offset > found.next:
            consumer.cursor = found.view.place(found.next)


def _forget_contradicted(found: Recovered) -> None:
    """Drops entries that the lineage excludes from this history, and all before them. No broker writes such entries.

    Consumers would take them for a violation, at every attach.
    """
    branch = StreamView(NO_EPOCH, found.lineage, found.first, found.next)
    begin = len(found.entries)
    while begin and branch.covers(found.entries[begin - 1].epoch, found.entries[begin - 1].next):
        begin -= 1
    del found.entries[:begin], found.sequences[:begin]


def _pass_over_empty(found: Recovered) -> None:
    """Leaves out segments that hold none of the entries: otherwise lives without a message would fill the disk."""
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
    """The history of `node`'s stream that a peer held. `names`: positions of named sessions in that stream."""
    sessions = {name: {node: place} for name, place in names.items()}
    state = Checkpoint(
        *(node, view.epoch, view.lineage, view.oldest, {}, {}, sessions), losses=view.losses
    )
    sequences = [open_entry(entry).sequence for entry in entries]
    recovered = Recovered(state, view.next, entries, sequences)
    # A journal keeps the last answer of each publisher; a peer keeps only entries.
    return replace(recovered, partial_answers=recovered.first > 0)

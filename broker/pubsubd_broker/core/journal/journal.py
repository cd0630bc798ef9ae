"""What is to be written when: the journal of a running node. It knows no file; a shell does what it says.

Work is handed out one piece at a time, all that has come since the last one together: that is the group commit. Files
are numbered segments. A segment comes into being whole, with its checkpoint, and is only appended to after that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pubsubd_broker.core.journal.checkpoint import Checkpoint, encode_checkpoint
from pubsubd_broker.core.journal.records import FIRST_BYTES, Kind, record
from pubsubd_broker.core.journal.recovery import SEQUENCE, Recovered
from pubsubd_protocol.entries import Entry

MAX_BACKLOG_BYTES: Final = 8 * 1024 * 1024
"""So much may wait to be written, or be under way; whoever publishes more waits."""


class Fsync(StrEnum):
    """When what is written has to survive the machine, too."""

    OFF = "off"
    """When the system likes."""
    SNAPSHOT = "snapshot"
    """At a clean stop; before that nothing is written at all."""
    INTERVAL = "interval"
    """Every so often."""
    ALWAYS = "always"
    """Before anybody is told of it."""


@dataclass(frozen=True, slots=True)
class Append:
    """Write `buffers` at the end of a segment."""

    segment: int
    buffers: list[bytes]


@dataclass(frozen=True, slots=True)
class Create:
    """Make a segment that holds `buffers`, whole or not at all; all that was to be done before it is done first."""

    segment: int
    buffers: list[bytes]


@dataclass(frozen=True, slots=True)
class Remove:
    """A segment is not needed any more."""

    segment: int


Step = Append | Create | Remove


@dataclass(slots=True)
class Work:
    """Steps to do in this order. `sync`: they are done when they survive the machine."""

    sync: bool
    steps: list[Step] = field(default_factory=list)


class Journal:
    """`checkpoint` tells the node's state, as of all that has been appended here.

    `failed` is final: what a failed write or fsync has left on disk can't be known, so nothing more is promised.
    """

    def __init__(
        self,
        fsync: Fsync,
        interval_ns: int,
        segment_bytes: int,
        checkpoint: Callable[[], Checkpoint],
        recovered: Recovered | None = None,
        numbers: Sequence[int] = (),
    ) -> None:
        """`numbers`: of all segments on disk, whatever is in them."""
        self.fsync = fsync
        self.failed: str | None = None
        """Why nothing is written any more."""
        self.backlog_bytes = 0
        self.durable = recovered.next if recovered is not None else 0
        """Entries before this offset need not be waited for."""
        self._interval_ns = interval_ns
        self._segment_bytes = segment_bytes
        self._checkpoint = checkpoint
        # Number and end offset of those on disk; the last one is written to.
        self._segments = list(recovered.segments) if recovered is not None else []
        self._number = max(numbers, default=0)
        self._useless = set(numbers) - {number for number, _ in self._segments}
        self._size = 0
        self._limit = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._next = self.durable
        self._under_way: tuple[Work, int, int] | None = None
        self._unsynced = False
        self._synced_ns = 0
        self._ended = False

    @property
    def segments(self) -> int:
        return len(self._segments)

    @property
    def numbers(self) -> list[int]:
        """Numbers of the segments that exist once all work that was handed out is done."""
        return [number for number, _ in self._segments]

    @property
    def full(self) -> bool:
        return self.backlog_bytes >= MAX_BACKLOG_BYTES

    def begin(self) -> Work:
        """To be done before the node says anything: its new epoch must not be forgotten, or its readers would be."""
        work = Work(self.fsync is not Fsync.OFF)
        if self.fsync is Fsync.SNAPSHOT:
            # Used up: after a crash it would be older than what readers saw.
            self._useless.update(number for number, _ in self._segments)
            self._segments.clear()
        else:
            self._roll(work)
        work.steps += [Remove(number) for number in sorted(self._useless)]
        self._useless.clear()
        return work

    def end(self, oldest: int, entries: list[tuple[Entry, int]]) -> Work:
        """A snapshot of a node that stops: one segment with everything."""
        state = self._checkpoint()
        state.next = oldest
        buffers = _head(state)
        for entry, sequence in entries:
            buffers += _entry_record(entry, sequence)
        buffers += record(Kind.END)
        return Work(True, [Create(self._number + 1, buffers)])

    def append(self, entry: Entry, sequence: int) -> None:
        if self._writes:
            self._add(_entry_record(entry, sequence))
        self._next = entry.next

    def note(self, kind: Kind, body: bytes) -> None:
        """Something beside the stream has changed."""
        if self._writes:
            self._add(record(kind, body))

    def take(self, oldest: int, now_ns: int, *, last: bool = False) -> Work | None:
        """What to do now; None if there is nothing, or something is under way.

        `oldest`: what the ring holds from. `last`: all of it has to be on disk, and that this is all.
        """
        if self._under_way is not None or self.failed is not None:
            return None
        if last and self._writes and not self._ended:
            self._add(record(Kind.END))
            self._ended = True
        sync = self.fsync is Fsync.ALWAYS or (
            self.fsync is Fsync.INTERVAL and (last or now_ns - self._synced_ns >= self._interval_ns)
        )
        if not self._pending and not (sync and self._unsynced):
            return None
        work = Work(sync)
        if self._pending:
            work.steps.append(Append(self._segments[-1][0], self._pending))
            self._size += self._pending_bytes
            self._segments[-1] = self._segments[-1][0], self._next
            if self._size >= self._limit and not self._ended:
                self._roll(work)
                # Else the new segment might survive, and the end of the last one not.
                work.sync = self.fsync is not Fsync.OFF
        self._drop_evicted(work, oldest)
        self._under_way = (work, self._pending_bytes, self._next)
        self._pending, self._pending_bytes = [], 0
        return work

    def done(self, now_ns: int) -> None:
        """The work that was taken is done."""
        assert self._under_way is not None
        work, size, following = self._under_way
        self._under_way = None
        self.backlog_bytes -= size
        self._unsynced = not work.sync
        if work.sync:
            self._synced_ns = now_ns
        self.durable = following

    def fail(self, reason: str) -> None:
        self.failed = self.failed or reason
        self._under_way = None
        self._pending.clear()
        self._pending_bytes = self.backlog_bytes = 0

    @property
    def _writes(self) -> bool:
        """Whether what comes is written as it comes."""
        return self.failed is None and self.fsync is not Fsync.SNAPSHOT

    def _add(self, buffers: list[bytes]) -> None:
        size = sum(map(len, buffers))
        self._ended = False
        self._pending += buffers
        self._pending_bytes += size
        self.backlog_bytes += size

    def _roll(self, work: Work) -> None:
        state = self._checkpoint()
        state.next = self._next
        head = _head(state)
        self._number += 1
        work.steps.append(Create(self._number, head))
        self._segments.append((self._number, self._next))
        self._size = sum(map(len, head))
        # A large checkpoint is not to be written again and again.
        self._limit = max(self._segment_bytes, 4 * self._size)

    def _drop_evicted(self, work: Work, oldest: int) -> None:
        while len(self._segments) > 1 and self._segments[0][1] <= oldest:
            work.steps.append(Remove(self._segments.pop(0)[0]))


def _head(state: Checkpoint) -> list[bytes]:
    return [FIRST_BYTES, *record(Kind.CHECKPOINT, encode_checkpoint(state))]


def _entry_record(entry: Entry, sequence: int) -> list[bytes]:
    return record(Kind.ENTRY, SEQUENCE.pack(sequence), *entry.wire)

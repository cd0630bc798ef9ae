"""The journal of a running node: decides which bytes are written, and when. The shell writes the files.

The journal hands out one piece of work at a time, with all that has come since the last one: a group commit. Files are
numbered segments. A segment is created whole, with its checkpoint, and after that only appended to.
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
"""Bytes that may wait for the disk or be under way. Further publishes wait."""


class Fsync(StrEnum):
    """The moment at which written records must survive a crash of the machine."""

    OFF = "off"
    """No moment: the operating system decides."""
    SNAPSHOT = "snapshot"
    """A clean stop. No record is written before that."""
    INTERVAL = "interval"
    """Each end of a configured interval."""
    ALWAYS = "always"
    """Before a receipt is sent and a reader sees the messages."""


@dataclass(frozen=True, slots=True)
class Append:
    """Write `buffers` at the end of a segment."""

    segment: int
    buffers: list[bytes]


@dataclass(frozen=True, slots=True)
class Create:
    """Make a segment that holds `buffers`, whole or not at all. Earlier steps are done first."""

    segment: int
    buffers: list[bytes]


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a segment that is not needed any more."""

    segment: int


Step = Append | Create | Remove


@dataclass(slots=True)
class Work:
    """Steps to do in this order. `sync`: they are done only when they survive a crash of the machine."""

    sync: bool
    steps: list[Step] = field(default_factory=list)


class Journal:
    """The records that wait for the disk, and the segments on it. `checkpoint`: gives the state after all appended records.

    `failed` is final: the bytes that a failed write or fsync left on disk are unknown, so no more is promised.
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
        """`numbers`: of all segments on disk, readable or not."""
        self.fsync = fsync
        self.failed: str | None = None
        """The reason for which no more is written."""
        self.backlog_bytes = 0
        self.durable = recovered.next if recovered is not None else 0
        """The offset before which no publisher has to wait for the disk."""
        self._interval_ns = interval_ns
        self._segment_bytes = segment_bytes
        self._checkpoint = checkpoint
        # Number and end offset of each segment on disk; the last one is written to.
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
        """Work to do before the node sends its first frame. A life that forgot its epoch would lose its readers."""
        work = Work(self.fsync is not Fsync.OFF)
        if self.fsync is Fsync.SNAPSHOT:
            # A snapshot is used up: after a crash it would be older than the messages that readers saw.
            self._useless.update(number for number, _ in self._segments)
            self._segments.clear()
        else:
            self._roll(work)
        work.steps += [Remove(number) for number in sorted(self._useless)]
        self._useless.clear()
        return work

    def end(self, oldest: int, entries: list[tuple[Entry, int]]) -> Work:
        """The snapshot of a node that stops: one segment with all state and entries."""
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
        """Adds a record of a change beside the stream."""
        if self._writes:
            self._add(record(kind, body))

    def take(self, oldest: int, now_ns: int, *, last: bool = False) -> Work | None:
        """Work to do now; None if no work waits, or some is under way.

        `oldest`: the oldest offset in the ring. `last`: sync all records, and a record of the clean end.
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
                # Otherwise the new segment might survive a crash that loses the end of the last one.
                work.sync = self.fsync is not Fsync.OFF
        self._drop_evicted(work, oldest)
        self._under_way = (work, self._pending_bytes, self._next)
        self._pending, self._pending_bytes = [], 0
        return work

    def done(self, now_ns: int) -> None:
        """Takes note that the shell has done the work."""
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
        """Whether records are written as they come."""
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

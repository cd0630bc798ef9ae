"""Keeps a node's state on disk: notes what moves, hands out the journal's work, and lets publishers go on. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pubsubd_broker.core.journal.checkpoint import (
    Checkpoint,
    KeptConsumer,
    encode_cursor,
    encode_session,
)
from pubsubd_broker.core.journal.journal import Fsync, Journal, Work
from pubsubd_broker.core.journal.parts import KeptSession, Parts
from pubsubd_broker.core.journal.records import Kind
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import ITEM_OVERHEAD, SECOND_NS, Now
from pubsubd_broker.core.log.pacing import Appender
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import MAX_OFFSET, Position


@dataclass(frozen=True, slots=True)
class Kept:
    """Settings of a node's journal, and the state that an earlier life left. `numbers`: of all segments on disk.

    `promised`: whether a journal that cannot be written is a failure of the node. It is not for a snapshot that no
    setting asked for.
    """

    fsync: Fsync
    interval_ns: int = SECOND_NS // 20
    segment_bytes: int = 8 * 2**20
    recovered: Recovered | None = None
    numbers: tuple[int, ...] = ()
    promised: bool = True


class Keeper:
    """Notes what changes in the node's parts, hands out the journal's work, and has waiting publishers retry."""

    def __init__(
        self,
        parts: Parts,
        kept: Kept,
        *,
        failed: Callable[[str], None],
        recovering: Callable[[], bool],
    ) -> None:
        """`failed`: called once if a promised journal cannot be written, with the reason.

        `recovering`: whether the node is still asking its peers for its own stream.
        """
        self._parts = parts
        self._failed = failed
        self._recovering = recovering
        self.journal = Journal(
            kept.fsync,
            kept.interval_ns,
            kept.segment_bytes,
            self._checkpoint,
            kept.recovered,
            kept.numbers,
        )
        self.promised = kept.promised
        self._waiting: dict[Appender, None] = {}
        # Appenders that were admitted since the last work was done.
        self._served: set[Appender] = set()
        self._sessions: dict[str, None] = {}
        # The place of each named session in the node's stream, as noted last; and the lowest of these places that the ring
        # still holds.
        self._noted: dict[str, int] = {}
        self._least = MAX_OFFSET
        self.writes = kept.fsync is not Fsync.SNAPSHOT
        """Whether changes are written as they come. Otherwise a clean stop writes the whole state."""
        if self.writes:
            parts.cursors.moved = {}

    # The stream's side.

    def admits(self, appender: Appender, count: int, size: int) -> bool:
        """Whether an entry of `count` messages and `size` bytes may be placed now. If not, `appender` retries later."""
        log = self._parts.stream.log
        # All entries that wait for the disk enter the ring at once. They must fit, or every reader would be overrun.
        fits = log.fits(log.reserved_messages + count, log.reserved_bytes + size)
        if self.journal.full or not fits:
            self.hold(appender)
            return False
        self._served.add(appender)
        return True

    def hold(self, appender: Appender) -> None:
        """Has `appender` retry when the work under way is done."""
        self._waiting[appender] = None

    def keeps(self, entry: Entry, sequence: int) -> bool:
        """Takes an entry that has its place. Returns whether readers may see the entry before it is on disk."""
        if self.writes and self._least < self._parts.stream.placed:
            self._note_before(entry)
        self.journal.append(entry, sequence)
        return self.journal.fsync is not Fsync.ALWAYS

    def forget(self, appender: Appender) -> None:
        """Forgets `appender`: it waits no longer."""
        self._waiting.pop(appender, None)
        self._served.discard(appender)

    def session_moved(self, name: str) -> None:
        if self.writes:
            self._sessions[name] = None
            self._least = min(self._least, self._noted.get(name, 0))

    # The shell's side.

    def begin(self) -> Work:
        """Work to do before the node sends its first frame."""
        return self.journal.begin()

    def take(self, now: Now, *, last: bool = False) -> Work | None:
        """Work to do now, or None. The shell then calls `done` or `failed`. `last`: sync all of it."""
        return self.journal.take(self._parts.stream.log.oldest, now.mono_ns, last=last)

    def end(self, now: Now) -> Work | None:
        """The last work of a node that stops, after which all is on disk. Called while no work is under way."""
        if self.writes:
            self.tick()
            return self.take(now, last=True)
        if self._recovering():
            # The peers still have the node's history. The next life would continue the empty history of this one instead.
            return None
        return self._snapshot()

    def done(self, now: Now) -> None:
        """Takes note that the shell has done the work."""
        self.journal.done(now.mono_ns)
        self._parts.stream.commit(self.journal.durable)
        waiting, self._waiting = self._waiting, {}
        self._served.clear()
        for appender in waiting:
            appender.retry(now)
        # An admitted appender goes to the back: with much to append it would leave no room to the others.
        again = [appender for appender in self._waiting if appender in self._served]
        for appender in again:
            self._waiting[appender] = self._waiting.pop(appender)

    def failed(self, reason: str) -> None:
        """Takes note that a write failed. A node with a promised journal accepts no more, even if the disk recovers."""
        self.journal.fail(reason)
        self._waiting.clear()
        if self.promised:
            self._failed(reason)

    def _snapshot(self) -> Work:
        log = self._parts.stream.log
        entries = [log[index] for index in range(log.begin, log.end)]
        placed = [
            (entry, open_entry(entry).sequence) for entry in entries if isinstance(entry, Entry)
        ]
        return self.journal.end(self._parts.stream.view.oldest, placed)

    def tick(self) -> None:
        """Notes the cursors and sessions that have moved since the last tick."""
        if not self.writes:
            return
        moved, self._parts.cursors.moved = self._parts.cursors.moved or {}, {}
        for name in moved:
            registered = self._parts.cursors.get(name)
            kept = None if registered is None else KeptConsumer(registered.cursor, registered.named)
            self.journal.note(Kind.CURSOR, encode_cursor(name, kept))
        sessions, self._sessions = self._sessions, {}
        for name in sessions:
            self._note(name, self._parts.sessions.named(name))

    def _note(self, name: str, session: KeptSession | None) -> None:
        positions, holder = (None, None) if session is None else (session.kept, session.holder)
        self.journal.note(Kind.SESSION, encode_session(name, positions, holder))
        if positions is None:
            self._noted.pop(name, None)
        else:
            self._remember(name, positions)

    def _remember(self, name: str, positions: dict[str, Position]) -> None:
        own = positions.get(self._parts.node)
        self._noted[name] = 0 if own is None else own.offset
        self._least = min(self._least, self._noted[name])

    def _note_before(self, entry: Entry) -> None:
        """Notes sessions whose last noted place is about to leave the ring, if they have moved on since.

        Otherwise they would be told of a loss after a crash, though they had passed that place. A session that still stands
        there is not noted again.
        """
        log = self._parts.stream.log
        horizon = log.horizon(entry.count, entry.size + ITEM_OVERHEAD)
        evicted = log[horizon - 1] if horizon > log.begin else None
        if not isinstance(evicted, (Entry, Skip)) or evicted.next <= self._least:
            return
        self._least = MAX_OFFSET
        for name, session in self._parts.sessions.all_named():
            noted = self._noted.get(name, 0)
            if noted < evicted.next and session.kept_in(self._parts.node) > noted:
                self._note(name, session)
            elif noted >= evicted.next:
                self._least = min(self._least, noted)

    def _checkpoint(self) -> Checkpoint:
        parts = self._parts
        sessions = {name: session.kept for name, session in parts.sessions.all_named()}
        for name, positions in sessions.items():
            self._remember(name, positions)
        view = parts.stream.view
        return Checkpoint(
            parts.node,
            view.epoch,
            view.lineage,
            parts.stream.placed,
            {name: KeptConsumer(r.cursor, r.named) for name, r in parts.cursors.items()},
            parts.answers.lasts(),
            sessions,
            durable=self.journal.fsync is Fsync.ALWAYS,
            losses=view.losses,
            holders={
                name: session.holder
                for name, session in parts.sessions.all_named()
                if session.holder is not None
            },
        )

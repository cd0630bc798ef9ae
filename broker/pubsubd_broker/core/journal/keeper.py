"""What a node keeps of itself, and how it begins with it again. Pure: `journal` says what is to be written when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pubsubd_broker.core.journal.checkpoint import (
    Checkpoint,
    Consumer,
    encode_cursor,
    encode_session,
)
from pubsubd_broker.core.journal.journal import Fsync, Journal, Work
from pubsubd_broker.core.journal.records import Kind
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import SECOND_NS, Now
from pubsubd_broker.core.log.log import cost_of
from pubsubd_broker.core.log.pacing import Appender
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import MAX_OFFSET, Position

if TYPE_CHECKING:
    from pubsubd_broker.core.node import Node
    from pubsubd_broker.core.sessions.session import Session


@dataclass(frozen=True, slots=True)
class Kept:
    """How a node keeps its stream, and what an earlier life left. `numbers`: of all segments that there are.

    `promised`: whether keeping nothing is a failure of the node. A snapshot that no setting asked for is kept where
    that is possible.
    """

    fsync: Fsync
    interval_ns: int = SECOND_NS // 20
    segment_bytes: int = 8 * 2**20
    recovered: Recovered | None = None
    numbers: tuple[int, ...] = ()
    promised: bool = True


class Keeper:
    """Notes what changes in the node, hands out the journal's work, and lets go on who waited for it."""

    def __init__(self, node: Node, kept: Kept) -> None:
        self._node = node
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
        # Those that were let go on, since the last work was done.
        self._served: set[Appender] = set()
        self._sessions: dict[str, None] = {}
        # Where named sessions stand in the node's stream, by what was noted last; and the least of these places that the
        # ring still holds.
        self._noted: dict[str, int] = {}
        self._least = MAX_OFFSET
        if self.writes:
            node.registry.moved = {}

    @property
    def writes(self) -> bool:
        """Whether changes are written as they come. Else the whole node is, at a clean stop."""
        return self.journal.fsync is not Fsync.SNAPSHOT

    # The stream's side.

    def admits(self, appender: Appender, count: int, size: int) -> bool:
        """Whether an entry of `count` messages and `size` bytes may be placed now. If not, `appender` is asked to retry."""
        log = self._node.stream.log
        # All that waits for the disk comes into the ring at once: it has to fit, or it would overrun every reader.
        fits = log.fits(log.reserved_messages + count, log.reserved_bytes + size)
        if self.journal.full or not fits:
            self.hold(appender)
            return False
        self._served.add(appender)
        return True

    def hold(self, appender: Appender) -> None:
        """It is asked to retry when what is under way is done."""
        self._waiting[appender] = None

    def keeps(self, entry: Entry, sequence: int) -> bool:
        """Takes an entry that has its place. Whether it is there for everybody at once."""
        if self.writes and self._least < self._node.stream.placed:
            self._note_before(entry)
        self.journal.append(entry, sequence)
        return self.journal.fsync is not Fsync.ALWAYS

    def forget(self, appender: Appender) -> None:
        """It waits no longer."""
        self._waiting.pop(appender, None)
        self._served.discard(appender)

    def session_moved(self, name: str) -> None:
        if self.writes:
            self._sessions[name] = None
            self._least = min(self._least, self._noted.get(name, 0))

    # The shell's side.

    def begin(self) -> Work:
        """To be done before the node says anything to anybody."""
        return self.journal.begin()

    def take(self, now: Now, *, last: bool = False) -> Work | None:
        """What is to be done now, if anything; then `done` or `failed`. `last`: all of it has to be on disk."""
        return self.journal.take(self._node.stream.view.oldest, now.mono_ns, last=last)

    def end(self, now: Now) -> Work | None:
        """What a node that stops has to do last, when nothing is under way: all of it is on disk then."""
        if self.writes:
            self.tick()
            return self.take(now, last=True)
        if self._node.recall is not None:
            # Its history is still with its peers. The empty one of this life would be continued instead of that.
            return None
        return self._snapshot()

    def done(self, now: Now) -> None:
        """The work that was taken is done."""
        self.journal.done(now.mono_ns)
        self._node.stream.commit(self.journal.durable)
        waiting, self._waiting = self._waiting, {}
        self._served.clear()
        for appender in waiting:
            appender.retry(now)
        # One that brought much would be the first again, and leave no room to those behind it.
        again = [appender for appender in self._waiting if appender in self._served]
        for appender in again:
            self._waiting[appender] = self._waiting.pop(appender)

    def failed(self, reason: str) -> None:
        """Something could not be written. Where keeping is promised, no more is accepted, whatever the disk says later."""
        self.journal.fail(reason)
        self._waiting.clear()
        if self.promised:
            self._node.journal_failed(reason)

    def _snapshot(self) -> Work:
        log = self._node.stream.log
        entries = [log[index] for index in range(log.begin, log.end)]
        placed = [
            (entry, open_entry(entry).sequence) for entry in entries if isinstance(entry, Entry)
        ]
        return self.journal.end(self._node.stream.view.oldest, placed)

    def tick(self) -> None:
        """Notes who has moved since the last time."""
        if not self.writes:
            return
        moved, self._node.registry.moved = self._node.registry.moved or {}, {}
        for name in moved:
            registered = self._node.registry.get(name)
            kept = None if registered is None else Consumer(registered.cursor, registered.named)
            self.journal.note(Kind.CURSOR, encode_cursor(name, kept))
        sessions, self._sessions = self._sessions, {}
        for name in sessions:
            self._note(name, self._node.sessions.named(name))

    def _note(self, name: str, session: Session | None) -> None:
        positions, holder = (None, None) if session is None else (session.kept, session.holder)
        self.journal.note(Kind.SESSION, encode_session(name, positions, holder))
        if positions is None:
            self._noted.pop(name, None)
        else:
            self._remember(name, positions)

    def _remember(self, name: str, positions: dict[str, Position]) -> None:
        own = positions.get(self._node.name)
        self._noted[name] = 0 if own is None else own.offset
        self._least = min(self._least, self._noted[name])

    def _note_before(self, entry: Entry) -> None:
        """The ring lets go of no place that was noted, unless a later one is noted before: after a crash it would be told.

        A session that really stands there stays so, and counts no more.
        """
        log = self._node.stream.log
        horizon = log.horizon(*cost_of(entry))
        evicted = log[horizon - 1] if horizon > log.begin else None
        if not isinstance(evicted, (Entry, Skip)) or evicted.next <= self._least:
            return
        self._least = MAX_OFFSET
        for name, session in self._node.sessions.all_named():
            noted = self._noted.get(name, 0)
            if noted < evicted.next and session.kept_in(self._node.name) > noted:
                self._note(name, session)
            elif noted >= evicted.next:
                self._least = min(self._least, noted)

    def _checkpoint(self) -> Checkpoint:
        node = self._node
        sessions = {name: session.kept for name, session in node.sessions.all_named()}
        for name, positions in sessions.items():
            self._remember(name, positions)
        view = node.stream.view
        return Checkpoint(
            node.name,
            view.epoch,
            view.lineage,
            node.stream.placed,
            {name: Consumer(r.cursor, r.named) for name, r in node.registry.items()},
            node.publishers.lasts(),
            sessions,
            durable=self.journal.fsync is Fsync.ALWAYS,
            losses=view.losses,
            holders={
                name: session.holder
                for name, session in node.sessions.all_named()
                if session.holder is not None
            },
        )


def restore(node: Node, recovered: Recovered, now: Now) -> None:
    """`node`, which has just been made, goes on with what was recovered. Its stream has begun with that already."""
    node.stream.begin(recovered.entries)
    _say_what_is_left(node, recovered)
    state = recovered.state
    placed = zip(recovered.entries, recovered.sequences, strict=True)
    node.publishers.restore(state.publishers, placed)
    for name, consumer in state.consumers.items():
        node.registry.restore(name, consumer.cursor, consumer.named, now.mono_ns)
    # Another session may have taken a name since: to send that one away would be wrong.
    holders = state.holders if node.own_life.continues(recovered) else {}
    for name, positions in state.sessions.items():
        node.sessions.restore(name, positions, holders.get(name))


def _say_what_is_left(node: Node, recovered: Recovered) -> None:
    """A journal holds a little more than the ring. Beyond that only a ring that was made smaller leaves something out."""
    log = node.stream.log
    found = sum(entry.count for entry in recovered.entries)
    if log.messages == found:
        return
    say = node.notices.info if log.messages else node.notices.warning
    say(
        "ring.trimmed",
        found=found,
        held=log.messages,
        oldest=log.view.oldest,
        next=log.view.next,
        ring_messages=log.max_messages,
        ring_bytes=log.max_bytes,
    )

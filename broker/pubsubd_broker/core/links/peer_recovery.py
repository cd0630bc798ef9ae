"""Peer recovery: a producer that has lost its memory asks its peers for its own stream, before it serves any of them.

Every peer that it is to dial is asked how far its replica reaches. When all have answered, or time is over, the stream
goes on with the longest one, under a new epoch whose lineage ends where that does. The recovery is over when the shell has
also noted that life on its disk: no publisher may be told "accepted" by a life that the next one can't find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pubsubd_broker.core.limits import FETCH_BYTES, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.attach import At, Earliest, Resume
from pubsubd_protocol.entries import MAX_ENTRY_OVERHEAD, Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Ack, Fetch, Fetched, Frame, Heartbeat
from pubsubd_protocol.positions import Epoch, Position, StreamView

SessionPlaces = dict[str, dict[str, Position]]
"""Positions of named sessions, by name and stream."""


@dataclass(frozen=True, slots=True)
class PeerHistory:
    """The history that a peer held of this node's stream."""

    view: StreamView
    entries: list[Entry]
    names: dict[str, Position]
    """The furthest position of each named session in this stream, of all that peers remember."""
    remembered: list[tuple[str, str, Position]]
    """Name, stream and position of named sessions, in every stream, as each peer remembers them."""


class PeerRecovery:
    """Runs from the start of a node's life until `life_begun`. The node serves commands only, as long as it runs."""

    def __init__(
        self,
        node: str,
        targets: Iterable[Target],
        *,
        patience_ns: int,
        most_names: int,
        started_ns: int,
        latest: Epoch | None,
        decide: Callable[[PeerHistory | None, Now], None],
    ) -> None:
        """`patience_ns`: the longest silence of a peer. `most_names`: the most named sessions that this node keeps.

        `latest`: the last epoch of the node that is known here. `decide`: is called once, with None if no peer holds anything.
        """
        # The wait for answers, and as long again for the history of one peer.
        wait_ns = 2 * patience_ns
        self._node = node
        self._targets = targets
        self._until_ns = started_ns + wait_ns
        self._over_ns = started_ns + 2 * wait_ns
        self._latest = latest
        self._most_names = most_names
        self._decide = decide
        self._ends: dict[Target, RecoveryEnd] = {}
        self._source: RecoveryEnd | None = None
        self.decided = False
        """Whether it is known what the stream goes on with. The life is to be begun then."""

    def joins(self, end: RecoveryEnd) -> None:
        self._ends[end.target] = end

    def leaves(self, end: RecoveryEnd) -> None:
        """The connection of `end` is gone: if it was being read from, another one is."""
        if self._ends.get(end.target) is end:
            del self._ends[end.target]
        if self._source is end:
            self._source = None

    def tick(self, now: Now) -> None:
        """Goes on if every peer has answered, or if the wait is over."""
        if self.decided:
            return
        over = now.mono_ns >= self._until_ns
        if self._source is None and (over or self._all_answered):
            held = [end for end in self._ends.values() if end.view is not None and end.view.next]
            if held:
                self._source = max(held, key=lambda end: _reach(end, held, self._latest))
                self._source.read()
            else:
                self._finish(None, now)
        elif over and now.mono_ns >= self._over_ns:
            # The peer that is read from is too slow: better no history than no broker.
            self._finish(None, now)

    def complete(self, log: Log, now: Now) -> None:
        """All that a peer held has come, as far as the ring takes it."""
        if self.decided:
            return
        items = (log[index] for index in range(log.begin, log.end))
        entries = [item for item in items if isinstance(item, Entry)]
        remembered = [
            (name, stream, place)
            for end in self._ends.values()
            for name, positions in end.names.items()
            for stream, place in positions.items()
        ]
        view = log.view
        self._finish(PeerHistory(view, entries, self._names(view), remembered), now)

    @property
    def ends(self) -> list[RecoveryEnd]:
        return list(self._ends.values())

    @property
    def _all_answered(self) -> bool:
        return all(
            target.recovers or (target in self._ends and self._ends[target].view is not None)
            for target in self._targets
            if not target.is_self
        )

    def _finish(self, history: PeerHistory | None, now: Now) -> None:
        self.decided = True
        self._decide(history, now)

    def _names(self, view: StreamView) -> dict[str, Position]:
        """The furthest place of each named session of this node in its stream, of all that peers remember."""
        places = dict[str, Position]()
        for end in self._ends.values():
            for name, positions in end.names.items():
                stood = [p for p in (places.get(name), positions.get(self._node)) if p is not None]
                if stood:
                    places[name] = max(stood, key=view.depth)
        return dict(list(places.items())[: self._most_names])


class RecoveryEnd:
    """The consumer's end of a link to a peer, before this node pulls that peer's stream."""

    role: Final = "recovery"
    has_last_words: Final = False
    beats: Final = True
    settled: Final = True

    def __init__(
        self,
        connection: Connection,
        target: Target,
        *,
        node: str,
        ring: tuple[int, int],
        max_frame: int,
        recovery: PeerRecovery,
    ) -> None:
        """`ring`: the most messages and bytes that the stream of this `node` holds."""
        self.target = target
        self.view: StreamView | None = None
        """The part of this node's stream that the peer holds without a hole."""
        self.epochs: frozenset[Epoch] = frozenset()
        """Epochs of this node that the peer knows to be earlier than that."""
        self.names: SessionPlaces = {}
        """Positions of this node's named sessions in every stream, as the peer remembers them."""
        self.longest_frame = max_frame + MAX_ENTRY_OVERHEAD
        self._log: Log | None = None
        self._node = node
        self._ring = ring
        self._connection = connection
        self._recovery = recovery
        self._left = 0
        self._id = 0
        recovery.joins(self)
        connection.send(Fetch(self._id, Earliest(), 0, node))

    @property
    def held(self) -> int:
        """Messages of it that have come, as far as the ring takes them."""
        return self._log.messages if self._log is not None else 0

    def read(self) -> None:
        """Asks for the next part of it."""
        assert self._log is not None
        self._id += 1
        at = At(self._log.end_position)
        self._connection.send(Fetch(self._id, at, FETCH_BYTES, self._node))

    def received(self, frame: Frame, now: Now) -> bool:
        match frame:
            case Fetched(id=number) if number == self._id and not self._left:
                self._fetched(frame, now)
            case Ack(node=peer) if self.view is None:
                self.names = {n: {peer: p} for n, p in frame.named.items() if p is not None}
                for name, positions in frame.elsewhere.items():
                    self.names.setdefault(name, {}).update(positions)
            case Entry() if self._left and self._log is not None:
                self._take(frame, self._log, now)
            case Heartbeat():
                pass
            case _:
                name = type(frame).__name__
                raise ProtocolError("unexpected_frame", f"{name} from a peer that is asked")
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        return False

    def heartbeat(self) -> Heartbeat:
        return Heartbeat()

    def tick(self, now: Now) -> None:
        """Waits for no time."""

    def farewell(self, now: Now) -> None:
        """Says nothing more."""

    def lost(self, now: Now) -> None:
        self._recovery.leaves(self)

    def close(self) -> None:
        self._connection.close()

    def _fetched(self, fetched: Fetched, now: Now) -> None:
        if self._log is None or self.view is None:
            view = fetched.view
            self.view = _checked(view)
            self.epochs = frozenset((*fetched.other_epochs, *(epoch for epoch, _ in view.lineage)))
            # As large as the ring: the peer may name any size.
            self._log = Log(*self._ring, view.epoch, view.lineage, view.oldest, view.losses)
            self._recovery.tick(now)
        elif not isinstance(fetched.answer, Resume):
            raise ProtocolError("fetch", f"{fetched.answer} of what was held a moment ago")
        elif not fetched.count and self._log.newest.next < self.view.next:
            following = self._log.newest.next
            raise ProtocolError("fetch", f"nothing behind offset {following} of {self.view.next}")
        else:
            self._left = fetched.count
            self._go_on(self._log, now)

    def _take(self, entry: Entry, log: Log, now: Now) -> None:
        assert self.view is not None
        following = log.newest.next
        whole = entry.count == entry.next - entry.first
        if (entry.node, entry.first) != (self._node, following) or not whole:
            raise ProtocolError("offset", f"{entry.first} of {entry.node}, {following} comes next")
        if not self.view.covers(entry.epoch, entry.next):
            raise ProtocolError("epoch", f"{entry.next} in {entry.epoch.hex()}, beyond what it has")
        log.append(entry)
        self._left -= 1
        self._go_on(log, now)

    def _go_on(self, log: Log, now: Now) -> None:
        assert self.view is not None
        if self._left:
            return
        if log.newest.next >= self.view.next:
            self._recovery.complete(log, now)
        else:
            self.read()


def _reach(
    end: RecoveryEnd, others: list[RecoveryEnd], latest: Epoch | None = None
) -> tuple[bool, int, int, int]:
    """Orders what peers hold: the later history first, then who comes further, then who has more.

    `latest`: the last life that is known of here. A history that holds it is later than any that does not.
    A life that placed nothing stands in no lineage: what counts is the epoch that placed the last message a peer holds.
    """
    view = end.view
    assert view is not None
    continues = sum(
        other.view is not None and other.view.place(other.view.next).epoch in end.epochs
        for other in others
        if other is not end
    )
    knows = latest is not None and view.reach(latest) is not None
    return knows, continues, view.next, -view.oldest


def _checked(view: StreamView) -> StreamView:
    """Raises `ProtocolError` for lives that no node can have had: what is gone on with is told to every reader."""
    epochs = [view.epoch, *(epoch for epoch, _ in view.lineage)]
    ends = [end for _, end in view.lineage]
    if len(set(epochs)) < len(epochs) or ends != sorted(ends, reverse=True):
        raise ProtocolError("epoch", f"lives that end at {ends[:8]}, of {len(set(epochs))} epochs")
    return view

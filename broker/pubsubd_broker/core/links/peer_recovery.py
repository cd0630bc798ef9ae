"""A producer that has lost its memory asks its peers what they still hold of its own stream, before it serves anybody.

Every peer that it is to dial is asked how far its replica reaches. When all have answered, or time is over, the stream
goes on with the longest one, under a new epoch whose lineage ends where that does. The recall is over when the shell has
also noted that life on its disk: nobody may be told "accepted" by a life that the next one can't find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pubsubd_broker.core.journal.checkpoint import Checkpoint
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.limits import FETCH_BYTES, Now
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.attach import At, Earliest, Resume
from pubsubd_protocol.entries import MAX_ENTRY_OVERHEAD, Entry, open_entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Ack, Fetch, Fetched, Frame, Heartbeat
from pubsubd_protocol.positions import Epoch, Position, StreamView

if TYPE_CHECKING:
    from pubsubd_broker.core.links.connection import Connection
    from pubsubd_broker.core.links.dial_targets import Target
    from pubsubd_broker.core.node import Node


class Recall:
    """As long as it lasts, the node greets nobody. `until_ns`: when it goes on with what it has."""

    def __init__(self, node: Node, until_ns: int) -> None:
        self._node = node
        self._until_ns = until_ns
        self._ends: dict[Target, RecallEnd] = {}
        self._silent: set[Target] = set()
        """Those that have nothing, and said so."""
        self._source: RecallEnd | None = None
        self.decided = False
        """Whether it is known what the stream goes on with. The life is to be begun then."""
        self.recovered: Recovered | None = None
        """What it goes on with; None for nothing."""

    def has_nothing(self, target: Target) -> None:
        """The peer there is in the same state, or is this node itself."""
        self._silent.add(target)

    def joins(self, end: RecallEnd) -> None:
        self._ends[end.target] = end

    def leaves(self, end: RecallEnd) -> None:
        """Its connection is gone: if it was being read from, another one is."""
        if self._ends.get(end.target) is end:
            del self._ends[end.target]
        if self._source is end:
            self._source = None

    def tick(self, now: Now) -> None:
        """Goes on if everybody has answered, or if it has been waiting for long enough."""
        if self.decided:
            return
        targets = [target for target in self._node.targets if not target.is_self]
        answered = all(
            target in self._silent or (target in self._ends and self._ends[target].view is not None)
            for target in targets
        )
        over = now.mono_ns >= self._until_ns
        if self._source is None and (answered or over):
            held = [end for end in self._ends.values() if end.view is not None and end.view.next]
            if held:
                latest = self._node.own_life.latest_known
                self._source = max(held, key=lambda end: _reach(end, held, latest))
                self._source.read()
            else:
                self._node.recalled(None, now)
        elif over and now.mono_ns >= 2 * self._until_ns - self._node.started_ns:
            # Whoever is read from is too slow: better none than never.
            self._node.recalled(None, now)

    def complete(self, log: Log, now: Now) -> None:
        """All that a peer held has come, as far as the ring takes it."""
        if self.decided:
            return
        view = log.view
        name = self._node.name
        sessions = {n: {name: place} for n, place in self._names(view).items()}
        state = Checkpoint(
            *(name, view.epoch, view.lineage, view.oldest, {}, {}, sessions), losses=view.losses
        )
        items = (log[index] for index in range(log.begin, log.end))
        entries = [item for item in items if isinstance(item, Entry)]
        sequences = [open_entry(entry).sequence for entry in entries]
        vectors = [end.names for end in self._ends.values()]
        self._node.recalled(Recovered(state, view.next, entries, sequences), now)
        for names in vectors:
            for session, positions in names.items():
                for stream, place in positions.items():
                    self._node.sessions.recalled(session, stream, place)

    def _names(self, view: StreamView) -> dict[str, Position]:
        """Where this node's named sessions stood in its stream: of what peers remember, the place that is furthest."""
        own, places = self._node.name, dict[str, Position]()
        for end in self._ends.values():
            for name, positions in end.names.items():
                stood = [p for p in (places.get(name), positions.get(own)) if p is not None]
                if stood:
                    places[name] = max(stood, key=view.depth)
        return dict(list(places.items())[: self._node.config.limits.named_sessions])

    @property
    def ends(self) -> list[RecallEnd]:
        return list(self._ends.values())


class RecallEnd:
    """The consumer's end of a link to a peer, before this node pulls that peer's stream."""

    role = "recall"
    has_last_words = False
    beats = True
    settled = True

    def __init__(self, node: Node, connection: Connection, target: Target, recall: Recall) -> None:
        self.target = target
        self.view: StreamView | None = None
        """What the peer holds of this node's stream without a hole."""
        self.lives: frozenset[Epoch] = frozenset()
        """Lives of this node that the peer knows to be earlier than that."""
        self.names: dict[str, dict[str, Position]] = {}
        """Where this node's named sessions stood in every stream, as the peer remembers."""
        self._log: Log | None = None
        self.longest_frame = node.config.max_frame + MAX_ENTRY_OVERHEAD
        self._node = node
        self._connection = connection
        self._recall = recall
        self._left = 0
        self._id = 0
        recall.joins(self)
        connection.send(Fetch(self._id, Earliest(), 0, node.name))

    @property
    def held(self) -> int:
        """How many messages of it have come, as far as the ring takes them."""
        return self._log.messages if self._log is not None else 0

    def read(self) -> None:
        """Asks for what comes next of it."""
        assert self._log is not None
        self._id += 1
        at = At(self._log.front)
        self._connection.send(Fetch(self._id, at, FETCH_BYTES, self._node.name))

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
        """Nothing here waits for time."""

    def farewell(self, now: Now) -> None:
        """It has nothing more to say."""

    def lost(self, now: Now) -> None:
        self._recall.leaves(self)

    def close(self) -> None:
        self._connection.close()

    def _fetched(self, fetched: Fetched, now: Now) -> None:
        if self._log is None or self.view is None:
            view, config = fetched.view, self._node.config
            self.view = _checked(view)
            self.lives = frozenset((*fetched.lives, *(epoch for epoch, _ in view.lineage)))
            # As large as the ring, whatever the peer says that it has.
            limits = config.ring_messages, config.ring_bytes
            self._log = Log(*limits, view.epoch, view.lineage, view.oldest, view.losses)
            self._recall.tick(now)
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
        if (entry.node, entry.first) != (self._node.name, following) or not whole:
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
            self._recall.complete(log, now)
        else:
            self.read()


def _reach(
    end: RecallEnd, others: list[RecallEnd], latest: Epoch | None = None
) -> tuple[bool, int, int, int]:
    """Orders what peers hold: the later history first, then who comes further, then who has more.

    `latest`: the last life that is known of here. A history that holds it is later than any that does not.
    A life that placed nothing is in no lineage: what counts is the epoch that placed the last message a peer holds.
    """
    view = end.view
    assert view is not None
    continues = sum(
        other.view is not None and other.view.place(other.view.next).epoch in end.lives
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

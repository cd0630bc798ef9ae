"""Positions up to which a session has *received*, and the frames by which it resumes on a new connection. Pure.

Received messages are those that this process holds, handed to the application or not. A reconnect presents these
positions, so that no message comes twice. `inbox.py` has the application's positions.
"""

from __future__ import annotations

from collections.abc import Mapping

from pubsubd.errors import InvalidArgument
from pubsubd_protocol.attach import LOSES_HISTORY
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import InvalidPosition, InvalidTopic, ProtocolError
from pubsubd_protocol.fields import MAX_SESSION_NAME, MAX_STREAMS, Wrong, check_session_name
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.frames import Skip, StreamPosition, Subscribe, Subscribed
from pubsubd_protocol.positions import NO_EPOCH, Epoch, Position
from pubsubd_protocol.topics import Filter, check_asked


class Arrived:
    """Messages arrived: those of `entry` from offset `start` on."""

    __slots__ = ("entry", "start")

    def __init__(self, entry: Entry, start: int) -> None:
        self.entry = entry
        self.start = start


class Moved:
    """The position in `node`'s stream moved, without a message for this session."""

    __slots__ = ("node", "position")

    def __init__(self, node: str, position: Position) -> None:
        self.node = node
        self.position = position


Event = Arrived | Moved | Expired

StreamFrame = Entry | Skip | Expired | StreamPosition
"""A frame that says how one stream goes on."""


class SessionState:
    """A subscription's state over all of its connections.

    Raises `InvalidTopic`, `InvalidPosition`, or `InvalidArgument` for an invalid name.
    """

    def __init__(
        self,
        patterns: tuple[str, ...],
        start: str,
        positions: Mapping[str, Position] | None,
        name: object,
        echo: bool,
        session_id: bytes | None = None,
    ) -> None:
        """`session_id`: random bytes of a named session. By them, a broker tells it from another session of that name."""
        self.patterns = _distinct(patterns)
        self.name = None if name is None else _session_name(name)
        self.resumed = False
        self.received: dict[str, Position] = _presentable(positions or {})
        self._fresh = positions is None
        self._start = start
        self._born: bytes | None = None
        self._echo = echo
        self._id = session_id
        self.born: bytes | None = None
        """The broker's own epoch, as of the last open connection."""
        # By node: the epoch of the last loss of history of which the broker told.
        self._began: dict[str, Epoch] = {}

    def change_filter(self, add: tuple[str, ...], drop: tuple[str, ...]) -> None:
        """Change the patterns. Raises `InvalidTopic`, and then changes nothing."""
        kept = tuple(pattern for pattern in self.patterns if pattern not in drop)
        self.patterns = _distinct((*kept, *add))

    @property
    def stood(self) -> bool:
        """Whether the broker has opened the session, on this or an earlier connection."""
        return self._born is not None

    def subscribe(
        self,
        acknowledged: dict[str, Position] | None = None,
        unheard: Mapping[str, float] | None = None,
    ) -> Subscribe:
        """The frame that opens the session on a new connection. A named session also presents `acknowledged`.

        With more nodes than a position may have, the session forgets `unheard` ones. Raises `InvalidPosition` if
        that is not enough.
        """
        self.received = _presentable(within_bound(self.received, unheard or {}))
        if acknowledged is not None:
            acknowledged = {n: p for n, p in acknowledged.items() if n in self.received}
        positions = None if self._fresh else dict(self.received)
        return Subscribe(
            *(self.patterns, self._start, positions, self._born, self.name, self._echo),
            acknowledged,
            self._id,
        )

    def subscribed(self, answer: Subscribed) -> list[Moved]:
        """Take the broker's answer: the session is open. Returns the positions that are new to the session."""
        if self._born is None:
            # A session with a stored position was born before this broker life. So a stream that is missing in the
            # position is read from its first message on.
            self._born = answer.born if self._fresh else NO_EPOCH
            self.resumed = answer.resumed
        self._fresh = False
        self.born = answer.born
        # The presented positions hold. The broker can only add streams, or tell of a gap.
        news = [
            Moved(node, position)
            for node, position in answer.positions.items()
            if node not in self.received
        ]
        for moved in news:
            self.received[moved.node] = moved.position
        return news

    def event_of(self, frame: StreamFrame) -> Event | None:
        """Receive `frame`. Returns what it brings, or None. Raises `ProtocolError` if it does not follow."""
        match frame:
            case Entry():
                return self.entry(frame)
            case Skip():
                return self.skip(frame)
            case Expired():
                return self.expired(frame)
        return self.told(frame)

    def back_to(self, positions: Mapping[str, Position]) -> None:
        """Forget all that was received behind `positions`: the next connection brings it again."""
        self.received = dict(positions)
        self._began.clear()

    def told(self, told: StreamPosition) -> Moved | None:
        held = self.received.get(told.node)
        if held is None:
            self.received[told.node] = told.position
            return Moved(told.node, told.position)
        self._continues(told.node, held, told.position.offset)
        return None

    def entry(self, entry: Entry) -> Arrived | None:
        """The new messages of `entry`; None if all were received before. Raises `ProtocolError` at a hole."""
        held = self._held(entry.node)
        self._continues(entry.node, held, entry.first)
        if entry.next <= held.offset:
            return None
        self.received[entry.node] = Position(entry.epoch, entry.next)
        return Arrived(entry, held.offset)

    def skip(self, skip: Skip) -> Moved | None:
        held = self._held(skip.node)
        self._continues(skip.node, held, skip.first)
        if skip.next <= held.offset:
            return None
        position = self.received[skip.node] = Position(skip.epoch, skip.next)
        return Moved(skip.node, position)

    def expired(self, expired: Expired) -> Expired | None:
        """The gap; None if the broker repeats, at the same position, a loss that this session knows."""
        node, view = expired.node, expired.view
        place = view.place(view.next)
        again = self.received.get(node) == place and self._began.get(node) == view.epoch
        if expired.reason in LOSES_HISTORY:
            self._began[node] = view.epoch
        self.received[node] = place
        return None if again else expired

    def _held(self, node: str) -> Position:
        held = self.received.get(node)
        if held is None:
            raise ProtocolError(
                "no_position", f"a message of node {node} came before a position in its stream"
            )
        return held

    def _continues(self, node: str, held: Position, first: int) -> None:
        if first > held.offset:
            raise ProtocolError(
                "hole", f"node {node} goes on at {first}, the position is {held.offset}"
            )


def _distinct(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise InvalidTopic('a subscription needs at least one pattern; ">" matches all topics')
    return Filter(map(check_asked, patterns)).patterns


def _session_name(name: object) -> str:
    try:
        return check_session_name(name)
    except Wrong:
        length = f"{len(name)} characters" if isinstance(name, str) else type(name).__name__
        raise InvalidArgument(
            f"the name of a subscription is 1 to {MAX_SESSION_NAME} printable characters, "
            f"not {str(name)[:40]!r} ({length})"
        ) from None


def within_bound(
    positions: Mapping[str, Position], unheard: Mapping[str, float]
) -> dict[str, Position]:
    """`positions` with at most `MAX_STREAMS` nodes: beyond that it drops unheard nodes, those silent for longest first.

    A node that was recreated under another name stays in every position, and is never heard again. `unheard`: by node,
    the start of its silence.
    """
    surplus = max(0, len(positions) - MAX_STREAMS)
    silent = sorted((node for node in positions if node in unheard), key=unheard.__getitem__)
    left_out = set(silent[:surplus])
    return {node: place for node, place in positions.items() if node not in left_out}


def _presentable(positions: Mapping[str, Position]) -> dict[str, Position]:
    if len(positions) > MAX_STREAMS:
        raise InvalidPosition(
            f"a position has {len(positions)} nodes, the limit is {MAX_STREAMS}: remove the nodes that no longer "
            "exist (`del position[node]`); a missing node counts as never seen"
        )
    return dict(positions)

"""A session: one local subscription, a filter, and a reading for every stream that its broker knows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.acks import check_ack
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.sessions.reading_states import PARKED
from pubsubd_broker.core.sessions.source import Source
from pubsubd_protocol.attach import At, Claim, Earliest, FromStart, Remembered
from pubsubd_protocol.entries import Entry, part_of
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.frames import Ack, Subscribe
from pubsubd_protocol.positions import UNREPORTED_LOSS, Position, StreamView
from pubsubd_protocol.topics import Filter

UNNAMED_HOLDER = b""
"""Id of a session whose client says none."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The connection that a session has now: when it was opened, and how it is ended for a newer one."""

    opened_ns: int
    replace: Callable[[Now], None]


class Session:
    """Reads; has no queue. A slow one is only a set of cursors that lag.

    `born_here`: it was first opened in this life of the broker. `reader` is the node it runs on.
    """

    __slots__ = (
        "_acknowledged",
        "_inquired_ns",
        "_kept",
        "_order",
        "_presented",
        "_remembered",
        "_unread",
        "_without",
        "assumed",
        "born_here",
        "connected",
        "filter",
        "holder",
        "left_ns",
        "name",
        "reader",
        "readings",
        "seat",
        "start",
        "wake",
    )

    def __init__(
        self, reader: str, subscribe: Subscribe, client_id: bytes, *, born_here: bool
    ) -> None:
        self.reader = reader
        self.name = subscribe.name
        self.left_ns = 0
        """Time at which its application left last."""
        self._inquired_ns = 0
        self.born_here = born_here
        self.assumed: set[str] = set()
        """Streams in which it was placed as if it were new there. A peer may remember that it is not."""
        self.connected = True
        self.holder: bytes | None = None
        """Id of the application's session that took the name last. None: not known, or a session without a name."""
        self.seat: Seat | None = None
        self.wake: Callable[[], None] = _wakes_none
        self.readings: dict[str, Reading] = {}
        self._order: deque[Reading] = deque()
        # Over this connection, and before it; both hold streams too that this broker has not met yet.
        self._acknowledged: dict[str, Position] = {}
        self._kept: dict[str, Position] = {}
        # Where peers remember that it stood in streams that this broker has not met in this life.
        self._remembered: dict[str, list[Position]] = {}
        # Streams that its broker has given up before it had read them to the end.
        self._unread: set[str] = set()
        self.configure(subscribe, client_id)

    def configure(self, subscribe: Subscribe, client_id: bytes) -> None:
        """Takes what the application wants, anew at each of its lives."""
        self.refilter(Filter(subscribe.patterns))
        self.start = subscribe.start
        self._without = None if subscribe.echo else client_id
        positions = subscribe.positions or {}
        if subscribe.positions is not None:
            # One that reconnects presents what it has received, and says what of that it is done with. Of a stream
            # that it leaves out there it has not taken in the loss that it was told of.
            done = positions if subscribe.acknowledged is None else subscribe.acknowledged
            self._kept = {node: done.get(node, UNREPORTED_LOSS) for node in positions}
        self._presented = self._kept | positions
        self._acknowledged.clear()

    def refilter(self, changed: Filter) -> None:
        """From where it stands on it wants something else."""
        self.filter = changed
        for reading in self.readings.values():
            reading.refilter(changed)

    def add(self, source: Source, start: Position | Claim, *, tell: bool = False) -> Reading:
        """Begins to read `source` at `start`. `tell`: its application does not know that place."""
        away = not self.connected
        reading = Reading(source, start, self.filter, self._woken, tell=tell, away=away)
        for said in (self._kept, self._acknowledged):
            if source.node in said:
                reading.bookmark.acknowledged = said[source.node]
        self.readings[source.node] = reading
        self._order.append(reading)
        return reading

    def first_contact(self, node: str) -> Position | Claim:
        """Place in a stream that the session's broker meets for the first time."""
        if node in self._presented:
            return self._presented[node]
        owed = Remembered(waiting=True) if self.born_here else FromStart()
        return Earliest(owed) if self.start == "earliest" else owed

    def remembered(self, node: str, view: StreamView) -> Position | None:
        """The furthest of the places in `node`'s stream, which is met now, that peers remember of an earlier life."""
        return max(self._remembered.pop(node, ()), key=view.depth, default=None)

    def lived_before(self, node: str, place: Position) -> None:
        """A peer remembers that it stood at `place` of `node`'s stream in an earlier life of this broker.

        That counts where nothing better is known: not the application's word, this broker's, or the producer's.
        """
        if node in self.assumed:
            self.assumed.discard(node)
            self.readings[node].lived_before(place, reads=self.connected)
        elif node not in self.readings and node not in self._presented:
            places = self._remembered.setdefault(node, [])
            if place not in places:
                places.append(place)

    def is_done_with(self, node: str) -> bool:
        """Whether it needs nothing of what its broker holds of `node`'s stream."""
        reading = self.readings[node]
        return reading.is_done(connected=self.connected, named=self.name is not None)

    def let_go(self, node: str) -> None:
        """The broker gives up `node`'s stream. A session that is done with it keeps its place, for the return of `node`."""
        if not self.is_done_with(node):
            self._unread.add(node)
            self.readings[node].wake()
            return
        self._unread.discard(node)
        reading = self.readings.pop(node)
        self._order.remove(reading)
        position, kept = reading.position, reading.kept
        reading.stop()
        assert position is not None, "it is done with a stream in which it stands"
        self._presented[node] = position
        self._acknowledged.pop(node, None)
        if kept is not None:
            self._kept[node] = kept

    def meet_again(self, source: Source) -> Reading:
        """The broker gave this stream up before the session had read it to the end, and knows it again."""
        self._unread.discard(source.node)
        reading = self.readings[source.node]
        reading.moves_to(source)
        return reading

    def keep_within_bound(self) -> int:
        """Forgets the places that are more than a frame takes, and returns how many those were.

        Only in streams that its broker does not know, the one that was presented first before the others. What it is
        owed of a stream that it does not know is all of it from now on: it may have had a place there.
        """
        surplus = len(self._presented.keys() | self.readings.keys()) - MAX_STREAMS
        unmet = [node for node in self._presented if node not in self.readings]
        forgotten = unmet[: max(0, surplus)]
        for node in forgotten:
            for places in (self._presented, self._kept, self._acknowledged):
                places.pop(node, None)
        self.born_here = self.born_here and not forgotten
        return len(forgotten)

    def rejoin(self, subscribe: Subscribe, client_id: bytes) -> None:
        """The application is back. If it knows where it stands, that counts more than what it acknowledged."""
        self.configure(subscribe, client_id)
        self.connected = True
        for reading in self.readings.values():
            reading.attend()
        for node, position in (subscribe.positions or {}).items():
            if node in self.readings:
                reading = self.readings[node]
                reading.bookmark.acknowledged = self._kept[node]
                reading.go_on(position)

    def introduce(self) -> dict[str, Position]:
        """Places of the session as it opens: in every stream without something else to tell first.

        A life of the application may have known streams that this broker has not met; the next one learns of them.
        """
        places = {n: position for n, position in self._presented.items() if n not in self.readings}
        for node, reading in self.readings.items():
            position = reading.bookmark.introduce()
            if position is not None:
                places[node] = position
        return places

    @property
    def positions(self) -> dict[str, Position]:
        """The next offset that it needs of every stream in which it stands, met by this broker or not."""
        found: dict[str, Position | None] = dict(self._presented)
        found.update((node, reading.position) for node, reading in self.readings.items())
        return {node: position for node, position in found.items() if position is not None}

    @property
    def unmet(self) -> set[str]:
        """The producers that it knows and its broker does not: it has not met them in this life, or has given them up."""
        return (self._presented.keys() - self.readings.keys()) | self._unread

    @property
    def kept(self) -> dict[str, Position]:
        """Places at which the session begins again in its next life, as far as they are known."""
        places = self._kept | self._acknowledged
        for node, reading in self.readings.items():
            kept = reading.kept
            if kept is not None:
                places[node] = kept
        return places

    def kept_in(self, node: str) -> int:
        """The offset in `node`'s stream where it begins again in its next life; 0 if that is not known."""
        reading = self.readings.get(node)
        kept = None if reading is None else reading.kept
        return 0 if kept is None else kept.offset

    def needs(self, node: str) -> Claim:
        """Claim on `node`'s stream, now or as soon as that node is reached."""
        reading = self.readings.get(node)
        if reading is not None:
            return reading.needs
        start = self.first_contact(node)
        if not isinstance(start, Position) and node in self._remembered:
            start = self._remembered[node][0]
        return At(start) if isinstance(start, Position) else start

    def acknowledge(self, ack: Ack) -> None:
        """The application is done with all before `ack.position`. Raises `ProtocolError` if it was not sent that far."""
        reading = self.readings.get(ack.node)
        stands = reading.position if reading is not None else self._presented.get(ack.node)
        view = reading.source.log.view if reading is not None else None
        check_ack(ack, stands, self._acknowledged.get(ack.node), view)
        self._acknowledged[ack.node] = ack.position
        if reading is not None:
            reading.bookmark.acknowledge(ack)

    def leave(self, now_ns: int) -> None:
        """The application is gone; what the broker keeps of the session waits for its next life."""
        self.connected = False
        self.left_ns = now_ns
        self.wake = _wakes_none
        self._kept.update(self._acknowledged)
        self._presented = dict(self._kept)
        for reading in self.readings.values():
            reading.leave()

    def close(self) -> None:
        self.connected = False
        self.wake = _wakes_none
        for reading in self.readings.values():
            reading.stop()

    def pull(self, out: Outgoing) -> bool:
        """Writes what there is to read, one stream after the other, the next time beginning with another."""
        more = False
        out.looks = self.filter.looks
        for reading in list(self._order):
            if out.full:
                more = True
                break
            if reading.state is PARKED and not reading.overdue:
                continue
            more = reading.pull(self._choose, out) or more
        self._order.rotate(-1)
        return more

    def settle(self, out: Outgoing) -> None:
        """Tells the session how far it has come in every stream, also where nothing was for it."""
        for reading in self.readings.values():
            reading.settle(out)

    def remind(self) -> None:
        """Has the session told how far it has come, in its turn and as soon as its socket takes it."""
        for reading in self.readings.values():
            if reading.unreported:
                reading.remind()

    def is_gone(self, now_ns: int, every_ns: int) -> bool:
        """Whether its next life is told of a loss in any case. Producers are asked once in `every_ns`."""
        if now_ns - self._inquired_ns >= every_ns:
            self._inquired_ns = now_ns
            for reading in self.readings.values():
                reading.inquire()
        return any(reading.gone for reading in self.readings.values())

    @property
    def drained(self) -> bool:
        """Whether it has read all that is at hand, and its application knows so."""
        return all(
            reading.position == reading.source.log.end_position and not reading.bookmark.unreported
            for reading in self.readings.values()
        )

    def _woken(self) -> None:
        self.wake()

    def _choose(self, entry: Entry) -> Entry | None:
        if entry.publisher == self._without or (entry.to is not None and entry.to != self.reader):
            return None
        return entry if self.filter.everything else part_of(entry, self.filter.wants)


def _wakes_none() -> None:
    """Wakes no connection: the session has none."""

"""The session of an application, as its broker, producers and third nodes know it. Counted apart from their code."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from tests.simulation.brokers import SimBroker
from tests.simulation.client_socket import ClientSocket
from tests.simulation.history import Forgotten, History, Kept, Lost, Opened, Wants
from tests.simulation.truth import NOWHERE, Place

from pubsubd.errors import CursorExpired as Notice
from pubsubd.resume import SessionState
from pubsubd_protocol.frames import Subscribed
from pubsubd_protocol.positions import Position

if TYPE_CHECKING:
    from tests.simulation.world import World


def places_of(positions: Mapping[str, Position]) -> dict[str, Place]:
    return {node: (p.epoch.hex(), p.offset) for node, p in positions.items()}


class KnownSession:
    """The memories of a session. `named`: they are kept under its name while its application is away."""

    def __init__(
        self, world: World, name: str, broker: SimBroker, history: History, *, named: bool
    ) -> None:
        self.world = world
        self.name = name
        self.broker = broker
        self.history = history
        self._named = named
        # The place of a named session, as producers knew it, when its own broker forgot it.
        self._remembered: dict[str, tuple[Place, bytes]] = {}
        self._third: dict[str, dict[str, tuple[Place, str]]] = {}
        # A resume on its way, and its end: it must arrive whole, as from a process that dies behind it.
        self._resuming: tuple[ClientSocket, int] | None = None
        self._memory_lost = False
        # Whether its name has been in its broker's journal ever since.
        self._survived = False
        # The same, and the memory of third nodes, as of the last life of its broker.
        self._before = self._memory_lost, self._survived, self._remembered, self._third
        # Acknowledgements on their way, and those that its broker has heard in this life.
        self._acks_sent: deque[tuple[int, dict[str, Place]]] = deque()
        self._heard: dict[str, Place] = {}
        self._born_in: int | None = None
        # Those, and the oldest offsets of producers, when its broker dropped its name.
        self._forgotten: tuple[dict[str, Place], dict[str, Place]] | None = None
        # The life of its broker in which its name was used first.
        self._first_life: int | None = None

    # Said by the application.

    def dials(self) -> None:
        """A new connection: acknowledgements over the last one arrive no more."""
        self._acks_sent.clear()

    def resumes(self, socket: ClientSocket, acknowledged: Mapping[str, Position]) -> None:
        self._resuming = socket, socket.wire.out.sent
        self.acknowledges(socket, acknowledged)

    def acknowledges(self, socket: ClientSocket, positions: Mapping[str, Position]) -> None:
        self._acks_sent.append((socket.wire.out.sent, places_of(positions)))

    # Heard by the broker.

    def is_resuming(self, now: ClientSocket | None) -> bool:
        """Whether a resume is under way. `now`: the application's connection."""
        if self._resuming is not None:
            socket, end = self._resuming
            if socket is now and socket.wire.out.arrived >= end:
                # Its broker has it again, whether or not the answer comes.
                self._resuming = self._forgotten = None
                self._memory_lost = False
        return self._resuming is not None

    def hear(self, now: ClientSocket | None) -> None:
        """Take the acknowledgements that have arrived."""
        if now is not None:
            arrived = now.wire.out.arrived
            while self._acks_sent and self._acks_sent[0][0] <= arrived:
                self._heard.update(self._acks_sent.popleft()[1])

    def dropped(self, now: ClientSocket | None) -> None:
        """The session's broker has dropped its name."""
        self.hear(now)
        self._forgotten = self._at_hand()

    def broker_lost_memory(self, now: ClientSocket | None) -> None:
        """The session's broker crashed: only producers can know a named session now."""
        self.is_resuming(now)
        self._heard.clear()
        self._acks_sent.clear()
        self._before = self._memory_lost, self._survived, self._remembered, self._third
        self._survived = not self._memory_lost or self._survived
        self._memory_lost = True
        self._remembered = self.remembered()
        self._third = self.remembered_elsewhere()

    def broker_started(self) -> Forgotten:
        """The session's broker is in a new life.

        It knows a name from its journal, if the name has been there all the time.
        """
        self._survived = self._survived and self.name in self.broker.recovered_names
        return Forgotten(not self._named or self._survived, self._third)

    # Answered by the broker.

    @contextlib.contextmanager
    def as_its_answer_knew(self, *, deaf: bool) -> Iterator[None]:
        """A stopping broker, deaf by then, may have answered before: its next life knows all that it wrote down."""
        if not (self._memory_lost and deaf):
            yield
            return
        now = self._memory_lost, self._remembered, self._third
        self._memory_lost, self._survived, self._remembered, self._third = self._before
        yield
        self._memory_lost, self._remembered, self._third = now
        self._survived = self.broker.node is None or self.name in self.broker.recovered_names

    def resumed(self) -> None:
        """The broker has answered a resume over another connection."""
        self._memory_lost = False

    def opened(
        self,
        answer: Subscribed,
        places: dict[str, Place],
        wants: Wants,
        *,
        stored: bool,
        again: bool,
    ) -> Opened:
        """The opening of a life of the application. `again`: it had one before; `stored`: it keeps its position."""
        self._first_life = self._first_life or self.broker.life
        kept, remembered = Kept.NOTHING, {}
        recovered: Collection[str] = self.history.at
        if again and stored:
            kept = Kept.STORED
        elif again:
            if self._memory_lost and self._survived:
                self._memory_lost = False
                recovered = self.broker.recovered_names[self.name]
            kept = Kept.PRODUCERS if self._memory_lost else Kept.BROKER
            if kept is Kept.BROKER and (self._forgotten is not None or not answer.resumed):
                kept = Kept.FORGOTTEN
            if self._memory_lost:
                # Only producers can know this session now; streams that they do not know begin anew.
                remembered = self._still_remembered()
        unknown = frozenset(self.history.at) - set(places) - self._heard.keys()
        # The last acknowledgements may not have been written down.
        unknown |= frozenset(self.history.at) - set(recovered)
        now_ns = self.world.clockwork.now_ns
        # A name that its broker once dropped may have been met anew since, and not told to any peer yet.
        dropped = self._forgotten if kept is Kept.FORGOTTEN else None
        heard, held = dropped or self._at_hand()
        surely = self.world.plan.cursor_ttl_ms > 1000
        return Opened(
            now_ns,
            kept,
            places,
            remembered,
            wants,
            unknown,
            heard,
            held,
            surely,
            self.broker.life,
            {n: t for n, t in self._third.items() if n not in remembered},
        )

    def stands(self, kept: Kept) -> None:
        """The life has begun with `kept`, which is told: what was known before does not count any more."""
        if kept is not Kept.BROKER:
            # A forgotten name may have come back from producers that had not heard of that.
            new = kept is Kept.NOTHING or (
                kept is Kept.FORGOTTEN and self.broker.life == self._first_life
            )
            self._born_in = self.broker.life if new else None
        if kept is Kept.FORGOTTEN:
            self._heard.clear()
        self._forgotten = None
        self._memory_lost = False

    def lost(self, notice: Notice, oldest: int, life: bytes) -> Lost:
        """A notice that is handed to the application. `life`: the one that its broker opened the session in."""
        place = (notice.epoch, notice.next)
        own = notice.node == self.broker.name and self.broker.life != self._first_life
        reborn = self.broker.life != self._born_in
        recovered = self._recovered(place, life) if notice.node == self.broker.name else None
        figures = notice.node, notice.reason, notice.missed
        return Lost(*figures, place, oldest, own, reborn, recovered)

    # Remembered by other nodes.

    def remembered_elsewhere(self) -> dict[str, dict[str, tuple[Place, str]]]:
        """By stream: the places that third nodes remember of the session, each with the epoch of that node's own
        stream.
        """
        found: dict[str, dict[str, tuple[Place, str]]] = {}
        for teller, broker in self.world.brokers.items():
            node = broker.node
            registered = node.registry.get(self.broker.name) if node is not None else None
            if node is None or registered is None or teller == self.broker.name:
                continue
            for stream, place in registered.places.get(self.name, {}).items():
                if stream != self.broker.name:
                    stood = (place.epoch.hex(), place.offset)
                    found.setdefault(stream, {})[teller] = stood, node.epoch.hex()
        return found

    def remembered(self) -> dict[str, tuple[Place, bytes]]:
        """The session's places in the streams of producers that know its name, and the lives in which they do."""
        found: dict[str, tuple[Place, bytes]] = {}
        for node, place in self.history.at.items():
            producer = self.world.brokers[node].node
            if producer is None or node == self.broker.name:
                continue
            registered = producer.registry.get(self.broker.name)
            if registered is not None and self.name in registered.named:
                kept = registered.named[self.name]
                reach = producer.stream.view.reach(kept.epoch)
                lost = reach is None or kept.offset > reach
                found[node] = (NOWHERE if lost else place, producer.epoch)
        return found

    def lags_behind_its_broker(self, since: Mapping[str, int], session: SessionState) -> bool:
        """Whether its broker has acknowledged more than `since` to a producer of which the session has not been told."""
        for node, end in since.items():
            producer = self.world.brokers[node].node
            if producer is not None and node not in session.received:
                registered = producer.registry.get(self.broker.name)
                if session.stood and registered is not None and registered.cursor.offset > end:
                    return True
        return False

    def _still_remembered(self) -> dict[str, Place]:
        """The places without those of producers that have lost their memory since."""
        lives = {name: b.node.epoch for name, b in self.world.brokers.items() if b.node is not None}
        return {n: place for n, (place, life) in self._remembered.items() if lives.get(n) == life}

    def _at_hand(self) -> tuple[dict[str, Place], dict[str, Place]]:
        """The acknowledgements that its broker has heard, and the oldest offset of every ring."""
        held = {n: t.oldest for n, t in self.world.truth.items() if t.oldest is not None}
        return dict(self._heard), held

    def _recovered(self, place: Place, life: bytes) -> Place | None:
        """The place of its name in its own node's stream, as peers told at its recovery, if the stream still has it."""
        stream = self.world.truth[self.broker.name]
        stood = self.world.names_from_peers.get(life, {}).get(self.name, [])
        return next((each for each in stood if stream.connects(each, place[0])), None)

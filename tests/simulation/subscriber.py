"""A simulated subscribing application: the SDK's session and inbox over simulated connections and lives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.simulation.asked_filters import AskedFilters, wanting
from tests.simulation.brokers import SimBroker
from tests.simulation.client_socket import ClientSocket
from tests.simulation.clockwork import MS
from tests.simulation.handing import Handing
from tests.simulation.history import Closed, History, Wants
from tests.simulation.history import Event as HistoryEvent
from tests.simulation.known_session import KnownSession, places_of
from tests.simulation.publisher import Publisher
from tests.simulation.violation import Violation

from pubsubd.health import SubscriptionHealth as NodesHealth
from pubsubd.resume import SessionState
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    CursorExpired,
    FilterSet,
    Frame,
    Health,
    Heartbeat,
    Hello,
    Refused,
    Skip,
    StreamPosition,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.positions import Position, dump_positions, load_positions

if TYPE_CHECKING:
    from tests.simulation.world import World


class Subscriber:
    """A session over its application's lives. All that it is handed goes through the checkers.

    `keeps`: "nothing" (an application that never restarts), "position" (stores it with its state), "name".
    """

    def __init__(
        self,
        world: World,
        name: str,
        broker: SimBroker,
        patterns: tuple[str, ...],
        *,
        keeps: str,
        start: str,
        mute: Publisher | None,
        pace_ms: int,
        appetite: int,
    ) -> None:
        self.world = world
        self.name = name
        self._chance = world.chance("subscriber", name)
        self.id = mute.id if mute is not None else self._chance.randbytes(16)
        self.broker = broker
        self.keeps = keeps
        self.stopped = False
        self.other_epochs = 1
        self.resumes = 0
        self.merged = 0
        """Notices that were merged into an earlier one."""
        self._patterns = patterns
        self._echo = mute is None
        self._start = start
        # A source of its own, so that acknowledging by hand changes no other part of a plan.
        self._hand = world.chance("hand", name)
        self._ids = world.chance("session", name)
        self._manual = self._hand.random() < 0.3
        self._pace_ms = pace_ms
        self._appetite = appetite
        self._paused = False
        self.history = History(
            name, self._wanting(patterns), earliest=start == "earliest", node=broker.name
        )
        self.socket: ClientSocket | None = None
        self._life = 0
        self._stored: str | None = None
        self.known = KnownSession(world, name, broker, self.history, named=keeps == "name")
        self._doomed = False
        self._closing = False
        self.health = NodesHealth()
        self._begin(None)
        self._connect(0)

    def _begin(self, positions: dict[str, Position] | None) -> None:
        """Begin a life with only what was kept."""
        name = self.name if self.keeps == "name" else None
        drawn = None if name is None else self._ids.randbytes(16)
        self._session = SessionState(
            self._patterns, self._start, positions, name, self._echo, drawn
        )
        self._handing = Handing(
            self._session, positions or {}, self.known, self._sees, self._hand, manual=self._manual
        )
        self._stood = False
        self._open = False
        self._closing = False
        self._filters = AskedFilters(self._session, self._patterns, self._wanting, self._sees)
        self._plan_consume(self._life)

    def restart(self) -> bool:
        """The application's process dies and comes back with what it kept."""
        if self.keeps == "nothing" or not self._stood or self.known.is_resuming(self.socket):
            return False
        self.known.hear(self.socket)
        if self._filters.changing:
            self._filters.end(dict(self.history.at))
        self._paused = False
        self._life += 1
        self.other_epochs += 1
        if self.socket is not None:
            self.socket.alive = False
            self.socket.cut()
            self.socket = None
        if self.keeps == "position":
            assert self._stored is not None
            positions = load_positions(json.loads(self._stored))
            self._begin(positions)
        else:
            self._begin(None)
        life = self._life
        self.world.clockwork.after(self._chance.randint(1, 500) * MS, lambda: self._connect(life))
        return True

    def close(self) -> None:
        """The application closes, and comes back with what it kept once its broker has said goodbye."""
        socket = self.socket
        if (
            self.keeps == "nothing"
            or not self.undisturbed
            or self._paused
            or self._filters.changing
        ):
            return
        if socket is None or self._closing:
            return
        self.world.say(f"{self.name} closes")
        self._closing = True
        self._handing.inbox.close()
        self._acknowledge(self._handing.done())
        socket.finish()
        self.world.clockwork.after(1000 * MS, lambda: self._given_up(socket))

    def _given_up(self, socket: ClientSocket) -> None:
        """Give up a broker that says no goodbye in time, as it is gone unheard."""
        socket.cut()
        self.lost(socket)

    def _closed(self, socket: ClientSocket) -> None:
        broker = socket.other
        if socket.wire.back.ended and broker.passed:
            self._handing.look()
            waiting = self._handing.waiting()
            passed = {n: p for n, p in places_of(broker.passed).items() if n not in waiting}
            self._sees(Closed(passed, self.broker.life))
            if self.keeps == "position":
                self._stored = json.dumps(dump_positions(self._handing.inbox.positions()))
        self._closing = False
        self.restart()

    def doom(self) -> bool:
        """Let the application's process die as soon as its broker has heard it resume."""
        if self.keeps == "nothing" or not self._stood or self._doomed:
            return False
        self._doomed = True
        return True

    def die_now(self) -> bool:
        """Let the doomed process die now."""
        self._doomed = False
        return self.restart()

    def change_filter(self, patterns: tuple[str, ...]) -> bool:
        """Ask for other topics from now on. Changes come one at a time, as in the SDK."""
        if not self._stood or self._filters.changing or patterns == self._patterns:
            return False
        self._session.change_filter(patterns, self._patterns)
        self._patterns = self._session.patterns
        self._filters.changing = True
        self.world.say(f"{self.name} changes its filter to {self._patterns}")
        if self._open:
            self._send_filter()
        return True

    def cut(self) -> None:
        if self.socket is not None:
            self.socket.cut()

    def pause(self) -> bool:
        """Stand still, as a stopped process does."""
        paused, self._paused = self._paused, True
        return not paused

    def go_on(self) -> None:
        self._paused = False
        if self.socket is not None:
            self.socket.wire.back.plan()

    def reads(self) -> bool:
        return not self._paused and not self._handing.inbox.full

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        if socket is not self.socket:
            return
        session = self._session
        match frame:
            case Welcome():
                self._filters.asked = session.patterns
                acknowledged = None
                if session.stood and self.keeps == "name":
                    acknowledged = self._handing.resumes()
                socket.send(session.subscribe(acknowledged))
                if session.stood:
                    self.resumes += 1
                    if acknowledged is not None:
                        self.known.resumes(socket, acknowledged)
                    self._die_behind(socket)
            case Subscribed():
                self._handing.streams = set(frame.positions)
                with self.known.as_its_answer_knew(deaf=socket.other.deaf):
                    self._subscribed(frame)
            case StreamPosition() | Entry() | Skip() | CursorExpired():
                self._handing.take(frame)
            case FilterSet():
                self._filters.answered(frame)
            case Refused():
                socket.cut()
            case Health(lost):
                self.health.told(lost, self.world.clockwork.now_ns / 1e9)
            case Heartbeat():
                pass
            case _:
                raise Violation(f"{self.name} received {frame}")

    def lost(self, socket: ClientSocket) -> None:
        if socket is self.socket:
            self.socket = None
            self._open = False
            if self._closing:
                self._closed(socket)
                return
            life = self._life
            self.world.clockwork.after(
                self._chance.randint(1, 300) * MS, lambda: self._connect(life)
            )

    def broker_started(self) -> None:
        """The session's broker is in a new life.

        It knows a name from its journal, if the name has been there all the time.
        """
        forgotten = self.known.broker_started()
        if self._stood:
            self._sees(forgotten)

    def lags_behind_its_broker(self, since: Mapping[str, int]) -> bool:
        return self.known.lags_behind_its_broker(since, self._session)

    @property
    def undisturbed(self) -> bool:
        """Whether it has a session, and is not about to lose it."""
        return self._open and not self._doomed and not self.known.is_resuming(self.socket)

    @property
    def hears(self) -> bool:
        """Whether frames of its broker reach it at once."""
        socket = self.socket
        return (
            socket is not None
            and self.reads()
            and socket.wire.back.empty
            and not socket.wire.back.held
        )

    @property
    def has_all(self) -> bool:
        at = self.history.at
        if self.socket is None or not self.socket.wire.back.empty or self._handing.inbox._events:
            return False  # A notice that moves no place may be on its way.
        return all(n in at and t.latest(at[n]) == t.end for n, t in self.world.truth.items())

    def _connect(self, life: int) -> None:
        if self._life != life or self.socket is not None or self.stopped:
            return
        if self.broker.node is None:
            self.world.clockwork.after(100 * MS, lambda: self._connect(life))
            return
        self._handing.streams = set()
        self.known.dials()
        self._open = False
        self._filters.dials()
        hello = Hello(MAGIC, VERSION, VERSION, "session", "", self.id)
        self.socket = ClientSocket(self.world, self.broker, self, hello)

    def _subscribed(self, answer: Subscribed) -> None:
        first = not self._session.stood
        presented = places_of(self._session.received)
        news = self._session.subscribed(answer)
        self._open = True
        self.health.told(answer.lost, self.world.clockwork.now_ns / 1e9)
        if not first:
            self.known.resumed()
            for moved in news:
                self._handing.inbox.put(moved)
            if self._filters.changing:
                # A change under way counts from the presented places, if it was presented too.
                self._filters.judges_from(presented)
            self._settle_filter()
            return
        self._stood = True
        self._handing.stands(answer)
        opened = self.known.opened(
            answer,
            places_of(self._session.received),
            self._wanting(self._filters.asked),
            stored=self.keeps == "position",
            again=self.other_epochs > 1,
        )
        self._sees(opened)
        self.known.stands(opened.kept)
        self._settle_filter()
        self._handing.look()
        self._keep()

    def _settle_filter(self) -> None:
        """The session stands with the filter that was asked for; a later change is still to be asked."""
        if not self._filters.settled():
            self._send_filter()

    def _send_filter(self) -> None:
        assert self.socket is not None
        self.socket.send(self._filters.asks())

    def _sees(self, event: HistoryEvent) -> None:
        self.history.add(event)
        self.world.saw(self.name, event)

    def _plan_consume(self, life: int) -> None:
        def consume() -> None:
            if self._life != life or self.stopped:
                return
            if not (self._paused or self._closing):
                appetite = 50 if self.world.peace else self._appetite
                self._consume(self._chance.randint(1, appetite))
            self.world.clockwork.after(self._chance.randint(0, self._pace_ms) * MS + MS, consume)

        self.world.clockwork.after(MS, consume)

    def _consume(self, most: int) -> None:
        self.merged += self._handing.hand_out(most)
        if self._stood:
            self._keep()
        if self.socket is not None and self._handing.inbox.room:
            self.socket.wire.back.plan()

    def _keep(self) -> None:
        """The state for a next life, kept with all that was handed out."""
        positions = self._handing.inbox.positions()
        if self.keeps == "position":
            self._stored = json.dumps(dump_positions(positions))
        elif self._open:
            self._handing.acknowledge_by_hand()
            # Acknowledgements are coalesced: some go out later.
            done = self._handing.done()
            settled = {n: at for n, at in done.items() if self._chance.random() < 0.7}
            self._acknowledge(settled)

    def _acknowledge(self, settled: Mapping[str, Position]) -> None:
        if self.keeps == "name" and self.socket is not None:
            for ack in self._handing.due(settled):
                self.socket.send(ack)
                self.known.acknowledges(self.socket, {ack.node: ack.position})

    def _die_behind(self, resume: ClientSocket) -> None:
        if self._doomed and resume is self.socket:
            if self.known.is_resuming(self.socket):
                self.world.clockwork.after(MS, lambda: self._die_behind(resume))
            else:
                self._doomed = False
                self.world.say(f"{self.name} dies behind its resume")
                self.restart()

    def _wanting(self, patterns: tuple[str, ...]) -> Wants:
        return wanting(patterns, self.broker.name, None if self._echo else self.id)

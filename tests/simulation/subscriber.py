"""A simulated subscribing application: the SDK's session and inbox over simulated connections and lives."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.simulation.brokers import SimBroker
from tests.simulation.client_socket import ClientSocket
from tests.simulation.clockwork import MS
from tests.simulation.history import (
    Closed,
    Filtered,
    Got,
    History,
    Moved,
    Stands,
    Wants,
)
from tests.simulation.history import Event as HistoryEvent
from tests.simulation.known_session import KnownSession, places_of
from tests.simulation.publisher import Publisher
from tests.simulation.truth import Published
from tests.simulation.violation import Violation

from pubsubd.acks import Acks
from pubsubd.codecs import RAW
from pubsubd.health import SubscriptionHealth as NodesHealth
from pubsubd.inbox import Inbox
from pubsubd.messages import Message
from pubsubd.resume import Arrived, Event, SessionState
from pubsubd.resume import Moved as InboxMoved
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
    SetFilter,
    Skip,
    Subscribed,
    Told,
    Welcome,
)
from pubsubd_protocol.positions import Position, dump_positions, load_positions
from pubsubd_protocol.topics import Filter

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
        self.lives = 1
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
        self._handed: Message | None = None
        self._pace_ms = pace_ms
        self._appetite = appetite
        self._paused = False
        self.history = History(
            name, self._wanting(patterns), earliest=start == "earliest", node=broker.name
        )
        self._socket: ClientSocket | None = None
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
        self._inbox = Inbox(RAW)
        self._inbox.begin(positions or {})
        self._stood = False
        self._open = False
        self._closing = False
        self._changing = False
        self._known: set[str] = set()
        self._acks = Acks(manual=self._manual)
        self._handed = None
        # The filter at the opening of the session, and the filters that are not answered yet.
        self._asked = self._patterns
        self._filters: deque[tuple[str, ...]] = deque()
        # The filter that is known to judge, and later ones that its broker may have put in its place.
        self._judges = [self._patterns]
        self._unhanded = 0
        self._oldest: dict[tuple[str, str, int], int] = {}
        self._plan_consume(self._life)

    def restart(self) -> bool:
        """The application's process dies and comes back with what it kept."""
        if self.keeps == "nothing" or not self._stood or self.known.is_resuming(self._socket):
            return False
        self.known.hear(self._socket)
        if self._changing:
            # The reader cannot know which of them has judged the messages behind that.
            asked = {*self._judges, self._asked, self._session.patterns}
            judges = [self._wanting(patterns) for patterns in asked]
            places = dict(self.history.at)
            self._sees(Filtered(places, lambda message: all(wants(message) for wants in judges)))
        self._paused = False
        self._life += 1
        self.lives += 1
        if self._socket is not None:
            self._socket.alive = False
            self._socket.cut()
            self._socket = None
        if self.keeps == "position":
            assert self._stored is not None
            positions = load_positions(json.loads(self._stored))
            self._begin(positions)
        else:
            self._begin(None)
        life = self._life
        self.world.clockwork.after(self._chance.randint(1, 500) * MS, lambda: self._connect(life))
        return True

    def _told_and_not_taken_in(self) -> set[str]:
        """Streams with a notice of a loss that the application has not been handed."""
        events, notice = self._inbox._events, self._inbox.notice
        waiting = {e.node for e in events if not isinstance(e, Arrived | InboxMoved)}
        return waiting if notice is None else waiting | {notice.node}

    def close(self) -> None:
        """The application closes, and comes back with what it kept once its broker has said goodbye."""
        socket = self._socket
        if self.keeps == "nothing" or not self.undisturbed or self._paused or self._changing:
            return
        if socket is None or self._closing:
            return
        self.world.say(f"{self.name} closes")
        self._closing = True
        self._inbox.close()
        self._acknowledge(self._inbox.done(self._unread()))
        socket.finish()
        self.world.clockwork.after(1000 * MS, lambda: self._given_up(socket))

    def _given_up(self, socket: ClientSocket) -> None:
        """Give up a broker that says no goodbye in time, as it is gone unheard."""
        socket.cut()
        self.lost(socket)

    def _closed(self, socket: ClientSocket) -> None:
        broker = socket.other
        if socket.wire.back.ended and broker.passed:
            self._look()
            waiting = (self._inbox._closed or set()) | self._told_and_not_taken_in()
            passed = {n: p for n, p in places_of(broker.passed).items() if n not in waiting}
            self._sees(Closed(passed, self.broker.life))
            if self.keeps == "position":
                self._stored = json.dumps(dump_positions(self._inbox.positions()))
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
        if not self._stood or self._changing or patterns == self._patterns:
            return False
        self._session.change_filter(patterns, self._patterns)
        self._patterns = self._session.patterns
        self._changing = True
        self.world.say(f"{self.name} changes its filter to {self._patterns}")
        if self._open:
            self._send_filter()
        return True

    def cut(self) -> None:
        if self._socket is not None:
            self._socket.cut()

    def pause(self) -> bool:
        """Stand still, as a stopped process does."""
        paused, self._paused = self._paused, True
        return not paused

    def go_on(self) -> None:
        self._paused = False
        if self._socket is not None:
            self._socket.wire.back.plan()

    def reads(self) -> bool:
        return not self._paused and not self._inbox.full

    def received(self, socket: ClientSocket, frame: Frame) -> None:
        if socket is not self._socket:
            return
        session = self._session
        match frame:
            case Welcome():
                self._asked = session.patterns
                acknowledged = None
                if session.stood and self.keeps == "name":
                    acknowledged = self._acks.resumes(self._inbox.kept(self._unread()))
                socket.send(session.subscribe(acknowledged))
                if session.stood:
                    self.resumes += 1
                    if acknowledged is not None:
                        self.known.resumes(socket, acknowledged)
                    self._die_behind(socket)
            case Subscribed():
                self._known = set(frame.positions)
                with self.known.as_its_answer_knew(deaf=socket.other.deaf):
                    self._subscribed(frame)
            case Told():
                self._known.add(frame.node)
                self._put(session.told(frame))
            case Entry():
                self._put(session.entry(frame))
            case Skip():
                self._put(session.skip(frame))
            case CursorExpired():
                self._known.add(frame.node)
                expired = session.expired(frame)
                if expired is not None:
                    self._inbox.put(expired)
                    self._unhanded += 1
                    view = frame.view
                    self._oldest[frame.node, view.epoch.hex(), view.next] = view.oldest
            case FilterSet():
                self._filter_set(frame)
            case Refused():
                socket.cut()
            case Health(lost):
                self.health.told(lost, self.world.clockwork.now_ns / 1e9)
            case Heartbeat():
                pass
            case _:
                raise Violation(f"{self.name} received {frame}")

    def lost(self, socket: ClientSocket) -> None:
        if socket is self._socket:
            self._socket = None
            self._open = False
            if self._closing:
                self._closed(socket)
                return
            life = self._life
            self.world.clockwork.after(
                self._chance.randint(1, 300) * MS, lambda: self._connect(life)
            )

    def broker_lost_memory(self) -> None:
        """The session's broker crashed: only producers can know a named session now."""
        self.known.broker_lost_memory(self._socket)

    def broker_started(self) -> None:
        """The session's broker is in a new life.

        It knows a name from its journal, if the name has been there all the time.
        """
        forgotten = self.known.broker_started()
        if self._stood:
            self._sees(forgotten)

    def lags_behind_its_broker(self, since: Mapping[str, int]) -> bool:
        """Whether its broker has acknowledged more than `since` to a producer of which the session has not been told."""
        for node, end in since.items():
            producer = self.world.brokers[node].node
            if producer is not None and node not in self._session.received:
                registered = producer.registry.get(self.broker.name)
                if (
                    self._session.stood
                    and registered is not None
                    and registered.cursor.offset > end
                ):
                    return True
        return False

    @property
    def socket(self) -> ClientSocket | None:
        return self._socket

    @property
    def undisturbed(self) -> bool:
        """Whether it has a session, and is not about to lose it."""
        return self._open and not self._doomed and not self.known.is_resuming(self._socket)

    @property
    def hears(self) -> bool:
        """Whether frames of its broker reach it at once."""
        socket = self._socket
        return (
            socket is not None
            and self.reads()
            and socket.wire.back.empty
            and not socket.wire.back.held
        )

    @property
    def has_all(self) -> bool:
        at = self.history.at
        if self._socket is None or not self._socket.wire.back.empty or self._inbox._events:
            return False  # A notice that moves no place may be on its way.
        return all(n in at and t.latest(at[n]) == t.end for n, t in self.world.truth.items())

    def _connect(self, life: int) -> None:
        if self._life != life or self._socket is not None or self.stopped:
            return
        if self.broker.node is None:
            self.world.clockwork.after(100 * MS, lambda: self._connect(life))
            return
        self._known = set()
        self.known.dials()
        self._open = False
        self._filters.clear()
        hello = Hello(MAGIC, VERSION, VERSION, "session", "", self.id)
        self._socket = ClientSocket(self.world, self.broker, self, hello)

    def _subscribed(self, answer: Subscribed) -> None:
        first = not self._session.stood
        presented = places_of(self._session.received)
        news = self._session.subscribed(answer)
        self._open = True
        self.health.told(answer.lost, self.world.clockwork.now_ns / 1e9)
        if not first:
            self.known.resumed()
            for moved in news:
                self._inbox.put(moved)
            if self._changing:
                # A change under way counts from the presented places, if it was presented too.
                self._sees(Filtered(presented, self._wanting(self._asked)))
                self._judges = [self._asked]
            self._settle_filter()
            return
        self._stood = True
        self._inbox.begin(self._session.received)
        self._acks.stands(answer.positions)
        opened = self.known.opened(
            answer,
            places_of(self._session.received),
            self._wanting(self._asked),
            stored=self.keeps == "position",
            again=self.lives > 1,
        )
        self._sees(opened)
        self.known.stands(opened.kept)
        self._settle_filter()
        self._look()
        self._keep()

    def _settle_filter(self) -> None:
        """The session stands with `_asked`; later changes are still to be asked."""
        if self._asked == self._session.patterns:
            self._changing = False
        else:
            self._send_filter()

    def _send_filter(self) -> None:
        assert self._socket is not None
        self._filters.append(self._session.patterns)
        self._judges.append(self._session.patterns)
        self._socket.send(SetFilter(self._session.patterns))

    def _filter_set(self, frame: FilterSet) -> None:
        judge = self._filters.popleft()
        self._sees(Filtered(places_of(frame.positions), self._wanting(judge)))
        self._judges = [judge, *self._filters]
        self._changing = bool(self._filters)

    def _sees(self, event: HistoryEvent) -> None:
        self.history.add(event)
        self.world.saw(self.name, event)

    def _put(self, event: Event | None) -> None:
        if event is not None:
            self._inbox.put(event)

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
        inbox = self._inbox
        for _ in range(most):
            if inbox.told and inbox.notice is not None:
                self._acks.passed(inbox.notice)
                inbox.pass_gap()
            if not inbox.messages and inbox.notice is None and not inbox.advance():
                self.merged, self._unhanded = self.merged + self._unhanded, 0
                self._look()
                break
            self._look()
            if inbox.notice is not None:
                notice = inbox.notice
                self._unhanded -= 1
                oldest = self._oldest[notice.node, notice.epoch, notice.next]
                self._sees(self.known.lost(notice, oldest, self._session.life or b""))
                inbox.told = True
            else:
                message = inbox.messages.pop()
                if self._manual:
                    self._handed = message
                    self._acks.handed(message)
                self._sees(
                    Got(message.node, message.epoch, message.offset, message.topic, message.raw)
                )
            self._look()
        if self._stood:
            self._keep()
        if self._socket is not None and inbox.room:
            self._socket.wire.back.plan()

    def _look(self) -> None:
        """The part of its position that the application can see, and the changes in it."""
        for node, position in self._inbox.positions().items():
            place = (position.epoch.hex(), position.offset)
            at = self.history.at.get(node)
            if at is None:
                self._sees(Stands(node, place))
            elif at != place:
                self._sees(Moved(node, place))

    def _keep(self) -> None:
        """The state for a next life, kept with all that was handed out."""
        positions = self._inbox.positions()
        if self.keeps == "position":
            self._stored = json.dumps(dump_positions(positions))
        elif self._open:
            if self._handed is not None and self._hand.random() < 0.5:
                self._acks.acknowledge(self._handed)
            # Acknowledgements are coalesced: some go out later.
            done = self._inbox.done(self._unread())
            settled = {n: at for n, at in done.items() if self._chance.random() < 0.7}
            self._acknowledge(settled)

    def _unread(self) -> int | None:
        messages = self._inbox.messages
        return messages[-1].offset if messages else None

    def _acknowledge(self, settled: Mapping[str, Position]) -> None:
        if self.keeps == "name" and self._socket is not None:
            for ack in self._acks.due(settled, self._known, self._session.life):
                self._socket.send(ack)
                self.known.acknowledges(self._socket, {ack.node: ack.position})

    def forgotten(self) -> None:
        """The session's broker has dropped its name."""
        self.known.dropped(self._socket)

    def _die_behind(self, resume: ClientSocket) -> None:
        if self._doomed and resume is self._socket:
            if self.known.is_resuming(self._socket):
                self.world.clockwork.after(MS, lambda: self._die_behind(resume))
            else:
                self._doomed = False
                self.world.say(f"{self.name} dies behind its resume")
                self.restart()

    def _wanting(self, patterns: tuple[str, ...]) -> Wants:
        asked = Filter(patterns)

        def wants(message: Published) -> bool:
            return (
                asked.wants(message.topic)
                and (message.to is None or message.to == self.broker.name)
                and (self._echo or message.publisher != self.id)
            )

        return wants

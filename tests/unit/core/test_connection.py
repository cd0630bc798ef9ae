"""A connection by itself: its handshake, its end, its side and its quotas are given, and it needs no node."""

from __future__ import annotations

from pubsubd_broker.core.access.quota import Claimant, Quota
from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.end import ALIVE, LinkEnd
from pubsubd_broker.core.links.liveness import Timeouts
from pubsubd_broker.core.links.receive_share import ReceiveShare
from pubsubd_broker.core.links.round_robin import ReadyQueue
from pubsubd_broker.core.links.send_budget import SendBudget
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.observe.counters import Counters
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.observe.notices import Notices
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.frames import Frame, Heartbeat, Query, Refused, Report

TIMEOUTS = Timeouts(handshake_ns=10, heartbeat_ns=20, silence_ns=60)
ASKS_TO_COME_IN = Query("let me in")


class Echo:
    """An end that answers each query, unless it is `busy`: then the query has to wait."""

    role = "control"
    settled = True
    beats = True
    has_last_words = False
    longest_frame = 1024

    def __init__(self, connection: Connection) -> None:
        self.busy = False
        self.ended = 0
        self._connection = connection

    def received(self, frame: Frame, now: Now) -> bool:
        if isinstance(frame, Query) and not self.busy:
            self._connection.send(Report(frame.what))
        return not self.busy

    def pull(self, out: Outgoing, now: Now) -> bool:
        return False

    def heartbeat(self) -> Heartbeat | None:
        return ALIVE

    def tick(self, now: Now) -> None: ...

    def farewell(self, now: Now) -> None: ...

    def lost(self, now: Now) -> None:
        self.ended += 1


class Door:
    """A handshake of one frame. It lets in all who ask by `ASKS_TO_COME_IN`."""

    trusted = True

    def __init__(self, connection: Connection) -> None:
        self.end = Echo(connection)

    def received(self, frame: Frame) -> LinkEnd | None:
        if frame != ASKS_TO_COME_IN:
            raise ConnectionRefused("stranger", "ask by another query")
        return self.end


class Side:
    def __init__(self) -> None:
        self.told: list[str] = []

    def failed(self, error: str) -> None:
        self.told.append(error)

    def refused(self, refused: Refused, *, trusted: bool) -> None:
        self.told.append(f"refused by them: {refused.code}")

    def ended(self, now: Now, chance: float, *, greeted: bool, told: bool) -> None:
        self.told.append("ended" if greeted else "ended without a greeting")


class Made:
    """A connection, and all that it was given."""

    def __init__(self) -> None:
        self.now = 0
        self.ready = ReadyQueue[Connection](lambda connection: connection.flow_key)
        self.side = Side()
        self.forgotten: list[Connection] = []
        self.receiving = Quota(2**20)
        self.doors: list[Door] = []
        claimant = Claimant("a test")
        self.connection = Connection(
            Remote("a test"),
            claimant,
            Now(0, 0),
            side=self.side,
            forget=self.forgotten.append,
            handshake=self._handshake,
            queue=self.ready.wake,
            events=Events(Counters(), Notices()),
            send_budget=SendBudget[Connection](2**20),
            share=ReceiveShare(self.receiving, claimant),
            timeouts=TIMEOUTS,
        )

    def _handshake(self, connection: Connection) -> Door:
        self.doors.append(Door(connection))
        return self.doors[0]

    def says(self, *frames: Frame) -> None:
        for frame in frames:
            data = encode(frame)
            self.connection.space()[: len(data)] = data
            self.connection.received(len(data), Now(self.now, 0))

    def hears(self) -> list[Frame]:
        """All that is sent until the connection has no more turns to take."""
        pulled: list[bytes] = []
        while self.ready:
            for connection in self.ready.take():
                pulled += connection.pull(2**16, Now(self.now, 0))
        return [decode(memoryview(each)) for each in pulled]

    def tick(self, now_ns: int) -> None:
        self.now = now_ns
        self.connection.tick(Now(now_ns, 0))


def test_the_end_of_the_handshake_takes_all_later_frames() -> None:
    made = Made()
    made.says(ASKS_TO_COME_IN, Query("one"), Query("two"))
    assert made.hears() == [Report("one"), Report("two")]
    assert made.connection.end is made.doors[0].end


def test_a_refused_handshake_is_told_to_both_sides_and_closes() -> None:
    made = Made()
    made.says(Query("hello"), Query("one"))
    assert made.hears() == [Refused("stranger", "ask by another query")]
    assert made.connection.closing
    assert made.side.told == ["ask by another query"]


def test_a_declined_frame_comes_again_before_those_behind_it() -> None:
    made = Made()
    made.says(ASKS_TO_COME_IN)
    assert made.hears() == []
    made.doors[0].end.busy = True
    made.says(Query("one"), Query("two"))
    assert not made.connection.wants_more
    made.doors[0].end.busy = False
    made.connection.retry(Now(0, 0))
    assert made.hears() == [Report("one"), Report("two")]
    assert made.connection.wants_more


def test_a_lost_connection_is_forgotten_once() -> None:
    made = Made()
    made.says(ASKS_TO_COME_IN)
    for _ in range(2):
        made.connection.lost(Now(0, 0), 0.5)
    assert made.forgotten == [made.connection]
    assert made.side.told == ["ended"]
    assert made.receiving.used == 0


def test_an_end_that_never_greets_is_refused_in_time() -> None:
    made = Made()
    made.tick(TIMEOUTS.handshake_ns)
    assert not made.connection.closing
    made.tick(TIMEOUTS.handshake_ns + 1)
    (refused,) = made.hears()
    assert isinstance(refused, Refused)
    assert refused.code == "handshake_timeout"


def test_a_silent_end_gets_heartbeats_and_is_cut_off() -> None:
    made = Made()
    made.says(ASKS_TO_COME_IN)
    made.tick(TIMEOUTS.heartbeat_ns)
    assert made.hears() == [ALIVE]
    made.tick(TIMEOUTS.silence_ns)
    assert not made.connection.closing
    made.tick(TIMEOUTS.silence_ns + 1)
    assert made.connection.closing
    assert made.side.told == []


def test_a_refusal_by_the_other_end_reaches_the_side() -> None:
    made = Made()
    made.says(Refused("full", "come later"))
    assert made.connection.closing
    made.connection.lost(Now(0, 0), 0.5)
    assert made.side.told == ["refused by them: full", "ended without a greeting"]

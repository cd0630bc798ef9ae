"""Bugs in the ring, the publishers' table, the pacing of publishers, the links."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant, Patch

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links import connection
from pubsubd_broker.core.links.peers import Peers
from pubsubd_broker.core.links.publisher_end import PublisherEnd
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.log.interest import Interest
from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.streams.publishers import Outcome, Promise, PublisherRecord, Publishers
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import Frame


def _evicts_one_too_many() -> list[Patch]:
    original = Log._make_room

    def make_room(self: Log, messages: int, size: int) -> None:
        before = self.begin
        original(self, messages, size)
        if self.begin > before and self.begin < self.end and not isinstance(self[self.begin], Gap):
            original(self, self.max_messages - self.messages + 1, 0)

    return [(Log, "_make_room", make_room)]


def _never_evicts() -> list[Patch]:
    return [(Log, "_make_room", lambda self, messages, size: None)]


def _evicts_behind_time() -> list[Patch]:
    """Room is made after the append: for a moment the ring holds one entry more than its bound."""
    original = Log._make_room

    def make_room(self: Log, messages: int, size: int) -> None:
        original(self, 0, 0)

    return [(Log, "_make_room", make_room)]


def _appended_wakes_no_reader() -> list[Patch]:
    """An append wakes neither readers that wait for a change of the log, nor those that rest at its end."""
    return [
        (Log, "wake", lambda self: None),
        (Interest, "wake", lambda self, topics, index, position: None),
    ]


def _appended_wakes_no_waiting_reader() -> list[Patch]:
    """An append wakes no waiting reader. Heartbeats, which would wake a session a little later, are off."""
    return [(Log, "wake", lambda self: None), (SessionEnd, "heartbeat", lambda self: None)]


def _table_forgets() -> list[Patch]:
    def earlier_answer(self: PublisherRecord, sequence: int, retry: bool) -> Outcome | None:
        return None

    return [(PublisherRecord, "earlier_answer", earlier_answer)]


def _connects(*, back: bool = True, moved: bool = True) -> Patch:
    """A publisher is not known to be in its old life (`back`), or to have spoken to another one (`moved`)."""
    original = Publishers.connect

    def connect(
        self: Publishers,
        publisher_id: bytes,
        *,
        same_life: bool,
        other_life: bool = False,
        user: str = "",
    ) -> PublisherRecord:
        same, other = same_life and back, other_life and moved
        return original(self, publisher_id, same_life=same, other_life=other, user=user)

    return Publishers, "connect", connect


def _table_dropped_with_connection() -> list[Patch]:
    original = Publishers.disconnect

    def disconnect(self: Publishers, publisher_id: bytes) -> None:
        original(self, publisher_id)
        self._away.clear()

    return [(Publishers, "disconnect", disconnect), _connects(back=False)]


def _refuses_for_good() -> list[Patch]:
    """A retry from another life is refused, though that life may have accepted it."""
    return [_connects(moved=False)]


def _publisher_waits() -> list[Patch]:
    """No publisher is answered before every connected consumer has acknowledged."""
    answers: dict[PublisherEnd, list[Frame]] = {}
    received, tick = PublisherEnd.received, PublisherEnd.tick

    def hold(self: PublisherEnd, frame: Frame, now: Now) -> bool:
        if not isinstance(frame, Batch):
            return received(self, frame, now)
        answer = self._intake.publish(
            frame, self._publisher, self._id, self._rights, now, self._connection
        )
        if answer is not None and not isinstance(answer, Promise):
            answers.setdefault(self, []).append(answer)
        return answer is not None

    def release(self: PublisherEnd, now: Now) -> None:
        # The table of this very node.
        peers: Peers = getattr(self._intake._knows, "__self__")  # noqa: B009
        if peers.drained:
            for answer in answers.pop(self, []):
                self._connection.send(answer)
        tick(self, now)

    return [(PublisherEnd, "received", hold), (PublisherEnd, "tick", release)]


def _silence_not_noticed() -> list[Patch]:
    return [(connection, "is_silent", lambda heard_ns, now_ns, timeout_ns: False)]


def _wakes_forgotten() -> list[Patch]:
    """A reader that stops reading is not woken again, even when it goes on."""
    original = Reading.stop

    def stop(self: Reading) -> None:
        original(self)
        self.source.log._waiting.clear()
        self.source.log.interest.parked.clear()

    return [(Reading, "stop", stop)]


RINGS = (
    Mutant("ring evicts one too many", 20, _evicts_one_too_many),
    Mutant("ring never evicts", 20, _never_evicts),
    Mutant("ring evicts too late", 20, _evicts_behind_time),
    Mutant("append wakes no reader", 20, _appended_wakes_no_reader),
    Mutant("append wakes no reader that waits", 40, _appended_wakes_no_waiting_reader),
    Mutant("publisher table forgets", 100, _table_forgets),
    Mutant("publisher table goes with its connection", 100, _table_dropped_with_connection),
    Mutant("retry from another life refused for good", 1000, _refuses_for_good),
    Mutant("publisher waits for consumers", 100, _publisher_waits),
    Mutant("silence not noticed", 100, _silence_not_noticed),
    Mutant("one session's leaving stops the others", 200, _wakes_forgotten),
)

"""Bugs that let a lie pass: a check that is left out. Only liars notice these bugs."""

from __future__ import annotations

from collections.abc import Iterable

from tests.simulation.mutants.mutant import Mutant, Patch

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links import consumer_end, peers, producer_end
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_broker.core.links.publisher_end import PublisherEnd
from pubsubd_broker.core.sessions.session import Session
from pubsubd_broker.core.streams import replica
from pubsubd_broker.core.streams.publishers import PublishAnswer, PublisherRecord
from pubsubd_broker.core.streams.replica import Replica, check_origin
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import Claim, Reason, Resume, Verdict, resolve
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Ack, CursorExpired, Fetched, Frame, Skip
from pubsubd_protocol.positions import Position, StreamView


def _without(kind: str) -> list[Patch]:
    """The order of entries is checked, but for this kind of violation."""
    original = Replica.append

    def append(self: Replica, item: Entry | Skip) -> None:
        try:
            original(self, item)
        except ProtocolError as error:
            if error.kind != kind:
                raise
            self.log.append(item)

    return [(Replica, "append", append)]


def _any_origin() -> list[Patch]:
    def nothing(item: Entry | Skip, node: str, reader: str) -> None: ...

    return [(replica, "check_origin", nothing), (consumer_end, "check_origin", nothing)]


def _any_expiry() -> list[Patch]:
    def expired(self: Replica, expired: CursorExpired) -> None:
        self.log.append_gap(expired.view)

    return [(Replica, "expired", expired)]


def _unjudged() -> list[Patch]:
    def judged(
        self: ConsumerEnd,
        claim: Claim,
        view: StreamView,
        said: Resume | Reason,
        registered: Position | None = None,
    ) -> Verdict:
        return resolve(claim, view, registered)

    return [(ConsumerEnd, "_judged", judged)]


def _any_fetched() -> list[Patch]:
    def item(
        self: ConsumerEnd,
        replica: Replica,
        fetching: consumer_end._Fetching,
        fetched: Fetched,
        item: Entry | Skip,
    ) -> None:
        check_origin(item, self.producer, self._reader)
        fetching.items.append(item)
        fetching.left -= 1
        if fetching.left == 0:
            self._incoming = None
            self._finish(fetching, fetched)

    return [(ConsumerEnd, "_fetched_item", item)]


def _any_bytes() -> list[Patch]:
    return [(Replica, "contradicts", lambda self, entry: False)]


def _any_heartbeat() -> list[Patch]:
    def heartbeat(self: ConsumerEnd, replica: Replica, following: int | None) -> None:
        self.producer_next = following

    return [(ConsumerEnd, "_heartbeat", heartbeat)]


def _any_ack() -> list[Patch]:
    def acknowledge(self: ProducerEnd, ack: Ack, now: Now) -> None:
        self.acknowledged = ack.position.offset
        self._registry.acknowledge(self.consumer, ack.position, ack.named, now.mono_ns)

    return [(ProducerEnd, "_acknowledge", acknowledge)]


def _any_ack_of_sessions() -> list[Patch]:
    def acknowledge(self: Session, ack: Ack) -> None:
        self._acknowledged[ack.node] = ack.position
        if ack.node in self.readings:
            self.readings[ack.node].bookmark.acknowledge(ack)

    return [(Session, "acknowledge", acknowledge)]


def _fetches_without_end() -> list[Patch]:
    return [(producer_end, "MAX_FETCHES", 10**9)]


def _any_sequence() -> list[Patch]:
    original = PublisherEnd.received

    def received(self: PublisherEnd, frame: Frame, now: Now) -> bool:
        self.sequence = -1
        return original(self, frame, now)

    # Two further rules would notice it: only a retry is looked up, and it must repeat the accepted batch.
    answers = PublisherRecord.earlier_answer

    def earlier_answer(self: PublisherRecord, sequence: int, retry: bool) -> PublishAnswer | None:
        return answers(self, sequence, retry or sequence <= self.last)

    def check_same(self: Stream, batch: Batch, answer: PublishAnswer) -> None: ...

    return [
        (PublisherEnd, "received", received),
        (PublisherRecord, "earlier_answer", earlier_answer),
        (Stream, "_check_same", check_same),
    ]


def _any_name() -> list[Patch]:
    def conflict(
        name: str, epoch: bytes, own_name: str, own_epoch: bytes, live: Iterable[bytes]
    ) -> None: ...

    return [(peers, "conflict", conflict)]


LYING = (
    Mutant("replica takes any offset", 100, lambda: _without("offset")),
    Mutant("replica takes any epoch", 100, lambda: _without("epoch")),
    Mutant("messages of any stream are taken", 100, _any_origin),
    Mutant("an expiry is not judged", 100, _any_expiry),
    Mutant("answers are not judged", 100, _unjudged),
    Mutant("anything answers a fetch", 100, _any_fetched),
    Mutant("a place may have two contents", 600, _any_bytes),
    Mutant("heartbeats go back", 100, _any_heartbeat),
    Mutant("peers acknowledge without a check", 100, _any_ack),
    Mutant("sessions acknowledge without a check", 100, _any_ack_of_sessions),
    Mutant("fetches without end", 100, _fetches_without_end),
    Mutant("a sequence may come again", 100, _any_sequence),
    Mutant("a name may be taken twice", 100, _any_name),
)

"""Watches a node for the simulation: every message that it accepts is written into the truth."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from tests.simulation.ring import Ring
from tests.simulation.truth import Place, Published
from tests.simulation.violation import Violation

from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.links.peer_recovery import RecoveryEnd
from pubsubd_broker.core.observer import Observer
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import Claim, Expired, Verdict
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.positions import Epoch, Position, StreamView

if TYPE_CHECKING:
    from tests.simulation.brokers import SimBroker

NO_NODE: Final = "none"


class Watch(Observer):
    """Watches one life of a broker."""

    def __init__(self, broker: SimBroker, life: Epoch) -> None:
        self._broker = broker
        self._life = life
        self._world = broker.world
        self._truth = broker.world.truth[broker.name]
        self._at_contact, broker.doomed = broker.doomed, None

    def stream_began(self, stream: Stream, recovered: Recovered | None) -> None:
        first = stream.next if recovered is None else recovered.first
        self._stream = stream
        self._ring = Ring(stream.log.max_messages, stream.log.max_bytes, first)
        end, proven = None, True
        if recovered is not None:
            self._goes_on_with(recovered)
            end = recovered.state.epoch.hex(), recovered.next
            of_memory = recovered is self._broker.memory
            proven = recovered.lost is not None if of_memory else self._broker.proves(end[0])
        life, forgotten = stream.epoch.hex(), self._broker.machine.forgotten
        self._truth.begin(life, end, proven=proven, forgotten=forgotten)
        self._truth.held(self._ring.oldest)
        self._broker.begins(life)

    def _goes_on_with(self, recovered: Recovered) -> None:
        gaps = sorted({end for end, _ in self._stream.view.gaps(self._stream.view.start.epoch)})
        gaps = [gap for gap in gaps if gap > recovered.first]
        for entry in recovered.entries:
            while gaps and gaps[0] <= entry.first:
                self._ring.enter_gap(gaps.pop(0))
            self._ring.enter(entry.first, entry.count, entry.size)
            self._pass_over_lost(entry.epoch.hex(), entry.first)
            if entry.first >= len(self._truth.messages[entry.epoch.hex()]):
                # The life ended before the node could report it.
                self._publish(entry)
        for gap in gaps:
            self._ring.enter_gap(gap)
        self._pass_over_lost(recovered.state.epoch.hex(), recovered.next)

    def _pass_over_lost(self, epoch: str, end: int) -> None:
        """Messages that were placed, never accepted, and lost with their life were for no reader."""
        for offset in range(len(self._truth.messages[epoch]), end):
            self._truth.publish(
                epoch, offset, Published("lost", f"lost {offset}".encode(), b"", NO_NODE, 0)
            )

    def published(self, entry: Entry) -> None:
        self._publish(entry)
        self._ring.enter(entry.first, entry.count, entry.size)
        oldest, view = self._ring.oldest, self._stream.view
        if view.oldest != oldest:
            raise Violation(
                f"G4: the ring of {self._broker.name} holds {view.oldest}..{view.next}, by its bounds "
                f"it has to hold from {oldest} on"
            )
        self._truth.held(oldest)

    def _publish(self, entry: Entry) -> None:
        columns = open_entry(entry)
        now_ns = self._world.clockwork.now_ns
        for i, payload in enumerate(columns.raws()):
            offset, topic = columns.offsets[i], columns.topics[columns.index[i]]
            message = Published(topic, payload, entry.publisher, entry.to, now_ns)
            self._truth.publish(entry.epoch.hex(), offset, message)

    def peers_answered(self, recovered: Recovered | None, ends: Collection[RecoveryEnd]) -> None:
        if recovered is not None:
            self._world.counts["recovered_from_peers"] += 1
            self._recovers_the_newest(recovered, ends)
            self._world.names_from_peers[self._life] = self._names_from_peers(ends)

    def _recovers_the_newest(self, recovered: Recovered, ends: Collection[RecoveryEnd]) -> None:
        """Raises `Violation` if an asked peer held a later life than the life whose history goes on."""

        def age(view: StreamView) -> int:
            return self._truth.age(view.place(view.next).epoch.hex())

        views = [end.view for end in ends if end.view is not None and end.view.next]
        latest = max(views, key=age, default=recovered.view)
        if age(latest) > age(recovered.view):
            raise Violation(
                f"G1: {self._broker.name} goes on with {recovered.view.place(recovered.next)}, a peer held "
                f"{latest.place(latest.next)}, of a later life"
            )

    def _names_from_peers(self, ends: Collection[RecoveryEnd]) -> dict[str, list[Place]]:
        """The places of this node's named sessions in its stream, as the asked peers remember them."""
        names: dict[str, list[Place]] = {}
        for end in ends:
            for name, positions in end.names.items():
                if self._broker.name in positions:
                    own = positions[self._broker.name]
                    names.setdefault(name, []).append((own.epoch.hex(), own.offset))
        return names

    def consumer_attached(self, claim: Claim, registered: Position | None, answer: Verdict) -> None:
        cursor = registered.offset if registered is not None else None
        self._world.tally.attached(claim, cursor, answer)

    def consumer_overrun(self, expired: Expired) -> None:
        self._world.tally.overrun(expired)

    def registration_expired(self, producer: str, view: StreamView) -> None:
        assert self._broker.node is not None
        self._world.tally.marked(self._broker.node, producer, view)

    def producer_met(self, producer: str) -> None:
        if self._at_contact is not None:
            self._at_contact()
            self._at_contact = None

"""A simulated cluster from a plan: first faults with every answer checked, then everything heals, and every session
must reach the end of every stream.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter

from tests.simulation.brokers import SimBroker
from tests.simulation.chance import Chance
from tests.simulation.checkers import (
    no_duplicate,
    no_false_alarm,
    no_gap,
    no_phantom,
    own_loss_is_told,
    passed_is_not_read_again,
    third_loss_is_told,
)
from tests.simulation.clockwork import MS, START_NS, Clockwork
from tests.simulation.health_watch import HealthWatch
from tests.simulation.history import Closed, Event, Filtered, Got, Lost, Opened
from tests.simulation.liars.lies import Lies
from tests.simulation.peace import peace_ms
from tests.simulation.plan import Plan
from tests.simulation.publisher import Publisher
from tests.simulation.receipts import answers_publishers_in_time, placed_as_told
from tests.simulation.steps import perform
from tests.simulation.subscriber import Subscriber
from tests.simulation.tally import Tally
from tests.simulation.truth import Place, StreamTruth, Truth
from tests.simulation.violation import Violation
from tests.simulation.wires import Wire

from pubsubd_broker.core.observe.notices import Level, Notice
from pubsubd_protocol.attach import Reason

LOOKS_EVERY_MS = 170
"""Virtual time between two looks at the healed cluster.

It is not in step with the heartbeats: else a heartbeat might be on its way at every look.
"""

LONGEST_WAIT_MS = 1000
"""Virtual time within which an undisturbed publisher has its answer."""

KEPT_LINES = 2000


class World:
    """The state of one run. `run()` raises `Violation`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clockwork = Clockwork()
        self.truth: Truth = {name: StreamTruth() for name in plan.names()}
        self.wires: list[Wire] = []
        self.cuts: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        self.tally = Tally(self.counts)
        self.lies = Lies(self)
        self.trace: list[str] = []
        self.restless = 0
        """Brokers that will live a few more short lives before peace can begin."""
        self.peace = False
        """Whether the faults are over."""
        self._digest = hashlib.blake2b(digest_size=16)
        self._connections: Counter[tuple[str, str]] = Counter()
        self.brokers = {
            name: SimBroker(self, name, [peer for peer in plan.names() if peer != name])
            for name in plan.names()
        }
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        self.names_from_peers: dict[bytes, dict[str, list[Place]]] = {}
        """By the life of a broker that recovered its stream: the places of its names in it, as peers remembered them.
        """
        self._health = HealthWatch(self)

    def run(self) -> None:
        for step in self.plan.steps:
            self._advance_to(START_NS + step.at_ms * MS)
            perform(self, step)
        while self.restless:
            self._advance_to(self.clockwork.now_ns + 10 * MS)
        self._heal_all()
        within_ms = peace_ms(self._most_unanswered(), self.plan.slowest_ms)
        limit = self.clockwork.now_ns + within_ms * MS
        while not self._converged():
            if self.clockwork.now_ns >= limit:
                raise Violation(f"liveness: after {within_ms} ms of peace: {self._laggards()}")
            self._advance_to(self.clockwork.now_ns + LOOKS_EVERY_MS * MS)
        self.check()
        self.tally.finish()
        self.counts["events"] += self.clockwork.events + len(self.plan.steps)

    def check(self) -> None:
        """Check the whole guarantee over the records of all applications."""
        publishes = [seen for publisher in self.publishers for seen in publisher.history()]
        placed_as_told(publishes, self.truth, journaled=self.plan.fsync is not None)
        answers_publishers_in_time(
            publishes, LONGEST_WAIT_MS * MS, self._longest_turn_ms() * MS, self._quarter()
        )
        self.lies.nothing_stuck(self.truth)
        for subscriber in self.subscribers:
            history = subscriber.history
            no_gap(history, self.truth)
            own_loss_is_told(history, self.truth)
            third_loss_is_told(history, self.truth)
            no_phantom(history, self.truth)
            no_duplicate(history)
            no_false_alarm(history, self.truth)
            passed_is_not_read_again(history, self.truth)
            self.counts["delivered"] += history.count(Got)
            self.counts["lives"] += history.count(Opened)
            self.counts["filters"] += history.count(Filtered)
            self.counts["closed"] += history.count(Closed)
            self.counts["resumes"] += subscriber.resumes
            self.counts["notices merged"] += subscriber.merged
            for event in history.events:
                if isinstance(event, Lost):
                    self.counts[f"expired {event.reason}"] += 1
                    if event.reason is Reason.STATE_LOST:
                        goes_on = event.place[0] in self.truth[event.node].ends
                        self.counts["told of a lost end"] += goes_on
                        self.counts["told how many"] += event.missed is not None
        self.counts["accepted"] += sum(len(p.payloads) for p in publishes if p.first is not None)

    def _longest_turn_ms(self) -> int:
        """The longest hold for a quarter of the ring: by readers, and by the disk if that comes first."""
        disk_ms = 2 * self.plan.slowest_disk_ms if self.plan.fsync == "always" else 0
        return self.plan.pace_ms + disk_ms

    def _quarter(self) -> int:
        """A quarter of the messages that a ring holds for certain; if it holds few, each publish may count alone."""
        return max(1, self.plan.ring_messages // 4) if self.plan.ring_bytes >= 10**6 else 1

    def chance(self, *what: object) -> random.Random:
        """Chance for one purpose: the number of its draws changes no other part of the run."""
        return Chance(f"{self.plan.seed} {' '.join(map(str, what))}")

    def wire(self, near: str, far: str) -> Wire:
        self._connections[near, far] += 1
        wire = Wire(
            self.clockwork,
            self.chance("wire", near, far, self._connections[near, far]),
            capacity=self.plan.capacity_bytes,
            slowest_ms=self.plan.slowest_ms if near != far else min(1, self.plan.slowest_ms),
            ends=(near, far),
        )
        self.wires = [w for w in self.wires if not w.broken]
        self.wires.append(wire)
        return wire

    def links(self) -> list[Wire]:
        """The connections between brokers."""
        return [w for w in self.wires if not w.broken and not w.local]

    def is_cut(self, near: str, far: str) -> bool:
        return (near, far) in self.cuts

    def start(self, broker: SimBroker) -> None:
        if broker.node is None:
            self.say(f"{broker.name} starts")
            broker.start()
            for subscriber in self.subscribers:
                if subscriber.broker is broker:
                    subscriber.broker_started()

    def disturbed(self, broker: SimBroker) -> None:
        """Answers to this broker's publishers may take their time."""
        for publisher in self.publishers:
            if publisher.broker is broker:
                publisher.disturbed()

    def noticed(self, node: str, notice: Notice) -> None:
        self.say(f"{node} {notice.event} {notice.fields}")
        self.counts[notice.event] += 1
        if notice.event == "session.forgotten":
            for subscriber in self.subscribers:
                if subscriber.name == notice.fields["session"]:
                    subscriber.known.dropped(subscriber.socket)
        violated = notice.event == "protocol.violated"
        if violated and self.lies.accused(node, notice.fields["connection"], notice.fields["kind"]):
            return
        if violated or notice.level is Level.ERROR:
            raise Violation(f"protocol: {node} says {notice.event} {notice.fields}")

    def say(self, line: str) -> None:
        self.trace.append(f"{self.clockwork.now_ns // MS - 1_000_000:>8} ms  {line}")
        self._digest.update(self.trace[-1].encode())
        del self.trace[:-KEPT_LINES]

    def came(self, at: str, data: bytes) -> None:
        """Bytes come in at an end."""
        self._digest.update(b"%d %b " % (self.clockwork.now_ns, at.encode()))
        self._digest.update(data)

    def saw(self, reader: str, event: Event) -> None:
        """An application sees an event."""
        if isinstance(event, Opened | Filtered):
            places = sorted(event.places.items())
            self.say(f"{reader} {type(event).__name__} {places}")
        else:
            self.say(f"{reader} {event}")

    @property
    def digest(self) -> str:
        """The digest of all bytes, notices and events, in order and with their times."""
        return self._digest.hexdigest()

    def _advance_to(self, time_ns: int) -> None:
        self.clockwork.run_until(time_ns)

    def _heal_all(self) -> None:
        self.say("peace")
        self.peace = True
        self.lies.disarm()
        self.cuts.clear()
        for wire in self.wires:
            for pipe in (wire.out, wire.back):
                pipe.held = False
                pipe.plan()
        for broker in self.brokers.values():
            broker.go_on()
            self.start(broker)
        for subscriber in self.subscribers:
            subscriber.go_on()

    def _most_unanswered(self) -> int:
        """The batches that are still to be published on one node, the largest number of all nodes."""
        unanswered: Counter[str] = Counter()
        for publisher in self.publishers:
            unanswered[publisher.broker.name] += publisher.unanswered
        return max(unanswered.values(), default=0)

    def _converged(self) -> bool:
        idle = all(p.idle for p in self.publishers) and self.lies.settled
        return idle and all(s.has_all and not s.health.unreachable for s in self.subscribers)

    def _laggards(self) -> str:
        lines = [f"{p.name} waits for receipts" for p in self.publishers if not p.idle]
        if not self.lies.settled:
            lines.append("a lie is not settled")
        for subscriber in self.subscribers:
            for node, stream in self.truth.items():
                at = subscriber.history.at.get(node)
                if node in subscriber.health.unreachable:
                    lines.append(f"{subscriber.name} was told that {node} is not heard")
                if at is None or stream.latest(at) != stream.end:
                    lines.append(
                        f"{subscriber.name} on {subscriber.broker.name} at {at} of {node}, {stream.end}"
                    )
        unheard = [s.name for s in self.subscribers if not s.has_all]
        return "; ".join(lines[:6]) or f"{unheard} have not taken in all that they were told"

"""One simulated cluster from a seed: first faults with every answer checked, then everything heals and
every session has to come to every stream's end.
"""

from __future__ import annotations

import functools
import random
from collections import Counter

from tests.simulation.brokers import SimBroker
from tests.simulation.checkers import (
    Violation,
    no_duplicate,
    no_false_alarm,
    no_gap,
    no_phantom,
    nobody_stops_a_publisher,
    placed_as_told,
)
from tests.simulation.clockwork import MS, Clockwork
from tests.simulation.history import Got, Lost, Opened
from tests.simulation.plan import Plan, draw
from tests.simulation.publisher import Publisher
from tests.simulation.subscriber import Subscriber
from tests.simulation.truth import StreamTruth, Truth
from tests.simulation.wires import Wire

from pubsubd_broker.core.notices import Level, Notice

CONVERGES_MS = 60_000
"""Virtual time that the healed cluster has to bring every session to every stream's end."""

LONGEST_WAIT_MS = 1000
"""Virtual time within which an undisturbed publisher has its answer."""

TRACE_LINES = 50

TOPICS = ("a", "a.b", "a.c", "b.c", "x.y.z", "room:1")
PATTERNS = (
    (">",),
    ("a",),
    ("a.*",),
    ("a.>", "a.b"),
    ("*.c", "x.>"),
    ("room:1", "b.*"),
    ("never.*",),
)


class World:
    """Everything of one run. `run()` raises `Violation`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.plan: Plan = draw(self.chance)
        self.clockwork = Clockwork()
        names = [f"n{i}" for i in range(self.plan.nodes)]
        self.truth: Truth = {name: StreamTruth() for name in names}
        self.wires: list[Wire] = []
        self.cuts: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []
        self.brokers = {
            name: SimBroker(self, name, [peer for peer in names if peer != name]) for name in names
        }
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []

    def run(self) -> None:
        for broker in self.brokers.values():
            if self.chance.random() < 0.8:
                broker.start()
            else:
                self.clockwork.after(
                    self.chance.randint(0, 2000) * MS, functools.partial(self._start, broker)
                )
        self._advance(self.chance.choice([0, 10, 500]))
        for _ in range(self.plan.publishers):
            broker = self.chance.choice(list(self.brokers.values()))
            if broker.node is not None:
                self.publishers.append(Publisher(self, f"p{len(self.publishers)}", broker))
        for _ in range(self.plan.subscribers):
            self._step_subscribe()
        steps, weights = zip(*self.plan.weights.items(), strict=True)
        for _ in range(self.plan.steps):
            step = self.chance.choices(steps, weights)[0]
            self.counts[step] += 1
            getattr(self, f"_step_{step}")()
            self._advance(self.chance.randint(0, self.plan.step_ms))
        self._heal_all()
        limit = self.clockwork.now_ns + CONVERGES_MS * MS
        while not self._converged():
            if self.clockwork.now_ns >= limit:
                raise Violation(f"liveness: after {CONVERGES_MS} ms of peace: {self._laggards()}")
            self._advance(200)
        self.check()
        self.counts["events"] += self.clockwork.events

    def check(self) -> None:
        """The whole guarantee, over what every application saw."""
        publishes = [seen for publisher in self.publishers for seen in publisher.history()]
        placed_as_told(publishes, self.truth)
        nobody_stops_a_publisher(publishes, LONGEST_WAIT_MS * MS)
        for subscriber in self.subscribers:
            history = subscriber.history
            no_gap(history, self.truth)
            no_phantom(history, self.truth)
            no_duplicate(history)
            no_false_alarm(history, self.truth)
            self.counts["delivered"] += history.count(Got)
            self.counts["lives"] += history.count(Opened)
            self.counts["resumes"] += subscriber.resumes
            for event in history.events:
                if isinstance(event, Lost):
                    self.counts[f"expired {event.reason}"] += 1
        self.counts["accepted"] += sum(len(p.payloads) for p in publishes if p.first is not None)

    def wire(self, near: str, far: str) -> Wire:
        wire = Wire(
            self.clockwork,
            self.chance,
            capacity=self.plan.capacity_bytes,
            slowest_ms=self.plan.slowest_ms if near != far else min(1, self.plan.slowest_ms),
            ends=(near, far),
        )
        self.wires = [w for w in self.wires if not w.broken]
        self.wires.append(wire)
        return wire

    def is_cut(self, near: str, far: str) -> bool:
        return (near, far) in self.cuts

    def noticed(self, node: str, notice: Notice) -> None:
        self.say(f"{node} {notice.event} {notice.fields}")
        self.counts[notice.event] += 1
        if notice.event == "protocol.violated" or notice.level is Level.ERROR:
            raise Violation(f"protocol: {node} says {notice.event} {notice.fields}")

    def say(self, line: str) -> None:
        self.trace.append(f"{self.clockwork.now_ns // MS - 1_000_000:>8} ms  {line}")
        del self.trace[:-2000]

    def _advance(self, ms: int) -> None:
        self.clockwork.run_until(self.clockwork.now_ns + ms * MS)

    def _start(self, broker: SimBroker) -> None:
        if broker.node is None:
            self.say(f"{broker.name} starts")
            broker.start()

    def _broker(self) -> SimBroker | None:
        running = [b for b in self.brokers.values() if b.node is not None]
        return self.chance.choice(running) if running else None

    def _link(self) -> Wire | None:
        links = [w for w in self.wires if not w.broken and w.ends[0] != w.ends[1]]
        return self.chance.choice(links) if links else None

    def _step_publish(self) -> None:
        self._publish(self.chance.randint(1, 4))

    def _step_burst(self) -> None:
        for _ in range(self.chance.randint(5, 40)):
            self._publish(self.chance.randint(1, 4))

    def _publish(self, messages: int) -> None:
        if not self.publishers:
            broker = self._broker()
            if broker is not None:
                self.publishers.append(Publisher(self, "p0", broker))
            return
        publisher = self.chance.choice(self.publishers)
        to = self.chance.choice(list(self.brokers)) if self.chance.random() < 0.2 else None
        publisher.publish(self.chance.choice(TOPICS), to, messages)

    def _step_cut(self) -> None:
        wire = self._link()
        if wire is not None:
            self.say(f"cut {wire.ends}")
            wire.cut(silent=False)

    def _step_silent_cut(self) -> None:
        wire = self._link()
        if wire is not None:
            self.say(f"silent cut {wire.ends}")
            wire.cut(silent=True)

    def _step_hold(self) -> None:
        wire = self._link()
        if wire is not None:
            pipe = self.chance.choice([wire.out, wire.back])
            pipe.held = True
            self.say(f"hold {wire.ends}")

            def release() -> None:
                pipe.held = False
                pipe.plan()

            self.clockwork.after(self.chance.randint(1, 3000) * MS, release)

    def _step_partition(self) -> None:
        if len(self.brokers) < 2:
            return
        near, far = self.chance.sample(list(self.brokers), 2)
        self.cuts.add((near, far))
        self.say(f"partition {near} -> {far}")
        for wire in self.wires:
            if wire.ends == (near, far):
                wire.cut(silent=False)

    def _step_heal(self) -> None:
        if self.cuts:
            healed = self.chance.choice(sorted(self.cuts))
            self.cuts.discard(healed)
            self.say(f"heal {healed}")

    def _step_crash(self) -> None:
        broker = self._broker()
        if broker is None:
            return
        self.say(f"{broker.name} crashes")
        for subscriber in self.subscribers:
            if subscriber.broker is broker:
                subscriber.broker_lost_memory()
        broker.crash()
        self.clockwork.after(self.chance.randint(1, 2000) * MS, lambda: self._start(broker))

    def _step_pause(self) -> None:
        broker = self._broker()
        if broker is not None and not broker.paused:
            self.say(f"{broker.name} pauses")
            for publisher in self.publishers:
                if publisher.broker is broker:
                    publisher.disturbed()
            broker.pause()
            self.clockwork.after(self.chance.randint(1, 3000) * MS, broker.go_on)

    def _step_client_cut(self) -> None:
        clients: list[Publisher | Subscriber] = [*self.publishers, *self.subscribers]
        if clients:
            client = self.chance.choice(clients)
            self.say(f"{client.name} is cut off its broker")
            client.cut()

    def _step_app_restart(self) -> None:
        if self.subscribers:
            subscriber = self.chance.choice(self.subscribers)
            self.say(f"{subscriber.name} restarts")
            subscriber.restart()

    def _step_subscribe(self) -> None:
        broker = self._broker()
        if broker is None or len(self.subscribers) >= 8:
            return
        mute = [p for p in self.publishers if self.chance.random() < 0.2]
        keeps = self.chance.choice(["nothing", "position", "name"])
        start = self.chance.choice(["latest", "latest", "earliest"])
        subscriber = Subscriber(
            self,
            f"s{len(self.subscribers)}-{keeps}-{start}",
            broker,
            self.chance.choice(PATTERNS),
            keeps=keeps,
            start=start,
            mute=mute[0] if mute else None,
            pace_ms=self.chance.choice([1, 20, 500]),
        )
        self.say(f"{subscriber.name} subscribes on {broker.name}")
        self.subscribers.append(subscriber)

    def _step_clock_step(self) -> None:
        self.clockwork.wall_us += self.chance.choice([-3600, 3600]) * 1_000_000

    def _heal_all(self) -> None:
        self.say("peace")
        self.cuts.clear()
        for wire in self.wires:
            for pipe in (wire.out, wire.back):
                pipe.held = False
                pipe.plan()
        for broker in self.brokers.values():
            broker.go_on()
            self._start(broker)

    def _converged(self) -> bool:
        return all(p.idle for p in self.publishers) and all(s.has_all for s in self.subscribers)

    def _laggards(self) -> str:
        lines = [f"{p.name} waits for receipts" for p in self.publishers if not p.idle]
        for subscriber in self.subscribers:
            for node, stream in self.truth.items():
                at = subscriber.history.at.get(node)
                if at != stream.end:
                    lines.append(
                        f"{subscriber.name} on {subscriber.broker.name} at {at} of {node}, {stream.end}"
                    )
        return "; ".join(lines[:6])

"""A soak: three brokers at full speed with faults and noise, then peace, then the checks of what is left."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.plan import MARK, NODES, Fault, Kind
from tests.faults.processes import Process
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.cluster import Cluster
from tests.integration.relay import Direction
from tests.integration.waiting import wait_until
from tests.soak.application import PATIENCE_S
from tests.soak.ledger import HEAD, UNCOUNTED, Broken
from tests.soak.load import Load, ledger_of
from tests.soak.noise_process import NoiseProcess
from tests.soak.plan import JOURNALED, Plan
from tests.soak.samples import GIVEN_BACK, Sample, Samples, look

import pubsubd

RING_MESSAGES: Final = 50_000
RING_MIB: Final = 16
REPLICA_MESSAGES: Final = 20_000
REPLICA_MIB: Final = 8
"""About one second of full speed: a reader that is away for a moment catches up, a longer absence is told."""

REMEMBERED_PUBLISHERS: Final = 128
"""Size of the table of publishers.

Passers-by fill it during the warm-up; a larger table would go on growing for long.
"""

PROCESS_MIB: Final = 64
"""Memory of a broker beside its ring and replicas: the interpreter with its libraries, and data in flight."""

IDLE_S: Final = 0.3
"""Some ticks of a broker."""

GIVEN_BACK_WITHIN_S: Final = 20.0
"""Longer than every deadline of an idle connection."""


@dataclass(slots=True)
class Outcome:
    """The result of a soak. `violations`: broken rules, in words; empty after a good soak."""

    samples: Samples
    idle: dict[str, Sample]
    after: dict[str, Sample]
    counts: Counter[str]
    violations: list[str]


class Soak:
    """Runs one soak. `run()` returns its outcome, or raises the error that ended an application or a broker."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []

    def run(self) -> Outcome:
        with contextlib.ExitStack() as stack:
            self._cluster = stack.enter_context(self._brokers())
            self._load = Load(self.plan, self.folder, self._cluster)
            stack.callback(self._load.kill)
            idle = self._idle()
            samples = Samples(self._cluster, self.plan.sample_s)
            self._load.start()
            self._noise = NoiseProcess(self.plan.seed, self._cluster)
            stack.callback(self._noise.kill)
            samples.start()
            try:
                self._play()
            finally:
                samples.stop()
            self._heal()
            self._converge()
            self._leave()
            after = self._given_back(idle)
            self._stop_brokers()
        self.violations += self._load.audited(self.counts)
        self._bounded(samples)
        return Outcome(samples, idle, after, self.counts, self.violations)

    def _brokers(self) -> contextlib.AbstractContextManager[Cluster]:
        cluster = Cluster(
            self.folder,
            NODES,
            command=PUBSUBD,
            per_node={JOURNALED: {"journal": self.folder / "journal", "fsync": "always"}},
            ring_messages=RING_MESSAGES,
            ring_bytes=f"{RING_MIB}MiB",
            replica_messages=REPLICA_MESSAGES,
            replica_bytes=f"{REPLICA_MIB}MiB",
            heartbeat="500ms",
            peer_timeout="2s",
            max_publishers=REMEMBERED_PUBLISHERS,
        )

        @contextlib.contextmanager
        def running() -> Iterator[Cluster]:
            try:
                yield cluster.start()
            finally:
                for broker in cluster:
                    lines = "\n".join(str(line) for line in broker.logs)
                    (self.folder / f"broker-{broker.node}.log").write_text(lines + "\n")
                cluster.close()

        return running()

    # Load

    def _idle(self) -> dict[str, Sample]:
        """Figures of each broker before any application comes.

        It has published: a journal keeps a file open from then on.
        """
        asyncio.run(self._publish_marks())
        links = 2 * (len(NODES) - 1)
        for broker in self._cluster:
            wait_until(lambda broker=broker: look(broker)["connections"] == links)  # type: ignore[misc]
        return {broker.node: least(broker, IDLE_S) for broker in self._cluster}

    # Faults

    def _play(self) -> None:
        numbers = itertools.count()
        due: list[tuple[float, int, Callable[[], object]]] = []
        for fault in self.plan.faults:
            begin, end = self._fault(fault)
            heapq.heappush(due, (fault.at_s, next(numbers), begin))
            heapq.heappush(due, (fault.at_s + fault.for_s, next(numbers), end))
        began = time.monotonic()
        while (left := began + self.plan.seconds - time.monotonic()) > 0:
            if due and due[0][0] <= time.monotonic() - began:
                heapq.heappop(due)[2]()
            else:
                time.sleep(min(left, 0.02))
                self._all_well()

    def _fault(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        """The begin and the end of a fault, as two callables.

        Every step allows for the other faults that overlap with it.
        """
        match fault.kind:
            case Kind.KILL_BROKER | Kind.STOP_BROKER:
                return (lambda: self._restart(fault)), (lambda: None)
            case Kind.KILL_APPLICATION:
                process = self._load.processes[fault.target[0]]
                return (lambda: self._kill(fault, process)), (lambda: self._revive(process))
            case Kind.STOP_APPLICATION:
                process = self._load.processes[fault.target[0]]
                return (lambda: self._stop(fault, process)), process.go_on
            case _:
                return self._link_fault(fault)

    def _link_fault(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        link = self._cluster.link(*fault.target)
        toward: Direction = "to_target" if fault.toward == "to_target" else "from_target"
        step: dict[Kind, tuple[Callable[[], object], Callable[[], object]]] = {
            Kind.CUT: (link.cut, link.heal),
            Kind.HOLD: (link.hold, link.release),
            Kind.HOLD_ONE_WAY: (lambda: link.hold(toward), lambda: link.release(toward)),
            Kind.RESET: (link.reset, lambda: None),
            Kind.SLOW: (lambda: link.slow(float(fault.figure)), lambda: link.slow(None)),
            Kind.CUT_AFTER: (lambda: link.cut_after(toward, fault.figure), lambda: None),
        }
        begin, end = step[fault.kind]

        def counted() -> None:
            self.counts[fault.kind] += 1
            begin()

        return counted, end

    def _restart(self, fault: Fault) -> None:
        """Kill or stop the broker that keeps a journal, and start it again at once."""
        broker = self._cluster[fault.target[0]]
        if fault.kind is Kind.KILL_BROKER:
            broker.kill()
            self.counts["broker killed and restarted"] += 1
        else:
            code = broker.stop()
            if code:
                raise Broken(f"broker {broker.node} stopped with {code}\n{broker.tail()}")
            self.counts["broker stopped and restarted"] += 1
        broker.start()
        self._noise.tell(self._cluster)

    def _kill(self, fault: Fault, process: Process) -> None:
        if process.alive and not process.stopped:
            self.counts[fault.kind] += 1
            process.kill()

    def _revive(self, process: Process) -> None:
        if not process.alive:
            process.start()

    def _stop(self, fault: Fault, process: Process) -> None:
        if process.alive:
            self.counts[fault.kind] += 1
            process.stop()

    def _all_well(self) -> None:
        """Raises unless all processes run. A killed process is missing until it is started again."""
        self._load.raise_if_failed()
        for broker in self._cluster:
            if not broker.alive:
                raise Broken(f"broker {broker.node} ended by itself\n{broker.tail()}")

    # Peace

    def _heal(self) -> None:
        self._cluster.heal()
        self._load.heal()

    def _converge(self) -> None:
        """Publishers end what they have begun. Then a last message on each node must reach every reader."""
        self._noise.hush()
        self._load.publish_no_more()
        ends = asyncio.run(self._publish_marks())

        def everywhere() -> bool:
            for process in self._load.readers:
                process.raise_if_failed()
            return all(
                stream.next > ends[node]
                for process in self._load.readers
                for node, stream in ledger_of(process).streams.items()
            )

        wait_until(everywhere, PATIENCE_S, "the last message of every stream at every reader")

    async def _publish_marks(self) -> dict[str, int]:
        ends = {}
        for broker in self._cluster:
            async with pubsubd.connect(broker.socket, codec=pubsubd.RAW) as client:
                receipt = await client.publish(MARK, HEAD.pack(UNCOUNTED, 0), timeout=PATIENCE_S)
                ends[receipt.node] = receipt.offset
        return ends

    def _leave(self) -> None:
        for process in self._load.readers:
            process.end(PATIENCE_S)
        made = self._noise.made()
        self._attacks = {what: count for what, count in made.items() if "attacks" in what}
        self.counts.update({what: n for what, n in made.items() if what not in self._attacks})
        self.counts["attacks"] = sum(self._attacks.values())

    def _given_back(self, idle: dict[str, Sample]) -> dict[str, Sample]:
        """Figures of each broker as soon as they are as low as before, or at the end of the wait."""
        after: dict[str, Sample] = {}

        def as_before() -> bool:
            after.update({broker.node: look(broker) for broker in self._cluster})
            return not over(idle, after)

        with contextlib.suppress(AssertionError):
            wait_until(as_before, GIVEN_BACK_WITHIN_S, "as few of everything as before")
        self.violations += over(idle, after)
        return after

    def _stop_brokers(self) -> None:
        for broker in self._cluster:
            self._read_counters(broker)
            if broker.stop():
                self.violations.append(f"broker {broker.node} stopped with {broker.exit_code}")
            self._read_logs(broker)

    def _read_counters(self, broker: Broker) -> None:
        counters = broker.status()["counters"]
        self.counts["delivered by brokers"] += counters["messages_delivered"]

    def _read_logs(self, broker: Broker) -> None:
        """Raises unless the logs hold no error, and at most as many broken protocols as attacks were made."""
        attacked = violated = 0
        for what, count in self._attacks.items():
            door = what.removeprefix("attacks on ")
            attacked += count if self._is_of(door, broker) else 0
        for line in broker.logs:
            if line["event"] is None or line.get("level") in ("error", "critical"):
                self.violations.append(f"broker {broker.node} logged {line}")
            violated += line["event"] == "protocol.violated"
        self.counts["protocol violations logged"] += violated
        if violated > attacked:
            self.violations.append(
                f"broker {broker.node} speaks of {violated} broken protocols, of {attacked} attacks"
            )

    def _is_of(self, door: str, broker: Broker) -> bool:
        addresses = {broker.socket}
        for line in broker.logs:
            if line["event"] == "broker.started":
                addresses |= {line["listen"], line["http"]}
        return door in addresses

    # Checks

    def _bounded(self, samples: Samples) -> None:
        """Raises if a broker took more memory than its settings allow."""
        limit = PROCESS_MIB + RING_MIB + (len(NODES) - 1) * REPLICA_MIB
        for node in NODES:
            most = samples.most(node, "memory MiB")
            if most > limit:
                self.violations.append(f"broker {node} had {most:.1f} MiB, {limit} is its bound")


def least(broker: Broker, seconds: float) -> Sample:
    """The least value of each figure within this time: a dial or a request may be under way at any moment."""
    found = look(broker)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = {figure: min(value, found[figure]) for figure, value in look(broker).items()}
    return found


def over(idle: dict[str, Sample], after: dict[str, Sample]) -> list[str]:
    """Figures that are higher than before, in words."""
    return [
        f"broker {node} has {after[node][figure]:g} {figure} when all have left, {before:g} before"
        for node, sample in idle.items()
        for figure, before in sample.items()
        if figure in GIVEN_BACK and after[node][figure] > before
    ]

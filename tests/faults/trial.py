"""A run: three brokers and their applications as real processes, a plan of faults, peace, the checks."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.faults.application import Settings
from tests.faults.evidence import Attempt, Log, check
from tests.faults.logbook import Follower
from tests.faults.plan import MARK, NODES, PEER_TIMEOUT_S, TOPICS, Application, Fault, Kind, Plan
from tests.faults.processes import Process
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.cluster import Cluster
from tests.integration.proc import descriptors, memory_kib
from tests.integration.relay import Direction, Relay
from tests.integration.waiting import NotReached, wait_until
from tests.simulation.history import Got, History, Lost, Opened
from tests.simulation.samples import Held, bounded
from tests.simulation.violation import Violation

import pubsubd

CONVERGES_S: Final = 60.0
"""Time for a healed cluster until every reader has the last message of every stream."""

REPLICA_BYTES: Final = 2 * 1024 * 1024
PROCESS_BYTES: Final = 64 * 1024 * 1024
"""Memory of a broker beside its ring and replicas: the interpreter with its libraries, and data in flight."""

MOST_DESCRIPTORS: Final = 40
"""Descriptors of a healed broker: its listeners and loop, four links, and those of its applications."""


class Trial:
    """`run()` raises `Violation`, `NotReached`, or the error that ended an application or a broker."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.epochs: dict[str, list[str]] = {node: [] for node in NODES}
        self._held: list[Held] = []
        self._marks: list[Attempt] = []

    def run(self) -> Counter[str]:
        plan = self.plan
        with contextlib.ExitStack() as stack:
            self._cluster = stack.enter_context(self._brokers())
            self._starter = stack.enter_context(ThreadPoolExecutor(len(NODES)))
            self._starting: dict[str, Future[object]] = {}
            self._relays = {
                each.name: stack.enter_context(self._relay(each))
                for each in (*plan.publishers, *plan.readers)
            }
            self._publishers = [self._process(each, "publisher") for each in plan.publishers]
            self._readers = [self._process(each, "reader") for each in plan.readers]
            self._processes = {
                each.settings.name: each for each in (*self._publishers, *self._readers)
            }
            stack.callback(self._kill_all)
            for process in self._processes.values():
                process.start()
            wait_until(self._all_begun, CONVERGES_S, "the first step of every application")
            self._play()
            self._heal()
            self._converge()
            self._measure_all()
            for reader in self._readers:
                reader.end(CONVERGES_S)
            self._few_descriptors()
            self._no_complaints()
        self._check()
        return self.counts

    def _brokers(self) -> contextlib.AbstractContextManager[Cluster]:
        plan = self.plan
        cluster = Cluster(
            self.folder,
            NODES,
            command=PUBSUBD,
            ring_messages=plan.ring_messages,
            ring_bytes=plan.ring_bytes,
            replica_messages=plan.replica_messages,
            replica_bytes=REPLICA_BYTES,
            peer_timeout=f"{PEER_TIMEOUT_S}s",
        )
        for broker in cluster:
            broker.on_started.append(self._started)
        for link in plan.cut_at_first:
            cluster.link(*link).cut()

        @contextlib.contextmanager
        def running() -> Iterator[Cluster]:
            try:
                yield cluster.start(wait_ready=False)
            finally:
                self._keep_logs(cluster)
                cluster.close()

        return running()

    def _started(self, broker: Broker) -> None:
        self.epochs[broker.node].append(broker.wait_log("broker.started")["epoch"])

    def _relay(self, application: Application) -> Relay:
        socket = self._cluster[application.node].socket
        return Relay(socket, listen=f"{socket}-{application.name}")

    def _process(self, drawn: Application, role: str) -> Process:
        return Process(
            Settings(
                role="reader" if role == "reader" else "publisher",
                name=drawn.name,
                node=drawn.node,
                socket=self._relays[drawn.name].endpoint,
                log=str(self.folder / f"{drawn.name}.log"),
                seed=self.plan.seed,
                pause_s=drawn.pause_s,
                every=drawn.every,
                keeps=drawn.keeps,
                patterns=drawn.patterns,
                start="earliest" if drawn.start == "earliest" else "latest",
                topics=TOPICS,
                addressees=[*NODES, "unknown"] if self.plan.seed % 3 == 0 else (),
                batch=drawn.batch,
                sizes=drawn.sizes,
            )
        )

    def _all_begun(self) -> bool:
        return all(
            Path(each.settings.log).exists() and Path(each.settings.log).stat().st_size
            for each in self._processes.values()
        )

    # Faults

    def _play(self) -> None:
        """Begin each fault at its time, and end it when its time is over."""
        order = itertools.count()
        began = time.monotonic()
        due: list[tuple[float, int, Callable[[], object]]] = []
        for fault in self.plan.faults:
            begin, end = self._fault(fault)
            heapq.heappush(due, (fault.at_s, next(order), begin))
            heapq.heappush(due, (fault.at_s + fault.for_s, next(order), end))
        while due and due[0][0] < self.plan.seconds:
            at_s, _, step = heapq.heappop(due)
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            step()
        time.sleep(max(0.0, began + self.plan.seconds - time.monotonic()))

    def _fault(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        """The begin and the end of a fault, as two callables.

        Every step allows for the other faults that overlap with it.
        """
        first = fault.target[0]
        match fault.kind:
            case Kind.KILL_BROKER:
                return lambda: self._kill_broker(first), lambda: self._start_broker(first)
            case Kind.STOP_BROKER:
                return lambda: self._stop_broker(first), lambda: self._wake_broker(first)
            case Kind.KILL_APPLICATION:
                process = self._processes[first]
                return lambda: self._to(fault, process, process.kill), lambda: self._revive(process)
            case Kind.STOP_APPLICATION:
                process = self._processes[first]
                return lambda: self._to(fault, process, process.stop), process.go_on
            case _:
                return self._link_fault(fault)

    def _link_fault(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        if len(fault.target) == 2:
            link = self._cluster.link(*fault.target)
        else:
            link = self._relays[fault.target[0]]
        toward: Direction = "to_target" if fault.toward == "to_target" else "from_target"
        begin: Callable[[], object]
        end: Callable[[], object] = lambda: None  # noqa: E731
        match fault.kind:
            case Kind.CUT:
                begin, end = link.cut, link.heal
            case Kind.HOLD:
                begin, end = link.hold, link.release
            case Kind.HOLD_ONE_WAY:
                begin, end = (lambda: link.hold(toward)), (lambda: link.release(toward))
            case Kind.RESET:
                begin = link.reset
            case Kind.SLOW:
                begin, end = (lambda: link.slow(float(fault.figure))), (lambda: link.slow(None))
            case _:
                begin = lambda: link.cut_after(toward, fault.figure)  # noqa: E731
        return lambda: self._count(fault, begin), end

    def _count(self, fault: Fault, step: Callable[[], object]) -> None:
        self.counts[fault.kind] += 1
        step()

    def _to(self, fault: Fault, process: Process, step: Callable[[], None]) -> None:
        if process.alive:
            self._count(fault, step)

    def _is_starting(self, node: str) -> bool:
        return node in self._starting and not self._starting[node].done()

    def _kill_broker(self, node: str) -> None:
        broker = self._cluster[node]
        if broker.alive and not self._is_starting(node):
            self.counts[Kind.KILL_BROKER] += 1
            self._measure(broker)
            broker.kill()

    def _start_broker(self, node: str) -> None:
        broker = self._cluster[node]
        if not broker.alive and not self._is_starting(node):
            self._starting[node] = self._starter.submit(broker.start)

    def _stop_broker(self, node: str) -> None:
        broker = self._cluster[node]
        if broker.alive and not self._is_starting(node):
            self.counts[Kind.STOP_BROKER] += 1
            broker.pause()

    def _wake_broker(self, node: str) -> None:
        broker = self._cluster[node]
        if broker.alive and not self._is_starting(node):
            broker.resume()

    def _revive(self, process: Process) -> None:
        if not process.alive:
            process.start()

    # Peace

    def _heal(self) -> None:
        self._cluster.heal()
        for relay in self._relays.values():
            relay.heal()
        for broker in self._cluster:
            self._wake_broker(broker.node)
            self._start_broker(broker.node)
        for process in self._processes.values():
            process.go_on()
            self._revive(process)
        for starting in self._starting.values():
            starting.result()

    def _converge(self) -> None:
        """The last message of each stream reaches every reader, perhaps behind a notice of its losses."""
        for process in self._processes.values():
            process.peace()
        for publisher in self._publishers:
            publisher.ended(CONVERGES_S)
        asyncio.run(self._publish_marks())
        goal = {mark.place[0]: mark.place[1:] for mark in self._marks if mark.place is not None}
        late = {reader.settings.name: dict(goal) for reader in self._readers}

        def everywhere() -> bool:
            for reader in self._readers:
                missing = late[reader.settings.name]
                for record in reader.follower.news():
                    for node, (epoch, offset) in record.get("position", {}).items():
                        if (
                            node in missing
                            and epoch == missing[node][0]
                            and offset > missing[node][1]
                        ):
                            del missing[node]
            return not any(late.values())

        try:
            wait_until(everywhere, CONVERGES_S, "the last message of every stream")
        except NotReached:
            self._check()  # The violation itself may tell more than this timeout.
            behind = {name: missing for name, missing in late.items() if missing}
            raise Violation(f"liveness: after {CONVERGES_S} s of peace: {behind}") from None

    async def _publish_marks(self) -> None:
        for broker in self._cluster:
            async with pubsubd.connect(broker.socket, codec=pubsubd.RAW) as client:
                payload = f"mark of {broker.node}".encode()
                mark = Attempt("marks", broker.node, None, MARK, payload, time.monotonic_ns())
                receipt = await client.publish(MARK, payload, timeout=CONVERGES_S)
                mark.place = (receipt.node, receipt.epoch, receipt.offset)
                self._marks.append(mark)

    # Checks

    def _measure(self, broker: Broker) -> None:
        peak = memory_kib(broker.pid, "VmHWM")
        limit = (PROCESS_BYTES + self.plan.ring_bytes + 2 * REPLICA_BYTES) // 1024
        self._held.append(Held(broker.node, "KiB of memory", peak, limit))

    def _measure_all(self) -> None:
        for broker in self._cluster:
            self._measure(broker)

    def _few_descriptors(self) -> None:
        """The applications are gone: all that was opened for them, and lost links, must be closed."""
        for broker in self._cluster:
            wait_until(
                lambda broker=broker: descriptors(broker.pid) <= MOST_DESCRIPTORS,  # type: ignore[misc]
                what=f"few descriptors of {broker.node}",
            )
            found = descriptors(broker.pid)
            self.counts["most descriptors"] = max(self.counts["most descriptors"], found)
            self._held.append(Held(broker.node, "descriptors", found, MOST_DESCRIPTORS))

    def _no_complaints(self) -> None:
        for process in self._processes.values():
            said = process.errors.read_text()
            if said:
                raise AssertionError(
                    f"{process.settings.name} wrote to standard error: {said[-3000:]}"
                )
        for broker in self._cluster:
            for line in broker.logs:
                if line["event"] in (None, "protocol.violated") or line.get("level") == "error":
                    raise Violation(f"protocol: {broker.node} logged {line}")

    def _check(self) -> None:
        bounded(self._held)
        publishers = [self._log(process) for process in self._publishers]
        readers = [self._log(process) for process in self._readers]
        attempts, histories = check(
            self.epochs, publishers, readers, self.plan.capacity, extra=self._marks
        )
        self._figures(attempts, histories)

    def _log(self, process: Process) -> Log:
        return Log(process.settings, Follower(Path(process.settings.log)).news())

    def _figures(self, attempts: list[Attempt], histories: list[History]) -> None:
        counts = self.counts
        counts["accepted"] = sum(a.place is not None for a in attempts)
        counts["refused"] = sum(a.refused for a in attempts)
        counts["unanswered"] = sum(a.place is None and not a.refused for a in attempts)
        counts["broker lives"] = sum(map(len, self.epochs.values()))
        counts["most memory MiB"] = max(h.held for h in self._held if "KiB" in h.what) // 1024
        for history in histories:
            counts["delivered"] += history.count(Got)
            for event in history.events:
                if isinstance(event, Opened):
                    counts[f"lives from {event.kept}"] += 1
                elif isinstance(event, Lost):
                    counts[f"expired {event.reason}"] += 1

    def _kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()

    def _keep_logs(self, cluster: Cluster) -> None:
        for broker in cluster:
            lines = "\n".join(str(line) for line in broker.logs)
            (self.folder / f"broker-{broker.node}.log").write_text(lines + "\n")

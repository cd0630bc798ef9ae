"""A round of one workload with one contestant: its figures, or the reason why it is void."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bench import witness, witness_brokers
from bench.contestants import Contestant
from bench.processes import Broken
from bench.stage import STALL_S, WINDOW_TIMEOUT_S, Passed, Stage, verdict
from bench.workloads import KIB, LATENCY_RATE, MIB, Workload

LEAST_MESSAGES: Final = 200
FASTER: Final = 4
"""Factor by which a warm-up grows that was over too soon."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one round by name, each with its unit at the end. `void`: the reason why they do not count."""

    figures: dict[str, float] = field(default_factory=dict)
    void: str | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """The lengths of measurements."""

    window_s: float = 2.0
    warm_up_s: float = 0.4


def measure(contestant: Contestant, workload: Workload, pace: Pace) -> Sample:
    """Measure in fresh processes. Never raises `Broken`: its text is the sample's `void`."""
    try:
        match workload.kind:
            case "throughput":
                return throughput(contestant, workload, pace)
            case "latency":
                return latency(contestant, workload, pace)
            case "catchup":
                return catch_up(contestant, workload)
            case "pause":
                return read_on_after_pause(contestant, workload)
            case "memory":
                return memory(contestant, workload)
            case "witness":
                return Sample(
                    witness.measure(contestant.python, workload.payload_bytes, pace.window_s)
                    | witness_brokers.measure(
                        contestant.python, workload.payload_bytes, pace.window_s
                    )
                )
    except Broken as broken:
        return Sample(void=str(broken))


def throughput(contestant: Contestant, workload: Workload, pace: Pace) -> Sample:
    """Messages a second at the reader, and the CPU time of each process for a message."""
    with Stage(contestant, workload) as stage:
        passed, rate = warm_up(stage, pace)
        if passed.void:
            return Sample(void=f"{passed.void}, while warming up")
        count = min(max(LEAST_MESSAGES, int(rate * pace.window_s)), workload.most_messages)
        before = stage.cpu_seconds()
        passed = stage.pass_through(count)
        after = stage.cpu_seconds()
        figures = {
            "messages_per_s": passed.seen["rate"],
            "published_per_s": count / passed.published["seconds"],
            "messages": count,
            "seconds": passed.seen["seconds"],
        }
        for name, cpu_s in after.items():
            figures[f"cpu_us.{name}"] = (cpu_s - before[name]) / count * 1e6
        return Sample(figures, passed.void)


def warm_up(stage: Stage, pace: Pace) -> tuple[Passed, float]:
    """Pass more and more messages through until it takes long enough to tell the rate."""
    count = LEAST_MESSAGES
    most = stage.workload.most_messages
    while True:
        began = time.monotonic()
        passed = stage.pass_through(count)
        taken_s = time.monotonic() - began
        if passed.void or taken_s >= pace.warm_up_s or count == most:
            return passed, count / taken_s
        count = min(FASTER * count, most)


def latency(contestant: Contestant, workload: Workload, pace: Pace) -> Sample:
    """One-way latency, from the call of the publisher's client until the reader's client gives the message out."""
    with Stage(contestant, workload) as stage:
        passed = stage.pass_through(int(LATENCY_RATE * pace.warm_up_s), "pace")
        if passed.void:
            return Sample(void=f"{passed.void}, while warming up")
        passed = stage.pass_through(int(LATENCY_RATE * pace.window_s), "pace")
        figures = {name: value for name, value in passed.seen.items() if name.endswith("_us")}
        return Sample(figures, passed.void)


def catch_up(contestant: Contestant, workload: Workload) -> Sample:
    """Store all messages, then start a reader that wants them from the beginning."""
    with Stage(contestant, workload, connect=False) as stage:
        stage.connect_publisher()
        published = store(stage, workload.fill_messages)
        stage.servers.start_reading_side()
        return read_back(stage, published["weight"], lambda: stage.connect_reader(earliest=True))


def read_on_after_pause(contestant: Contestant, workload: Workload) -> Sample:
    """A reader reads, and its broker stands still. All messages are stored, then the broker and the reader go on."""
    with Stage(contestant, workload) as stage:
        warm = stage.pass_through(LEAST_MESSAGES)
        if warm.void:
            return Sample(void=warm.void)
        stage.servers.pause_reading_side()
        published = store(stage, workload.fill_messages)
        return read_back(stage, published["weight"], stage.servers.resume_reading_side)


def store(stage: Stage, count: int) -> dict[str, float]:
    return stage.publisher.ask("publish", timeout_s=WINDOW_TIMEOUT_S, count=count)


def read_back(stage: Stage, weight: float, begin: Callable[[], None]) -> Sample:
    expected = stage.workload.fill_messages
    stage.reader.ask("expect", count=expected)
    began_ns = time.monotonic_ns()
    begin()
    seen = stage.reader.ask("window", timeout_s=WINDOW_TIMEOUT_S, stall_s=2 * STALL_S)
    figures = {
        "messages_per_s": seen["rate"],
        "seconds": seen["seconds"],
        "first_after_ms": (seen["began_ns"] - began_ns) / 1e6,
    }
    return Sample(figures, verdict(expected, weight, seen))


def memory(contestant: Contestant, workload: Workload) -> Sample:
    """Resident memory of each server: idle, with idle sessions, and when it keeps all that it may."""
    with Stage(contestant, workload, connect=False) as stage:
        figures: dict[str, float] = {}
        idle = stage.server_memory()
        for name, size in idle.items():
            figures[f"idle_mib.{name}"] = size / MIB
        if contestant.filters:
            stage.open_idle_sessions()
            with_sessions = stage.server_memory()
            for name, size in with_sessions.items():
                per_session = (size - idle[name]) / workload.idle_sessions
                figures[f"session_kib.{name}"] = per_session / KIB
            idle = with_sessions
        if "catchup" in contestant.kinds:
            stage.connect_publisher()
            store(stage, workload.fill_messages)
            for name, size in stage.server_memory().items():
                figures[f"full_mib.{name}"] = size / MIB
                figures[f"kept_mib.{name}"] = (size - idle[name]) / MIB
        return Sample(figures)

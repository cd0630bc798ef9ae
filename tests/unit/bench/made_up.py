"""Results that were invented, not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.measure import Sample
from bench.results import Result, Samples

Rates = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Messages a second by workload and contestant, a figure a round; None: that round is void."""


def result(rates: Rates, *, date: str = "2026-01-02T03:04:05Z", quick: bool = False) -> Result:
    return Result(
        date=date,
        quick=quick,
        rounds=3,
        window_s=2.0,
        machine={"cpu": "Some <CPU> & Co", "cores": 2, "memory_gib": 8.0, "kernel": "Linux 6"},
        versions={"python": "3.11.7", "pubsubd": "0.1.0"},
        source={"commit": "0123456789abcdef", "changed": False},
        settings={workload: {"ring-messages": "6000000"} for workload in rates},
        samples=samples(rates),
    )


def samples(rates: Rates) -> Samples:
    return {
        workload: {
            contestant: [
                Sample(void="3 of 9 messages did not arrive")
                if rate is None
                else Sample({"messages_per_s": rate, "cpu_us.publisher": 1.25})
                for rate in rounds
            ]
            for contestant, rounds in contestants.items()
        }
        for workload, contestants in rates.items()
    }

"""Makes a failing plan small: drops steps as long as the same violation comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.plan import Plan


def shrink(plan: Plan, fails_with: Callable[[Plan], str | None]) -> Plan:
    """The plan with as few steps as possible. `fails_with` returns the violation of a run, None if it passes.

    Halves, then quarters, then single steps are left out. No step depends on the draws of another, so the other steps
    go on as before.
    """
    wrong = fails_with(plan)
    if wrong is None:
        raise ValueError("a plan that runs through can't be shrunk")
    size = max(1, len(plan.steps) // 2)
    while True:
        begin, dropped = len(plan.steps), False
        while begin > 0:
            begin = max(0, begin - size)
            steps = plan.steps[:begin] + plan.steps[begin + size :]
            smaller = replace(plan, steps=steps)
            if fails_with(smaller) == wrong:
                plan, dropped = smaller, True
        if size == 1 and not dropped:
            return plan
        size = max(1, size // 2)

"""Names of seeds: `17` is a seed of the plain plans, `recoveries:17` one of another kind, `recoveries:0..500` a
range.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.outages import outages
from tests.simulation.plan import Plan, draw, forgetful
from tests.simulation.recoveries import recoveries, unheard

KINDS: dict[str, Callable[[int], Plan]] = {
    "": draw,
    "forgetful": forgetful,
    "outages": outages,
    "recoveries": recoveries,
    "unheard": unheard,
}
"""The function that draws a seed's plan, by the kind of plans."""

_NAME = re.compile(r"(?:(\w+):)?(\d+)(?:\.\.(\d+))?")


class Seeds(NamedTuple):
    """The seeds of one kind from `first` on, without `stop`. `ranged`: named as a range, even if of one seed."""

    kind: str
    first: int
    stop: int
    ranged: bool

    @classmethod
    def named(cls, name: str) -> Seeds:
        """Raises ValueError if the name is neither a seed nor a range."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"seed {name!r} is invalid (17, 0..500, recoveries:17, recoveries:0..500)"
            )
        kind, first, stop = match[1] or "", int(match[2]), match[3]
        if kind not in KINDS:
            known = ", ".join(filter(None, KINDS))
            raise ValueError(f"seed {name!r}: unknown kind of plans {kind!r} (known: {known})")
        return cls(kind, first, int(stop) if stop else first + 1, ranged=stop is not None)

    def __str__(self) -> str:
        numbers = f"{self.first}..{self.stop}" if self.ranged else str(self.first)
        return f"{self.kind}:{numbers}" if self.kind else numbers

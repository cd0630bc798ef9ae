"""Deliberate bugs. Each is put into the real core or SDK from outside, and must be caught."""

from __future__ import annotations

from tests.simulation.mutants.attaching import ATTACHING
from tests.simulation.mutants.ends import ENDS
from tests.simulation.mutants.health import HEALTH
from tests.simulation.mutants.journal import JOURNAL
from tests.simulation.mutants.lying import LYING
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.mutants.pacing import PACING
from tests.simulation.mutants.passed import PASSED
from tests.simulation.mutants.reading import READING
from tests.simulation.mutants.recreated import RECREATED
from tests.simulation.mutants.rings import RINGS
from tests.simulation.mutants.sdk import SDK

MUTANTS: dict[str, Mutant] = {
    m.name: m
    for m in (
        *ATTACHING,
        *READING,
        *PACING,
        *RINGS,
        *JOURNAL,
        *SDK,
        *LYING,
        *HEALTH,
        *PASSED,
        *RECREATED,
        *ENDS,
    )
}

__all__ = ["MUTANTS", "Mutant"]

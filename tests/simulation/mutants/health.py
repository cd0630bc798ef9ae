"""Bugs in the health that sessions are told: which producers their broker does not hear."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant, Patch, of_kind

from pubsubd_broker.core.links.health import ProducerHealth


def _loss_not_noted() -> list[Patch]:
    def lost(self: ProducerHealth, producer: str, now_ns: int) -> None:
        pass

    return [(ProducerHealth, "lost", lost)]


def _return_not_noted() -> list[Patch]:
    def heard(self: ProducerHealth, producer: str) -> None:
        pass

    return [(ProducerHealth, "heard", heard)]


HEALTH = [
    Mutant("health: a lost producer is not noted", 10, _loss_not_noted, of_kind("outages")),
    Mutant("health: a producer that is back stays lost", 60, _return_not_noted),
]

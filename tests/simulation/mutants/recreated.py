"""Bugs in how room is made for nodes that come under ever new names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import partial

from tests.simulation.mutants.mutant import Mutant, Patch
from tests.simulation.recreated import run_recreated

from pubsubd_broker.core.links import departed
from pubsubd_broker.core.links.departed import Departed, Departures
from pubsubd_broker.core.sessions.log_place import LogPlace
from pubsubd_broker.core.sessions.session import Session
from pubsubd_broker.core.streams.registry import CursorRegistry


def _needed_goes_at_once() -> list[Patch]:
    original = departed.least_needed

    def least_needed(departed: Iterable[Departed], ttl_ns: int, now_ns: int) -> Departed | None:
        return original(departed, -1, now_ns)

    return [(departed, "least_needed", least_needed)]


def _place_goes_with_the_replica() -> list[Patch]:
    original = Session.let_go

    def let_go(self: Session, node: str) -> None:
        original(self, node)
        if node not in self.readings:
            del self._presented[node]

    return [(Session, "let_go", let_go)]


def _untold_is_done() -> list[Patch]:
    """A session is let go whose application does not know yet how far it has come."""
    original = LogPlace.is_done

    def is_done(self: LogPlace, *, connected: bool, named: bool) -> bool:
        return original(self, connected=False, named=named)

    return [(LogPlace, "is_done", is_done)]


def _met_again_and_not_moved() -> list[Patch]:
    """A session that had not read all of a replica stays with it when the producer is back with a new one."""
    return [(Session, "meet_again", lambda self, source: self.readings[source.node])]


def _no_producer_departs() -> list[Patch]:
    def away(self: Departures) -> Iterator[tuple[str, int]]:
        yield from ()

    return [(Departures, "_away", away)]


def _linked_producer_departs() -> list[Patch]:
    def away(self: Departures) -> Iterator[tuple[str, int]]:
        return ((producer, 0) for producer in self._replicas)

    return [(Departures, "_away", away)]


def _names_mean_nothing() -> list[Patch]:
    """A consumer with named sessions is given up like any other."""
    original = CursorRegistry._least

    def least(
        self: CursorRegistry, linked: Collection[str], oldest: int, ttl_ns: int, now_ns: int
    ) -> str | None:
        return original(self, linked, oldest, -1, now_ns)

    return [(CursorRegistry, "_least", least)]


_mutant = partial(Mutant, within=40, run=run_recreated)

RECREATED = (
    _mutant("needed replica goes at once", patches=_needed_goes_at_once),
    _mutant("place goes with the replica", patches=_place_goes_with_the_replica),
    _mutant("untold session is let go", patches=_untold_is_done),
    _mutant("met again and not moved", patches=_met_again_and_not_moved),
    _mutant("no producer departs", patches=_no_producer_departs),
    _mutant("linked producer departs", patches=_linked_producer_departs),
    _mutant("names mean nothing at the bound", patches=_names_mean_nothing),
)

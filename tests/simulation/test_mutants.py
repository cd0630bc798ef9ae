"""The simulator finds bugs: a few of its mutants here, all of them with `make mutants`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.recreated import run_recreated

from pubsubd_broker.core.log.log import Log

QUICK = (
    "epoch not compared",
    "resume at next",
    "lineage not read",
    "gap marker dropped",
    "ring never evicts",
    "retries renumbered",
    "moves dropped",
    "replica takes any offset",
    "peers acknowledge without a check",
    "a sequence may come again",
    "place goes with the replica",
)


_ANY = -1


def _positional(function: Callable[..., Any]) -> int:
    """The number of positional arguments; `_ANY` for a function that takes any number."""
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return _ANY
    return sum(
        each.kind is not each.KEYWORD_ONLY and each.kind is not each.VAR_KEYWORD
        for each in parameters
    )


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    caught = mutant.hunt()
    assert caught is not None, f"{name} survived {mutant.within} seeds"
    # Without the bug the same seed passes: the bug was caught, and not another one.
    mutant.run(caught[0])


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fits_its_place(name: str) -> None:
    """A mutant with other arguments than the code that it replaces would be caught by that alone."""
    patches = MUTANTS[name].patches()
    assert patches
    for owner, attribute, instead in patches:
        before = vars(owner)[attribute]
        if inspect.isfunction(before) and inspect.isfunction(instead):
            assert _positional(instead) in (_positional(before), _ANY), f"{owner} {attribute}"


def test_a_mutant_of_a_missing_attribute_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"'typing error'.*has no 'appendd'"):
        Mutant("typing error", 1, lambda: [(Log, "appendd", None)])


def test_a_mutant_leaves_nothing_behind() -> None:
    for mutant in MUTANTS.values():
        before = [vars(owner)[attribute] for owner, attribute, _ in mutant.patches()]
        with mutant.alive():
            assert [vars(owner)[attribute] for owner, attribute, _ in mutant.patches()] != before
        assert [vars(owner)[attribute] for owner, attribute, _ in mutant.patches()] == before


def test_mutants_are_many_and_each_has_a_bound() -> None:
    assert len(MUTANTS) >= 18
    assert all(mutant.within <= 2000 for mutant in MUTANTS.values())


@pytest.mark.parametrize("seed", range(8))
def test_recreated_containers_lose_nothing_in_silence(seed: int) -> None:
    run_recreated(seed)

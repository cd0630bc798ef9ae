"""The simulator finds bugs: a few of its mutants here, all of them with `make mutants`."""

from __future__ import annotations

import pytest
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.mutants.mutant import Patch
from tests.simulation.recreated import run_recreated

from pubsubd_broker.core import limits
from pubsubd_broker.core.links import peers
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.streams.publishers import Publishers

QUICK = (
    "epoch not compared",
    "resume at next",
    "lineage not read",
    "gap marker dropped",
    "ring never evicts",
    "retries renumbered",
    "replica takes any offset",
    "peers acknowledge without a check",
    "place goes with the replica",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    caught = mutant.hunt()
    assert caught is not None, f"{name} survived {mutant.within} seeds"
    # Without the bug the same seed passes: the bug was caught, and not another one.
    mutant.run(caught[0])


def test_a_mutant_of_a_missing_attribute_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"'typing error'.*has no 'appendd'"):
        Mutant("typing error", 1, lambda: [(Log, "appendd", None)])


@pytest.mark.parametrize(
    ("owner", "attribute", "stand_in"),
    [
        (Log, "append", lambda self: None),
        (Log, "append", lambda self, entry: None),
        (Log, "append", lambda self, item, more: None),
        (Log, "append", lambda self, *, item: None),
        (Log, "append", lambda *arguments: None),
        (Log, "append", None),
        (Publishers, "restore", lambda self, lasts, placed, *, partial: None),
        (peers, "conflict", lambda name: None),
    ],
)
def test_a_stand_in_with_other_parameters_is_refused(
    owner: object, attribute: str, stand_in: object
) -> None:
    with pytest.raises(TypeError, match=f"'planted': '{attribute}' of .* takes .*, its stand-in"):
        Mutant("planted", 1, lambda: [(owner, attribute, stand_in)])


def test_properties_and_constants_may_be_replaced_by_anything() -> None:
    planted: list[Patch] = [(Log, "view", 1), (peers, "Peers", None), (limits, "MS_NS", 0)]
    assert Mutant("planted", 1, lambda: planted).patches() == planted


def test_each_mutant_replaces_something() -> None:
    assert all(mutant.patches() for mutant in MUTANTS.values())


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

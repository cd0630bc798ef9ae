"""G4 and G5: the checkers refuse brokers that tell a place too late, or hold more than their bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulation.made_histories import (
    refuses,
)
from tests.simulation.samples import Held, Parted, Told, bounded, told_as_it_parts, told_in_time


def test_bounded_accepts_a_full_part_and_refuses_one_more() -> None:
    bounded([Held("a", "messages of a", 0, 10), Held("a", "messages of a", 10, 10)])
    refuses(lambda: bounded([Held("a", "messages of a", 11, 10)]), "G5", "held 11")


@pytest.mark.parametrize("held", [11, 12, 1000, 10**9])
def test_bounded_refuses_one_bad_sample_among_good_ones(held: int) -> None:
    good = Held("a", "bytes of b", 10, 10)
    refuses(lambda: bounded([good, Held("b", "bytes of a", held, 10), good]), "G5", "b: bytes of a")


def test_bounded_refuses_any_amount_above_a_bound_of_0() -> None:
    refuses(lambda: bounded([Held("a", "items", 1, 0)]), "G5")


@pytest.mark.parametrize("told", [0, 4])
def test_g4_a_resting_reader_is_told_before_the_log_moves_on(told: int) -> None:
    good = Told("a", "s", "b", 5, 5)
    told_in_time([good, replace(good, told=9)])
    refuses(lambda: told_in_time([good, replace(good, told=told)]), "G4", "holds from 5")


def test_g4_a_stopping_broker_has_told_its_last_place() -> None:
    good = Parted("a", "s", "b", 5, 5)
    told_as_it_parts([good])
    refuses(lambda: told_as_it_parts([good, replace(good, told=4)]), "G4", "it has come to 5")

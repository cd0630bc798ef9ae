"""Receipts of two lives at one offset, while the log line that tells them apart is still to come."""

from __future__ import annotations

import pytest
from tests.faults.journal_kills import Accepted
from tests.simulation.violation import Violation

from pubsubd import Receipt


def test_the_receipt_of_a_later_life_replaces_an_earlier_one() -> None:
    accepted = Accepted()
    accepted.add(Receipt("a", "e1", 0), "lost", [])
    accepted.add(Receipt("a", "e2", 0), "kept", [])
    assert (accepted.at, accepted.lost) == ({0: "kept"}, {"e1": ["lost"]})


def test_a_late_receipt_of_an_earlier_life_replaces_nothing() -> None:
    accepted = Accepted()
    accepted.add(Receipt("a", "e1", 0), "first", [])
    accepted.add(Receipt("a", "e2", 1), "kept", [])
    accepted.add(Receipt("a", "e1", 1), "late", [])
    assert (accepted.at, accepted.lost) == ({0: "first", 1: "kept"}, {"e1": ["late"]})


def test_two_receipts_of_one_life_at_one_offset_are_a_violation() -> None:
    accepted = Accepted()
    accepted.add(Receipt("a", "e1", 0), "one", [])
    with pytest.raises(Violation, match="told of two"):
        accepted.add(Receipt("a", "e1", 0), "other", [])

"""A broker with a journal keeps its word, however often it is killed, or says how much of it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.journal_kills import kill_rounds
from tests.integration.asynchronous import async_test

ROUNDS = 6
SEED = 1


@async_test
async def test_what_was_accepted_survives_every_kill_once_and_in_order(tmp_path: Path) -> None:
    assert (await kill_rounds(tmp_path, ROUNDS, SEED, command=None)).accepted > 0


@pytest.mark.parametrize("fsync", ["off", "interval"])
@async_test
async def test_readers_are_told_of_what_a_kill_took_and_of_nothing_else(
    tmp_path: Path, fsync: str
) -> None:
    played = await kill_rounds(tmp_path, ROUNDS, SEED, fsync, command=None)
    assert played.accepted > 0
    assert (played.told > 0) == (played.lost > 0)

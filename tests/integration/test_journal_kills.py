"""A broker with a journal keeps its accepted messages over many kills, or says how many of them are lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.faults.journal_kills import kill_rounds

ROUNDS = 6
SEED = 1


@async_test
async def test_accepted_messages_survive_every_kill_once_and_in_order(tmp_path: Path) -> None:
    assert (await kill_rounds(tmp_path, ROUNDS, SEED, command=None)).accepted > 0


@pytest.mark.parametrize("fsync", ["off", "interval"])
@async_test
async def test_readers_are_told_exactly_of_the_losses_of_kills(tmp_path: Path, fsync: str) -> None:
    played = await kill_rounds(tmp_path, ROUNDS, SEED, fsync, command=None)
    assert played.accepted > 0
    assert (played.told > 0) == (played.lost > 0)

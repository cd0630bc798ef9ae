"""A broker that syncs before it answers keeps its word, however often it is killed."""

from __future__ import annotations

from pathlib import Path

from tests.faults.journal_kills import kill_rounds
from tests.integration.asynchronous import async_test

ROUNDS = 6
SEED = 1


@async_test
async def test_what_was_accepted_survives_every_kill_once_and_in_order(tmp_path: Path) -> None:
    assert (await kill_rounds(tmp_path, ROUNDS, SEED)).accepted > 0

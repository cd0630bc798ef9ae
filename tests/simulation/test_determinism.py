"""A seed is one run: the same bytes, notices and deliveries, at the same times, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seeds", ["200..202", "recoveries:0..2"])
def test_a_seed_has_its_own_trace_under_any_hash_seed(seeds: str) -> None:
    first, second = (_digests(seeds, hash_seed) for hash_seed in ("1", "4711"))
    assert len(first) == 2
    assert first == second
    assert len({line.split()[1] for line in first}) == 2


def _digests(seeds: str, hash_seed: str) -> list[str]:
    """A line for each seed, from a process of its own: the seed, and the digest of its run."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.run", "--digests", seeds],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()

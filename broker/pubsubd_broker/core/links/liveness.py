"""Timings of a link, as pure formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BACKOFF_FIRST_NS: Final = 100_000_000
BACKOFF_LONGEST_NS: Final = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of a connection, in nanoseconds."""

    handshake_ns: int
    """The longest time until the other end has greeted, and said what it wants."""
    heartbeat_ns: int
    """A connection that has sent nothing for this time sends a heartbeat."""
    silence_ns: int
    """The longest silence of an other end that sends heartbeats."""


def is_silent(heard_ns: int, now_ns: int, timeout_ns: int) -> bool:
    """Whether the other end has been silent for too long. Only what was heard counts, never what was sent."""
    return now_ns - heard_ns > timeout_ns

"""Readers that a link fetches for: sessions that need what the replica at hand does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pubsubd_protocol.attach import Answer, Claim
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Position, StreamView


class LaggingReader(Protocol):
    """A reader that the producer is asked for, over the link to it."""

    @property
    def position(self) -> Position | None:
        """The next offset that it needs, if it knows that."""

    @property
    def fetched_bytes(self) -> int:
        """Bytes that were fetched for it and that it has not read."""

    def catches_up(self) -> bool:
        """Notes that it reads from the producer from now on. Whether it did not before."""

    def awaits(self, claim: Claim) -> bool:
        """Whether it still wants the answer to this very claim."""

    def fetched(
        self, claim: Claim, view: StreamView, answer: Answer, items: list[Entry | Skip]
    ) -> None:
        """Takes the producer's answer to `claim`, and the items that follow."""

    def forget_fetched(self) -> None:
        """Drops what was fetched and not read. The reader asks again when it reads on."""

    def link_lost(self) -> None:
        """The link is down: no answer comes."""


Fetch = Callable[[LaggingReader, Claim, int], bool]
"""Has the producer asked for up to so many bytes on behalf of a reader. False if the link cannot ask now."""

"""Readers that a link fetches for: sessions that need messages that the replica does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pubsubd_protocol.attach import Claim, Verdict
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Position, StreamView


class LaggingReader(Protocol):
    """A reader on whose behalf a link asks the producer."""

    @property
    def position(self) -> Position | None:
        """The next position that the reader needs; None if the reader does not know it."""

    @property
    def fetched_bytes(self) -> int:
        """Bytes that were fetched for the reader and that it has not read."""

    def catches_up(self) -> bool:
        """Notes that the reader reads from the producer from now on. Returns whether that is new."""

    def awaits(self, claim: Claim) -> bool:
        """Whether the reader still wants the answer to exactly this claim."""

    def fetched(
        self, claim: Claim, view: StreamView, answer: Verdict, items: list[Entry | Skip]
    ) -> None:
        """Takes the producer's answer to `claim`, and the items that follow."""

    def forget_fetched(self) -> None:
        """Drops fetched items that the reader has not read. The reader asks again when it reads on."""

    def link_lost(self) -> None:
        """The link is down: no answer comes."""


AskProducer = Callable[[LaggingReader, Claim, int], bool]
"""Asks the producer on behalf of a reader: reader, claim, and the most bytes to send. False if the link cannot ask now."""

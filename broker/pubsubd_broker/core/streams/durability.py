"""Durability of a node's own stream, as the stream asks for it. The journal provides it."""

from __future__ import annotations

from typing import Protocol

from pubsubd_broker.core.log.pacing import Appender
from pubsubd_protocol.entries import Entry


class Durability(Protocol):
    """Keeps accepted batches on disk. A publisher that has to wait for the disk is an `Appender`, and retries."""

    def admits(self, appender: Appender, count: int, size: int) -> bool:
        """Whether an entry of `count` messages and `size` bytes may get its place now. If not, `appender` retries later."""

    def keeps(self, entry: Entry, sequence: int) -> bool:
        """Takes an entry that has its place. Returns whether readers may see the entry before it is on disk."""

    def hold(self, appender: Appender) -> None:
        """Has `appender` retry when the disk is done with the present work."""

    def forget(self, appender: Appender) -> None:
        """Stops waiting: `appender` never retries."""

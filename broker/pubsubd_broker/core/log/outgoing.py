"""The frames that one pull writes: buffers, in order, up to a budget."""

from __future__ import annotations

from typing import Final

from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import CursorExpired, Frame

LOOKS_AT_ONCE: Final = 32_768
"""Lookups of topics that one pull may cost. The reader then goes on with its next pull, even if no message was for it."""


class Outgoing:
    """Collects the buffers of a pull. `frames`: the number of frames in them. `full`: the budget is used up.

    It begins with `buffers` that have waited for this pull, `size` bytes of them.

    `looks`: lookups that matching one topic costs this reader, 0 if it takes all topics. `settled`: the streams in which
    this pull tells the reader which offsets it has passed.
    """

    __slots__ = (
        "budget",
        "buffers",
        "entries_bytes",
        "expired",
        "frames",
        "full",
        "looked",
        "looks",
        "messages",
        "settled",
        "size",
    )

    def __init__(self, budget: int, buffers: list[bytes] | None = None, size: int = 0) -> None:
        self.budget = budget
        self.buffers: list[bytes] = [] if buffers is None else buffers
        self.frames = 0
        self.size = size
        self.full = size >= budget
        self.messages = 0
        self.entries_bytes = 0
        self.expired: list[CursorExpired] = []
        self.settled: list[str] = []
        self.looks = 0
        self.looked = 0

    def entry(self, entry: Entry) -> None:
        self.buffers.extend(entry.wire)
        self.frames += 1
        self.size += entry.size
        self.full = self.full or self.size >= self.budget
        self.messages += entry.count
        self.entries_bytes += entry.size

    def frame(self, frame: Frame) -> None:
        encoded = encode(frame)
        self.buffers.append(encoded)
        self.frames += 1
        self.size += len(encoded)
        self.full = self.full or self.size >= self.budget
        if isinstance(frame, CursorExpired):
            self.expired.append(frame)

    def extend(self, part: Outgoing) -> None:
        """Adds all that `part` has collected."""
        self.buffers.extend(part.buffers)
        self.frames += part.frames
        self.size += part.size
        self.full = self.full or self.size >= self.budget
        self.messages += part.messages
        self.entries_bytes += part.entries_bytes

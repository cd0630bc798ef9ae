"""The content of a ring by its bounds, counted apart from the ring under test."""

from __future__ import annotations

from collections import deque

ITEM_BYTES = 512
"""Bytes that every entry counts beside its frame."""


class Ring:
    """Whole entries, the newest ones that fit into both bounds together. An empty ring begins at `offset`."""

    def __init__(self, max_messages: int, max_bytes: int, offset: int = 0) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._entries: deque[tuple[int, int, int]] = deque()
        self._messages = 0
        self._bytes = 0
        self._next = offset

    @property
    def oldest(self) -> int:
        return self._entries[0][0] if self._entries else self._next

    def enter_gap(self, offset: int) -> None:
        """A gap marker at this offset takes room."""
        self.enter(offset, 0, 0)

    def enter(self, first: int, count: int, frame_bytes: int) -> None:
        """An entry comes in; the oldest ones go until all fit."""
        self._entries.append((first, count, frame_bytes + ITEM_BYTES))
        self._messages += count
        self._bytes += frame_bytes + ITEM_BYTES
        self._next = first + count
        while self._messages > self._max_messages or self._bytes > self._max_bytes:
            _, gone, size = self._entries.popleft()
            self._messages -= gone
            self._bytes -= size

"""Finds the owners of the patterns that match a topic. Many owners may have the same pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from pubsubd_protocol.topics import Shape, split_pattern

Owner = TypeVar("Owner")


class PatternIndex(Generic[Owner]):
    """Patterns and their owners, by the places of the wildcards.

    Matching a topic costs one lookup for each set of places that occurs, however many patterns have it.
    """

    __slots__ = ("_by_shape", "looks", "patterns")

    def __init__(self) -> None:
        # Ordered, so that equal histories find in an equal order.
        self._by_shape: dict[Shape | None, dict[str, dict[Owner, None]]] = {}
        self.patterns = 0
        """The number of patterns, each counted once per owner."""
        self.looks = 0
        """Lookups that finding the owners of one topic costs."""

    def add(self, owner: Owner, patterns: tuple[str, ...]) -> None:
        """Adds the patterns of an `owner` that has none yet."""
        for pattern in patterns:
            shape, key = split_pattern(pattern)
            self._by_shape.setdefault(shape, {}).setdefault(key, {})[owner] = None
        self.patterns += len(patterns)
        self.looks = len(self._by_shape)

    def remove(self, owner: Owner, patterns: tuple[str, ...]) -> None:
        """Removes the same patterns that were added."""
        for pattern in patterns:
            shape, key = split_pattern(pattern)
            owners = self._by_shape[shape]
            del owners[key][owner]
            if not owners[key]:
                del owners[key]
                if not owners:
                    del self._by_shape[shape]
        self.patterns -= len(patterns)
        self.looks = len(self._by_shape)

    def owners(self, topic: str) -> tuple[Owner, ...]:
        """The owners with at least one matching pattern, each once."""
        return tuple(dict.fromkeys(self._found(topic)))

    def _found(self, topic: str) -> Iterator[Owner]:
        segments = topic.split(".")
        for shape, owners in self._by_shape.items():
            key = topic if shape is None else shape.key_of(segments)
            if key is not None:
                yield from owners.get(key, ())

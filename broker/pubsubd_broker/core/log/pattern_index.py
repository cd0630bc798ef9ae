"""Whose patterns match a topic, for many who may have the same ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from pubsubd_protocol.topics import Shape, dress

Owner = TypeVar("Owner")


class PatternIndex(Generic[Owner]):
    """Patterns and who has them, by where their wildcards stand.

    A topic costs one look for each place of wildcards that any of the patterns has, however many have it.
    """

    __slots__ = ("_by_shape", "looks", "patterns")

    def __init__(self) -> None:
        # Ordered, so that equal histories find in an equal order.
        self._by_shape: dict[Shape | None, dict[str, dict[Owner, None]]] = {}
        self.patterns = 0
        """How many, counted for each who has them."""
        self.looks = 0
        """What finding the owners of one topic costs."""

    def add(self, owner: Owner, patterns: tuple[str, ...]) -> None:
        """`owner` has these; he had none."""
        for pattern in patterns:
            shape, worn = dress(pattern)
            self._by_shape.setdefault(shape, {}).setdefault(worn, {})[owner] = None
        self.patterns += len(patterns)
        self.looks = len(self._by_shape)

    def remove(self, owner: Owner, patterns: tuple[str, ...]) -> None:
        """The same that were added."""
        for pattern in patterns:
            shape, worn = dress(pattern)
            wearers = self._by_shape[shape]
            del wearers[worn][owner]
            if not wearers[worn]:
                del wearers[worn]
                if not wearers:
                    del self._by_shape[shape]
        self.patterns -= len(patterns)
        self.looks = len(self._by_shape)

    def owners(self, topic: str) -> tuple[Owner, ...]:
        """Everybody with a pattern that matches, once."""
        return tuple(dict.fromkeys(self._found(topic)))

    def _found(self, topic: str) -> Iterator[Owner]:
        segments = topic.split(".")
        for shape, wearers in self._by_shape.items():
            worn = topic if shape is None else shape.worn_by(segments)
            if worn is not None:
                yield from wearers.get(worn, ())

"""What really happened in every stream, as the producers' brokers know it: the checkers' oracle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One message at its place."""

    topic: str
    payload: bytes
    publisher: bytes
    to: str | None
    time_ns: int


class StreamTruth:
    """All epochs of one node's stream, and all that its ring ever held at a moment."""

    def __init__(self) -> None:
        self.epochs: list[str] = []
        self.messages: dict[str, list[Published]] = {}
        self.views: set[tuple[str, int, int]] = set()
        """`(epoch, oldest, next)` of every moment."""
        self.oldest = 0

    @property
    def epoch(self) -> str:
        return self.epochs[-1]

    @property
    def next(self) -> int:
        return len(self.messages[self.epoch])

    def begin(self, epoch: str) -> None:
        self.epochs.append(epoch)
        self.messages[epoch] = []
        self.held(0)

    def publish(self, message: Published) -> None:
        self.messages[self.epoch].append(message)

    def held(self, oldest: int) -> None:
        """The ring holds from `oldest` on now."""
        self.oldest = oldest
        self.views.add((self.epoch, oldest, self.next))


class Truth:
    """Every stream, by node."""

    def __init__(self, nodes: list[str]) -> None:
        self.streams = {node: StreamTruth() for node in nodes}

"""Health of a subscription: the nodes that it does not hear now, its own broker's included. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """State of a connection to the own broker: a client's for publishing, or a subscription's."""

    CONNECTING = "connecting"
    """Not open yet."""
    CONNECTED = "connected"
    """Open, and the broker answers."""
    LOST = "lost"
    """The connection broke; the client tries again until it is closed."""
    CLOSED = "closed"
    """Closed by the application, or ended by an error for good."""


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The producer `node` is not heard since `since` (seconds since 1970). Its messages come when it is back.

    If `node` is the own broker's, the subscription hears no node.
    """

    node: str
    since: float


@dataclass(frozen=True, slots=True)
class NodeBack:
    """The producer `node` is heard again."""

    node: str


HealthEvent = NodeLost | NodeBack


class SubscriptionHealth:
    """The nodes that are not heard, as the broker reports them, and the changes still to be told to the application."""

    __slots__ = ("_reported", "unreachable")

    def __init__(self) -> None:
        self.unreachable: dict[str, float] = {}
        """Node -> start of the silence, in seconds since 1970."""
        self._reported: set[str] = set()

    def broker_lost(self, node: str, now_s: float) -> list[HealthEvent]:
        """Note the loss of the own broker, on `node`. Other nodes keep their state until it is back."""
        return self._become({node: now_s} | self.unreachable)

    def told(self, lost: Mapping[str, int], now_s: float) -> list[HealthEvent]:
        """Note the own broker's report: it hears all producers except `lost`, each with the milliseconds since its loss."""
        return self._become(
            {node: self.unreachable.get(node, now_s - ms / 1000) for node, ms in lost.items()}
        )

    @property
    def news(self) -> bool:
        """Whether `take` would return a change."""
        return self._reported != self.unreachable.keys()

    def take(self) -> HealthEvent | None:
        """The next change for the application, or None. A loss that ended before it was told is left out."""
        for node, since in self.unreachable.items():
            if node not in self._reported:
                self._reported.add(node)
                return NodeLost(node, since)
        for node in sorted(self._reported - self.unreachable.keys()):
            self._reported.discard(node)
            return NodeBack(node)
        return None

    def _become(self, unreachable: dict[str, float]) -> list[HealthEvent]:
        before, self.unreachable = self.unreachable, unreachable
        events: list[HealthEvent] = [
            NodeLost(node, since) for node, since in unreachable.items() if node not in before
        ]
        return events + [NodeBack(node) for node in before if node not in unreachable]

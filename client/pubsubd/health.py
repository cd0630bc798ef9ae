"""Health of a subscription: which nodes it does not hear now, its own broker included. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a connection to the own broker stands: a client's for publishing, or a subscription's."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The producer `node` is not heard since `since` (seconds since 1970). What it publishes comes when it is back.

    Where `node` is the own broker's, nothing is heard of any node.
    """

    node: str
    since: float


@dataclass(frozen=True, slots=True)
class NodeBack:
    """The producer `node` is heard again."""

    node: str


HealthEvent = NodeLost | NodeBack


class Health:
    """The nodes that are not heard, as the broker tells it, and how much of that the application has been told."""

    __slots__ = ("_reported", "unreachable")

    def __init__(self) -> None:
        self.unreachable: dict[str, float] = {}
        """Node -> begin of the silence, in seconds since 1970."""
        self._reported: set[str] = set()

    def broker_lost(self, node: str, now_s: float) -> list[HealthEvent]:
        """The connection to the own broker, on `node`, is gone. Nothing is known of other nodes until it is back."""
        return self._become({node: now_s} | self.unreachable)

    def told(self, lost: Mapping[str, int], now_s: float) -> list[HealthEvent]:
        """The own broker is there and hears all producers but `lost`: milliseconds since the loss of each."""
        return self._become(
            {node: self.unreachable.get(node, now_s - ms / 1000) for node, ms in lost.items()}
        )

    @property
    def news(self) -> bool:
        """Whether `take` has something."""
        return self._reported != self.unreachable.keys()

    def take(self) -> HealthEvent | None:
        """One change that an iteration has not been told. A node that came back before it was told lost is none."""
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

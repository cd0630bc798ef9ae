"""The snapshot that a cleanly stopped broker leaves beside its socket, and readers that it does not save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.broker import Broker
from tests.integration.steps import (
    in_thread,
    next_event,
    payloads_to,
    subscribed,
    told,
)

from pubsubd import Client

LOST = ("a", "state_lost", None)


def state_of(broker: Broker, node: str = "a") -> Path:
    return Path(f"{broker.socket}.state") / node


def snapshots(broker: Broker, node: str = "a") -> list[str]:
    return sorted(each.name for each in state_of(broker, node).glob("*.journal"))


async def told_of_a_loss(broker: Broker, client: Client, lose: Callable[[], object]) -> None:
    """A reader that has everything is told that the history of `broker` ended with `lose`."""
    async with subscribed(broker) as reader:
        await client.publish("x", "before")
        assert await payloads_to(reader, "before")
        await in_thread(lose)
        assert told([await next_event(reader)]) == [LOST]

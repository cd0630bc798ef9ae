"""Applications of other users at a broker's socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from tests.integration.broker import Broker
from tests.integration.steps import StartBroker
from tests.other_users import acting_as

import pubsubd

GROUP: Final = 54_323
OTHER_GROUP: Final = 54_324


def without_a_secret(start_broker: StartBroker) -> StartBroker:
    """Starts brokers that any peer may join: their tests are about users of the socket."""

    def start(*names: str, **options: Any) -> Broker:
        return start_broker(*names, **{"insecure": True, **options})

    return start


def outcome_for(
    socket: str, uid: int, gid: int | None = None, groups: Sequence[int] = ()
) -> pubsubd.PubSubError | None:
    """The error that keeps this user's application from connecting; None if it connects."""

    async def connect() -> None:
        async with pubsubd.connect(socket) as client:
            await client.publish("t", uid)

    with acting_as(uid, gid, groups):
        try:
            asyncio.run(connect())
        except pubsubd.PubSubError as error:
            return error
    return None

"""Options of a client and of a subscription: checked once, never changed, the same in every copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from pubsubd.codecs import Codec
from pubsubd.errors import CursorExpired, InvalidArgument
from pubsubd.health import NodeBack, NodeLost
from pubsubd.identity import ID_BYTES
from pubsubd.resume import SessionState
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.positions import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The checked arguments of `connect`."""

    socket: str
    name: str | None
    codec: Codec
    publish_timeout_s: float
    connect_timeout_s: float
    close_timeout_s: float
    on_lost: Callable[[PubSubError], object] | None
    on_restored: Callable[[], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionOptions:
    """The checked arguments of `client.subscribe`. Raises `InvalidArgument` for two that exclude each other."""

    patterns: tuple[str, ...]
    name: str | None
    wait: bool
    start: str
    positions: dict[str, Position] | None
    echo: bool
    manual_ack: bool
    on_expired: Callable[[CursorExpired], object] | None
    on_lost: Callable[[NodeLost], object] | None
    on_restored: Callable[[NodeBack], object] | None
    codec: Codec

    def __post_init__(self) -> None:
        if self.name is not None:
            return
        if self.manual_ack:
            raise InvalidArgument(
                'ack="manual" needs a name=: only named subscriptions acknowledge'
            )
        if self.wait:
            raise InvalidArgument(
                "wait=True needs a name=: it waits for a name that another subscription holds"
            )

    def session(self) -> SessionState:
        """A new session that has received nothing. Raises `InvalidTopic`, `InvalidPosition`, `InvalidArgument`."""
        drawn = None if self.name is None else os.urandom(ID_BYTES)
        return SessionState(self.patterns, self.start, self.positions, self.name, self.echo, drawn)

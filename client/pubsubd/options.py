"""Options of a client and of a subscription: checked once, never changed, the same in every copy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from pubsubd import arguments
from pubsubd.codecs import Codec
from pubsubd.errors import CursorExpired, InvalidArgument
from pubsubd.health import NodeBack, NodeLost
from pubsubd.identity import ID_BYTES
from pubsubd.resume import SessionState
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.positions import Position, load_positions


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


def client_options(
    socket: str | os.PathLike[str] | None,
    *,
    name: str | None,
    codec: Codec,
    publish_timeout_s: float,
    connect_timeout_s: float,
    close_timeout_s: float,
    on_lost: Callable[[PubSubError], object] | None,
    on_restored: Callable[[], object] | None,
) -> ClientOptions:
    """The options from the arguments of `connect`. Raises `InvalidArgument`."""
    return ClientOptions(
        socket=arguments.socket_path(socket, os.environ),
        name=None if name is None else arguments.text("name", name),
        codec=arguments.codec(codec),
        publish_timeout_s=arguments.seconds("publish_timeout_s", publish_timeout_s),
        connect_timeout_s=arguments.seconds(
            "connect_timeout_s", connect_timeout_s, above_zero=True
        ),
        close_timeout_s=arguments.seconds("close_timeout_s", close_timeout_s),
        on_lost=arguments.function_or_none("on_lost", on_lost),
        on_restored=arguments.function_or_none("on_restored", on_restored),
    )


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


def subscription_options(
    patterns: tuple[str, ...],
    *,
    name: str | None,
    wait: bool,
    start: str,
    position: object,
    echo: bool,
    ack: str,
    on_expired: Callable[[CursorExpired], object] | None,
    on_lost: Callable[[NodeLost], object] | None,
    on_restored: Callable[[NodeBack], object] | None,
    codec: Codec,
) -> SubscriptionOptions:
    """The options from the arguments of `subscribe`. Raises `InvalidArgument`, `InvalidPosition`."""
    arguments.one_of("start", start, ("latest", "earliest"))
    arguments.one_of("ack", ack, ("auto", "manual"))
    return SubscriptionOptions(
        patterns=patterns,
        name=name,
        wait=arguments.flag("wait", wait),
        start=start,
        positions=None if position is None else load_positions(position),
        echo=arguments.flag("echo", echo),
        manual_ack=ack == "manual",
        on_expired=arguments.function_or_none("on_expired", on_expired),
        on_lost=arguments.function_or_none("on_lost", on_lost),
        on_restored=arguments.function_or_none("on_restored", on_restored),
        codec=codec,
    )

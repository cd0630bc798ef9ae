"""Connect: a client from arguments that are checked in the call."""

from __future__ import annotations

import os
from collections.abc import Callable

from pubsubd.client import Client
from pubsubd.codecs import MSGPACK, Codec
from pubsubd.errors import PubSubError
from pubsubd.options import client_options


def connect(
    socket: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    codec: Codec = MSGPACK,
    publish_timeout_s: float = 10.0,
    connect_timeout_s: float = 5.0,
    close_timeout_s: float = 5.0,
    on_lost: Callable[[PubSubError], object] | None = None,
    on_restored: Callable[[], object] | None = None,
) -> Client:
    """A client of the broker on this host: `async with connect() as client`, or `await connect()`.

    - `socket`: default `$PUBSUBD_SOCKET`, else `$XDG_RUNTIME_DIR/pubsubd/pubsubd.sock`, else
      `/tmp/pubsubd-<uid>/pubsubd.sock`. `connect` makes a relative path absolute.
    - `name`: shown in `repr`, for people.
    - `codec`: for all payloads of this client, where a call names no other.
    - `publish_timeout_s`: seconds for which a publish tries, also over a restart of the broker.
    - `connect_timeout_s`: seconds for one attempt to connect, above 0.
    - `close_timeout_s`: seconds for which `Client.close` waits until sent messages are accepted.
    - `on_lost(error)` and `on_restored()`: functions or coroutine functions.

    Raises `InvalidArgument`. Opening raises `BrokerUnavailable` at once if no broker answers, and `ConnectionRefused`
    if this user may not connect. After a later loss the client reconnects, and never gives up. Example:

    ```python
    async with pubsubd.connect() as client:
        receipt = await client.publish("orders.created", {"id": 1})
    ```
    """
    return Client(
        client_options(
            socket,
            name=name,
            codec=codec,
            publish_timeout_s=publish_timeout_s,
            connect_timeout_s=connect_timeout_s,
            close_timeout_s=close_timeout_s,
            on_lost=on_lost,
            on_restored=on_restored,
        )
    )

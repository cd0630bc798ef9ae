"""Dialler: opens links to peers, each dial in a task of its own."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Final, Protocol

from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.sockets.host_names import Hosts
from pubsubd_broker.sockets.link import Host, Link
from pubsubd_broker.trust.tls import Tls, explain

DIAL_TIMEOUT_S: Final = 5.0


class DialHost(Host, Protocol):
    """The broker, as a dialler needs it."""

    def dialled(self, link: Link, target: Target) -> Connection:
        """The connection to a target whose link has just opened."""

    def dial_failed(self, target: Target, reason: str) -> None:
        """Hears of a dial that has ended before its link was open."""


class Dialler:
    """Dials targets. A look-up of a host, a connect and a TLS handshake take at most `DIAL_TIMEOUT_S` together."""

    def __init__(self, broker: DialHost, tls: Tls | None, user_timeout_ms: int) -> None:
        """`user_timeout_ms`: how long the kernel keeps on trying for a peer that acknowledges nothing."""
        self.under_way: set[asyncio.Task[None]] = set()
        self._broker = broker
        self._tls = tls
        self._user_timeout_ms = user_timeout_ms
        self._hosts = Hosts()
        self._loop = asyncio.get_running_loop()

    def dial(self, target: Target) -> None:
        task = self._loop.create_task(self._dial(target))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def close(self) -> None:
        """Cancels every dial, and waits for its end: the link of one may be open already."""
        dials = list(self.under_way)
        for task in dials:
            task.cancel()
        await asyncio.gather(*dials, return_exceptions=True)

    async def _dial(self, target: Target) -> None:
        link = Link(
            self._broker, partial(self._broker.dialled, target=target), self._user_timeout_ms
        )
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                sock = await self._hosts.connect(*target.address)
                await self._open(link, target, sock)
        except Exception as error:
            # Any exception: a host's name that no look-up takes is a `UnicodeError`.
            link.abort(error)
            if not link.made:
                reason = explain(error) or f"no answer within {DIAL_TIMEOUT_S:g} s"
                self._broker.dial_failed(target, reason)
        except asyncio.CancelledError:
            link.abort()
            raise

    async def _open(self, link: Link, target: Target, sock: socket.socket) -> None:
        tls = self._tls.client if self._tls is not None else None
        name = target.address[0] if tls is not None else None
        try:
            await self._loop.create_connection(
                lambda: link, sock=sock, ssl=tls, server_hostname=name
            )
        except BaseException:
            sock.close()
            raise

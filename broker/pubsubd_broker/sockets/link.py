"""Link: one socket under one connection of the core. Bytes go in and out; the link understands none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.links.connection import Connection

HIGH_WATER_BYTES: Final = FETCH_BYTES
"""Unsent bytes in user space at which a connection is not pulled from any more."""

LINGER_S: Final = 1.0
"""Time that a connection that ends may take to send its last words."""


class Host(Protocol):
    """The owner of a link, as the link needs it."""

    def received(self, link: Link, count: int) -> None: ...
    def lost(self, link: Link) -> None: ...
    def flush_soon(self) -> None: ...


class Link(asyncio.BufferedProtocol):
    """Receives straight into the connection's buffer; writes only what was pulled.

    uvloop closes the transport under a dial or an accept that is cancelled after `connection_made`, and then neither
    calls `connection_lost` nor reports `is_closing`: every further call raises `RuntimeError`. So the link remembers
    its own end. It comes once, from the first that notices, and nothing touches the transport after it.
    """

    connection: Connection
    transport: asyncio.Transport

    def __init__(
        self,
        host: Host,
        opened: Callable[[Link], Connection],
        user_timeout_ms: int | None = None,
    ) -> None:
        """`opened`: gives the core's connection, once, when the transport has opened."""
        self._host = host
        self._opened = opened
        self._user_timeout_ms = user_timeout_ms
        self._reading = True
        self._ending = False
        self._made = False
        self._over = False
        self._lingers: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._over:
            # It was given up while it was being opened.
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._set_user_timeout()
        self.connection = self._opened(self)
        self._made = True
        if self.connection.closing:
            # It is not even to be told why: it keeps its descriptor no longer than it must.
            self.abort()
        self._host.flush_soon()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.connection.space()

    def buffer_updated(self, count: int) -> None:
        if self._over:
            return
        self._host.received(self, count)
        # Here, not once per loop turn: one turn may read many times.
        if self._reading != self.connection.wants_more:
            self.regulate()

    def eof_received(self) -> bool:
        """Returns whether the transport stays open, for what the other end is to hear yet."""
        if self._over or not self.connection.finished():
            return False
        self._linger()
        self._host.flush_soon()
        return True

    def pause_writing(self) -> None:
        self.connection.writable = False

    def resume_writing(self) -> None:
        self.connection.writable = True
        self.connection.wake()
        self._host.flush_soon()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, or is never to be. Only the first call counts."""
        if self._over:
            return
        self._over = True
        if self._lingers is not None:
            # A timer that is left would keep the connection, and all that it holds.
            self._lingers.cancel()
        if self._made:
            self._host.lost(self)

    def write(self, buffers: list[bytes]) -> None:
        """Hands over what one pull gave, and lets the connection's wishes take effect."""
        if self._over:
            return
        try:
            if buffers and not self.transport.is_closing():
                self.transport.writelines(buffers)
        except (OSError, RuntimeError) as error:
            self.abort(error)
            return
        if self.connection.closing:
            self._end()
        elif self._reading != self.connection.wants_more:
            self.regulate()

    @property
    def made(self) -> bool:
        """Whether it was ever open: then its host hears of its end."""
        return self._made

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._over else self.transport.get_write_buffer_size()

    def regulate(self) -> None:
        """Reads on, or not, as the connection wishes."""
        if self._over or self._reading == self.connection.wants_more:
            return
        try:
            if self.transport.is_closing():
                return
            self._reading = not self._reading
            if self._reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()
        except (OSError, RuntimeError) as error:
            self.abort(error)

    def close(self) -> None:
        """Ends it when what was written has left."""
        if not self._over:
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Ends it now, whether or not its transport says so."""
        if self._made:
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.abort()
        self.connection_lost(error)

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            self.close()
            self._linger()

    def _linger(self) -> None:
        # An end that reads no more would keep the socket, and its buffer, for ever.
        if self._lingers is None and not self._over:
            self._lingers = asyncio.get_running_loop().call_later(LINGER_S, self.abort)

    def _set_user_timeout(self) -> None:
        # Under the heartbeats: the kernel too gives up on bytes that are not acknowledged.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if self._user_timeout_ms is not None and option is not None:
            # One that was reset at once takes no options; `connection_lost` comes next.
            with contextlib.suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, option, self._user_timeout_ms
                )

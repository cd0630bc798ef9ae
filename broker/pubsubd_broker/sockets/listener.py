"""Takes connections off a listening socket: some at a time, and none while the system has nothing left for them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from typing import Final, Protocol

import structlog

from pubsubd_broker.core.access.quota import Claimant, Quota
from pubsubd_broker.core.access.remote import network_of
from pubsubd_broker.trust.tls import explain
from pubsubd_protocol.addresses import Address

TAKEN_AT_ONCE: Final = 64
"""Connections that one loop turn takes; the next ones wait for the next turn."""

MAX_OPENING: Final = 256
"""Connections that are being opened, as a TLS handshake takes its time; the next ones wait for one of them. An address
that has more under way than are left for others is turned away.
"""

PAUSE_S: Final = 0.05
"""Time for which nothing is taken when descriptors or memory have run out."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger("pubsubd")


class Acceptor(Protocol):
    """Gives each connection that a listener takes its protocol. Over a Unix socket the host of an address is empty."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Encryption of the next connection."""

    def welcome(self, taken: socket.socket, address: Address) -> asyncio.BaseProtocol:
        """Protocol of a new connection. It may hear of its end more than once, and without having been open."""

    def turned_away(self, address: Address, reason: str, detail: str) -> None:
        """Hears of a remote end that left before it was a connection, for `reason`, a constant word."""


class Listener:
    """`sock` is bound and listening, and belongs to it from now on."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        acceptor: Acceptor,
        pauses: Counter[str],
        handshake_s: float = 5.0,
        max_connections: int = 4096,
    ) -> None:
        """`pauses`: counts by `name` how often the system had nothing left. `handshake_s`: what TLS may take for it.

        `max_connections`: how many the acceptor lets stay.
        """
        self.name = name
        self._sock = sock
        self._sock.setblocking(False)
        self._acceptor = acceptor
        self._pauses = pauses
        self._handshake_s = handshake_s
        # A connection that is turned away keeps its descriptor while it opens and for some turns after it: where there
        # are few descriptors, few connections are under way.
        few = max(1, max_connections // 4)
        self._at_once = min(TAKEN_AT_ONCE, few)
        self._max_opening = min(MAX_OPENING, few)
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._handshakes = Quota(self._max_opening)
        self._resume: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._listening = False

    def start(self) -> None:
        self._listening = True
        self._loop.add_reader(self._sock, self._take)

    def listen_at(self, sock: socket.socket) -> None:
        """Goes on at `sock`, and ends the one before. Nothing changes if it is the same, or if this listener is closed."""
        if sock is self._sock or self._sock.fileno() < 0:
            return
        if self._listening:
            # Those who came to the old one before it was lost.
            self._take()
        listening = self._listening
        self._stop_taking()
        self._sock.close()
        self._sock = sock
        self._sock.setblocking(False)
        if listening:
            self.start()

    def close(self) -> None:
        """Takes no more; those that are open stay so."""
        if self._sock.fileno() < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._stop_taking()
        for task in self._opening:
            task.cancel()
        self._sock.close()

    def _take(self) -> None:
        for _ in range(self._at_once):
            if len(self._opening) >= self._max_opening:
                self._stop_taking()
                return
            try:
                taken, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                if self._exhausted:
                    self._exhausted = False
                    log.info("accept.resumed", listener=self.name)
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                # It was there and is gone again: that is about this one alone.
                continue
            # An IPv6 address has two more parts, which do not matter here.
            self._open(taken, (address[0], address[1]) if address else ("", 0))

    def _open(self, taken: socket.socket, address: Address) -> None:
        taken.setblocking(False)
        tls, claimant = self._acceptor.tls, Claimant(network_of(address[0]))
        if tls is not None and not self._handshakes.change(claimant, 0, 1):
            detail = f"TLS handshakes under way: {self._handshakes.taken(claimant)}"
            self._acceptor.turned_away(address, "too_many_handshakes", detail)
            taken.close()
            return
        task = self._loop.create_task(self._connect(taken, address, tls))
        self._opening.add(task)
        task.add_done_callback(self._opened)

    async def _connect(
        self, taken: socket.socket, address: Address, tls: ssl.SSLContext | None
    ) -> None:
        protocol = self._acceptor.welcome(taken, address)
        handshake_s = self._handshake_s if tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, taken, ssl=tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as error:
            if tls is not None:
                self._acceptor.turned_away(address, "tls", explain(error))
            protocol.connection_lost(error)
            taken.close()
        except BaseException:
            # It may have been open already: uvloop does not say so to a protocol whose opening is cancelled.
            protocol.connection_lost(None)
            taken.close()
            raise
        finally:
            if tls is not None:
                self._handshakes.change(Claimant(network_of(address[0])), 1, 0)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.remove(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("accept.failed", listener=self.name, error=repr(error))
        if self._resume is None:
            self._go_on()

    def _pause(self, error: OSError) -> None:
        self._pauses[self.name] += 1
        if not self._exhausted:
            self._exhausted = True
            log.warning("accept.paused", listener=self.name, error=error.strerror)
        self._stop_taking()
        self._resume = self._loop.call_later(PAUSE_S, self._resumed)

    def _resumed(self) -> None:
        self._resume = None
        self._go_on()
        if self._listening:
            # At once: those who waited may all have left, and `accept.resumed` would never be logged.
            self._take()

    def _stop_taking(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._sock)

    def _go_on(self) -> None:
        if not self._listening and self._sock.fileno() >= 0:
            self.start()

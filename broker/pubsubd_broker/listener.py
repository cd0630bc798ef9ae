"""Takes connections off a listening socket: some at a time, and none while the system has nothing left for them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

import structlog

TAKEN_AT_ONCE: Final = 64
"""Connections that one loop turn takes; the next ones wait for the next turn."""

PAUSE_S: Final = 0.25
"""How long nothing is taken when descriptors or memory have run out."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Context = Callable[[], ssl.SSLContext | None]
"""What a connection that comes now is encrypted with."""

Welcome = Callable[[socket.socket], asyncio.BaseProtocol | None]
"""The protocol for a connection that has come, or None: it is closed without a word."""

log = structlog.get_logger("pubsubd")


class Listener:
    """`sock` is bound and listening, and belongs to it from now on."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        welcome: Welcome,
        *,
        context: Context | None = None,
        handshake_s: float = 5.0,
        max_handshakes: int = 256,
    ) -> None:
        """`handshake_s`, `max_handshakes`: of the TLS handshakes, how long one may take, and how many go on at once."""
        self.name = name
        self.pauses = 0
        """How often it has had to wait for the system."""
        self.broken_handshakes = 0
        self._sock = sock
        self._sock.setblocking(False)
        self._welcome = welcome
        self._context = context
        self._handshake_s = handshake_s
        self._max_handshakes = max_handshakes
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._exhausted = False
        self._listening = False

    def start(self) -> None:
        self._listening = True
        self._loop.add_reader(self._sock, self._take)

    def close(self) -> None:
        """Takes no more; those that are open stay so."""
        if self._sock.fileno() < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        if self._listening:
            self._loop.remove_reader(self._sock)
        for task in self._opening:
            task.cancel()
        self._sock.close()

    def _take(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            if len(self._opening) >= self._max_handshakes:
                # Each that ends lets one more in.
                self._stop_taking()
                return
            try:
                taken, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                # It was there, and is gone again: ECONNABORTED and its like are about that one alone.
                continue
            if self._exhausted:
                self._exhausted = False
                log.info("accept.resumed", listener=self.name)
            self._open(taken)

    def _open(self, taken: socket.socket) -> None:
        protocol = self._welcome(taken)
        if protocol is None:
            taken.close()
            return
        taken.setblocking(False)
        task = self._loop.create_task(self._connect(protocol, taken))
        self._opening.add(task)
        task.add_done_callback(self._opened)

    async def _connect(self, protocol: asyncio.BaseProtocol, taken: socket.socket) -> None:
        context = self._context() if self._context is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                taken,
                ssl=context,
                ssl_handshake_timeout=self._handshake_s if context is not None else None,
            )
        except (OSError, asyncio.CancelledError) as error:
            taken.close()
            if context is not None and isinstance(error, OSError):
                self.broken_handshakes += 1
                self.on_broken_handshake(error)

    def on_broken_handshake(self, error: OSError) -> None:
        """Somebody came who does not speak TLS, or has no certificate that counts here."""

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("accept.failed", listener=self.name, error=repr(task.exception()))
        if self._resume is None:
            self._go_on()

    def _pause(self, error: OSError) -> None:
        self.pauses += 1
        if not self._exhausted:
            self._exhausted = True
            log.warning("accept.paused", listener=self.name, error=error.strerror)
        self._stop_taking()
        self._resume = self._loop.call_later(PAUSE_S, self._resumed)

    def _resumed(self) -> None:
        self._resume = None
        self._go_on()

    def _stop_taking(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._sock)

    def _go_on(self) -> None:
        if not self._listening and self._sock.fileno() >= 0:
            self.start()

"""A bell that wakes a thread which waits for a socket."""

from __future__ import annotations

import contextlib
import math
import select
import socket

from pubsubd.forks import belongs_here


class Bell:
    """`ring` in one thread ends the wait of another: `fileno` becomes readable until `silence`."""

    __slots__ = ("_rings", "_rung")

    def __init__(self) -> None:
        self._rung, self._rings = socket.socketpair()
        for sock in (self._rung, self._rings):
            sock.setblocking(False)
            belongs_here(sock)

    def fileno(self) -> int:
        return self._rung.fileno()

    def ring(self) -> None:
        # A full buffer is a bell that rings already; a closed one has no thread to wake.
        with contextlib.suppress(OSError):
            self._rings.send(b"\0")

    def silence(self) -> None:
        with contextlib.suppress(OSError):
            self._rung.recv(4096)

    def wait(self, timeout_s: float) -> None:
        """Sleep for this time at most, or until the bell rings."""
        poll = select.poll()
        poll.register(self._rung, select.POLLIN)
        if poll.poll(None if timeout_s == math.inf else max(0.0, timeout_s) * 1000):
            self.silence()

    def close(self) -> None:
        self._rung.close()
        self._rings.close()

"""Callers that come some of the way and vanish, and callers that stay slow.

    python -m tests.integration.strangers STAGE COUNT ADDRESS…

Opens COUNT connections at each address up to that stage, prints "here", and waits to be killed.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Final

from tests.integration.hostile import RawConnection, hello, publish, subscribe
from tests.integration.relay import Address

from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Attach

STAGES: Final = ("before the greeting", "after the greeting", "with a request", "in mid-frame")
"""The stages of a caller: as a session, or as a peer at the door for peers."""

PEER: Final = "stranger"
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def come(address: Address, stage: str, role: str | None = None) -> RawConnection:
    """A connection that has come to `stage`, with the broker's answers of that stage."""
    role = role or ("session" if isinstance(address, str) else "peer")
    raw = RawConnection(address)
    try:
        if stage != "before the greeting":
            raw.greet(role, name=PEER if role == "peer" else "")
        if stage == "with a request":
            raw.send(_request(role))
            raw.frame()
        elif stage == "in mid-frame":
            raw.send(_request(role)[:-1])
    except BaseException:
        raw.close()
        raise
    return raw


def vanish(raw: RawConnection, *, reset: bool = False) -> None:
    """Close the connection in good order, or by a reset. A Unix socket resets when unread bytes are thrown away."""
    if reset and raw.socket.family == socket.AF_INET:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    elif not reset:
        raw.socket.setblocking(False)
        with suppress(OSError):
            while raw.socket.recv(64 * 1024):
                pass
    raw.close()


class SlowLoris:
    """Sends a byte of an honest greeting, or request, at each call, and never the last one."""

    def __init__(self, address: Address, text: bytes | None = None) -> None:
        self.raw = RawConnection(address)
        self.raw.socket.setblocking(False)
        self._rest = iter(hello() if text is None else text)

    def drip(self) -> bool:
        """Send one byte more, but for the last one. Returns whether the other end still listens."""
        try:
            if not self.raw.socket.recv(64 * 1024):
                return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        with suppress(StopIteration):
            byte = next(self._rest)
            try:
                self.raw.socket.send(bytes([byte]))
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True

    def close(self) -> None:
        self.raw.close()


ENDLESS_REQUEST: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000
ENDLESS_GREETING: Final = hello()[:-1]


def _request(role: str) -> bytes:
    match role:
        case "peer":
            return encode(Attach(Remembered(waiting=False)))
        case "publisher":
            return publish()
        case _:
            return subscribe()


def _wait_to_be_killed(stage: str, count: int, addresses: Iterable[Address]) -> None:
    with ExitStack() as stack:
        for address in addresses:
            for _ in range(count):
                stack.enter_context(come(address, stage))
        sys.stdout.write("here\n")
        sys.stdout.flush()
        sys.stdin.read()


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon else text


if __name__ == "__main__":
    _wait_to_be_killed(sys.argv[1], int(sys.argv[2]), map(_address, sys.argv[3:]))

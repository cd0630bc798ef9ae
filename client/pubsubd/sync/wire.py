"""A connection to the broker without an event loop: its socket never blocks, and `wait` polls it."""

from __future__ import annotations

import math
import select
import socket as sockets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pubsubd.connection import GREETING_BYTES, QUEUE_RETRY_S, unexpected, wrong_version
from pubsubd.forks import belongs_here, check_process
from pubsubd.identity import Identity
from pubsubd.pulse import Pulse
from pubsubd.sync.bell import Bell
from pubsubd.unavailable import check_folder_below_tmp, connection_lost, not_reached, silent
from pubsubd.unix_address import within_limit
from pubsubd_protocol import codec
from pubsubd_protocol.errors import ConnectionRefused, PubSubError
from pubsubd_protocol.frames import Frame, Heartbeat, Refused, Welcome
from pubsubd_protocol.framing import MAX_FRAME_BYTES, FrameReader

RECONNECT_S: Final = 0.1
"""Seconds for which a call may wait for a new connection beyond its time, when the old one is lost."""

_SENT_TOGETHER: Final = 256
"""Buffers of one system call, below the limit of every system."""


class Wire:
    """Made by `WireDialler.dial`. It sends no heartbeats: while the application makes no call, none could be sent."""

    __slots__ = (
        "_beat_s",
        "_bell",
        "_heard",
        "_path",
        "_poll",
        "_pulse",
        "_reader",
        "_sock",
        "_unsent",
        "broken",
        "why",
    )

    def __init__(self, sock: sockets.socket, path: str, bell: Bell) -> None:
        """`bell`: ends a `wait`."""
        self.why: PubSubError | None = None
        """The reason for the end, once the connection has ended."""
        self.broken = False
        """Whether the socket refused bytes: `receive` says why."""
        self._sock = sock
        self._path = path
        self._bell = bell
        self._reader = FrameReader(GREETING_BYTES)
        self._unsent: list[bytes | memoryview] = []
        self._poll: select.poll | None = None
        """The poll object of `wait`. None while a thread is in it: a signal's handler then polls with another one."""
        self._pulse: Pulse | None = None
        self._beat_s = math.inf
        self._heard = False

    @property
    def choked(self) -> bool:
        """Whether the socket takes no more bytes now."""
        return bool(self._unsent)

    def welcomed(self, welcome: Welcome) -> None:
        """Take the terms of the broker's welcome: frames of any length, and its heartbeats."""
        self._reader.limit = MAX_FRAME_BYTES
        if welcome.heartbeat_ms and welcome.silent_ms:
            now_s = time.monotonic()
            self._pulse = Pulse(welcome.heartbeat_ms / 1000, welcome.silent_ms / 1000, now_s)
            self._beat_s = now_s + self._pulse.interval_s

    def write(self, buffers: Sequence[bytes]) -> None:
        """Send, or keep what the socket does not take: `wait` returns when it takes more. Never raises."""
        self._unsent.extend(buffers)
        self.flush()

    def flush(self) -> None:
        """Send kept bytes, as far as the socket takes them."""
        unsent = self._unsent
        while unsent:
            try:
                sent = self._sock.sendmsg(unsent[:_SENT_TOGETHER])
            except BlockingIOError:
                return
            except OSError:
                # The reason may be among the bytes that can still be received.
                self.broken = True
                unsent.clear()
                return
            done = 0
            while done < len(unsent) and sent >= len(unsent[done]):
                sent -= len(unsent[done])
                done += 1
            del unsent[:done]
            if sent:
                unsent[0] = memoryview(unsent[0])[sent:]

    def wait(self, timeout_s: float) -> None:
        """Block until bytes come, the socket takes kept ones, the bell rings, or the time is over.

        The handler of a signal runs at once. Judges the broker's silence: `why` is set if it lasted too long.
        """
        if self.why is not None:
            return
        until_beat_s = self._beat_s - time.monotonic() if self._pulse is not None else math.inf
        within_s = max(0.0, min(timeout_s, until_beat_s))
        ready = self._polled(None if within_s == math.inf else within_s * 1000)
        if ready:
            for number, _ in ready:
                if number == self._bell.fileno():
                    self._bell.silence()
                else:
                    self._heard = True
        elif self._pulse is not None:
            self._judge(self._pulse)

    def _polled(self, within_ms: float | None) -> list[tuple[int, int]]:
        poll, self._poll = self._poll, None
        if poll is None:
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
        room = select.POLLOUT if self._unsent else 0
        poll.register(self._sock, select.POLLIN | room)
        try:
            return poll.poll(within_ms)
        finally:
            self._poll = poll

    def receive(self) -> list[Frame]:
        """The frames that have come, at most those of one read. Raises the reason once the connection has ended."""
        frames: list[Frame] = []
        if self.why is None:
            self.flush()
            try:
                count = self._sock.recv_into(self._reader.space())
                if count:
                    self._cut(count, frames)
                else:
                    self.why = connection_lost(self._path, None)
            except BlockingIOError:
                pass
            except OSError as error:
                self.why = connection_lost(self._path, error)
            except PubSubError as error:
                self.why = error
        if self.why is not None and not frames:
            raise self.why
        return frames

    def say_goodbye(self) -> None:
        """Write no more. The broker says its last, then closes its end."""
        with suppress(OSError):
            self._sock.shutdown(sockets.SHUT_WR)

    def close(self) -> None:
        """Close the socket. No thread may be in `wait`."""
        self._sock.close()

    def _cut(self, count: int, frames: list[Frame]) -> None:
        self._reader.received(count)
        for frame in self._reader.frames():
            decoded = codec.decode(frame)
            if isinstance(decoded, Refused):
                raise ConnectionRefused(decoded.code, decoded.detail)
            if not isinstance(decoded, Heartbeat):
                frames.append(decoded)

    def _judge(self, pulse: Pulse) -> None:
        now_s = time.monotonic()
        if now_s < self._beat_s:
            return
        self._beat_s = now_s + pulse.interval_s
        heard, self._heard = self._heard, False
        if pulse.beat(now_s, heard=heard, reads=True):
            self.why = silent(self._path, pulse.silent_s)


class WireDialler:
    """Opens this client's connections, all under one identity."""

    def __init__(self, socket: str, timeout_s: float) -> None:
        self.socket = socket
        self.timeout_s = timeout_s
        self.identity = Identity()

    def dial(self, role: str, bell: Bell, timeout_s: float) -> tuple[Wire, Welcome]:
        """Connect, greet, and wait for the welcome, for `timeout_s` at most.

        Raises `BrokerUnavailable`, `ConnectionRefused`, or `ProtocolError` if the other end is not a broker.
        """
        check_process()
        deadline_s = time.monotonic() + timeout_s
        sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            belongs_here(sock)
            sock.setblocking(False)
            # Check each time: another user may have created the folder meanwhile, after /tmp was emptied.
            check_folder_below_tmp(self.socket)
            self._connect(sock, deadline_s, timeout_s)
            wire = Wire(sock, self.socket, bell)
            wire.write([codec.encode(self.identity.hello(role))])
            welcome = self._welcome(wire, deadline_s, timeout_s)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise not_reached(self.socket, error) from error
            raise
        wrong = wrong_version(welcome)
        if wrong is not None:
            wire.close()
            raise wrong
        wire.welcomed(welcome)
        return wire, welcome

    def _connect(self, sock: sockets.socket, deadline_s: float, timeout_s: float) -> None:
        with within_limit(self.socket) as short:
            while True:
                try:
                    sock.connect(short)
                    return
                except BlockingIOError:
                    # The queue of the system is full.
                    if time.monotonic() >= deadline_s:
                        raise silent(self.socket, timeout_s) from None
                    time.sleep(QUEUE_RETRY_S)

    def _welcome(self, wire: Wire, deadline_s: float, timeout_s: float) -> Welcome:
        while True:
            frames = wire.receive()
            if frames:
                first = frames[0]
                if not isinstance(first, Welcome):
                    raise unexpected(first)
                if len(frames) > 1:
                    raise unexpected(frames[1])
                return first
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise silent(self.socket, timeout_s)
            wire.wait(left_s)

"""A connection to the broker: frames in, buffers out, and the greeting that opens it."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import Iterable
from typing import Final, Protocol, cast

from pubsubd.errors import BrokerUnavailable
from pubsubd.forks import begins_anew, belongs_here, check_process, keep
from pubsubd.identity import Identity
from pubsubd.pulse import Pulse
from pubsubd.unavailable import check_folder_below_tmp, connection_lost, not_reached, silent
from pubsubd.unix_address import within_limit
from pubsubd_protocol import codec
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError, PubSubError
from pubsubd_protocol.frames import VERSION, Frame, Heartbeat, Refused, Welcome
from pubsubd_protocol.framing import MAX_FRAME_BYTES, FrameReader

GREETING_BYTES = codec.MAX_CONTROL_BYTES
"""The longest frame up to and including the welcome, which lists the topics on which the client may publish."""

QUEUE_RETRY_S = 0.02
"""Seconds until the next attempt to connect while the socket's queue of the system is full."""

GOODBYE_S = 1.0
"""Seconds for which `close` waits for the broker to close its end."""


_ALIVE = codec.encode(Heartbeat())


class Receiver(Protocol):
    """The part of the client that a connection serves."""

    def received(self, connection: BrokerConnection, frame: Frame) -> None:
        """Take a frame that follows the welcome. Raising a `PubSubError` ends the connection."""

    def lost(self, connection: BrokerConnection, why: PubSubError) -> None:
        """Called once when the connection is gone, if the welcome had come."""

    def writable(self, connection: BrokerConnection) -> None:
        """Called when the socket takes bytes again."""


class _Nobody:
    """Receiver, in a forked child, of an inherited connection. It does nothing."""

    def received(self, connection: BrokerConnection, frame: Frame) -> None: ...

    def lost(self, connection: BrokerConnection, why: PubSubError) -> None: ...

    def writable(self, connection: BrokerConnection) -> None: ...


_NOBODY: Final = _Nobody()


class BrokerConnection(asyncio.BufferedProtocol):
    """Made by `BrokerDialler.dial`. `write` never blocks: check `choked` before writing much."""

    def __init__(self, socket: str, receiver: Receiver) -> None:
        loop = asyncio.get_running_loop()
        self.choked = False
        self.closed = loop.create_future()
        """Done when the connection is gone."""
        self.welcome: asyncio.Future[Welcome] = loop.create_future()
        self._socket = socket
        self._receiver = receiver
        self._reader = FrameReader(GREETING_BYTES)
        self._transport: asyncio.Transport | None = None
        self.why: PubSubError | None = None
        """The reason for the end, once the connection ends."""
        self._closing = False
        self._listening = True
        """Whether the receiver gets the frames that come."""
        self._paused = False
        self._pulse: Pulse | None = None
        self._beats: asyncio.TimerHandle | None = None
        self._heard = False
        """Whether bytes came since the last beat."""
        begins_anew(self)

    def forked(self) -> None:
        """In a forked child: leave the connection to the parent. It sends nothing here, and never touches its transport."""
        keep(self._transport, self._receiver, self._beats, self.welcome, self.closed)
        self._closing = True
        self._transport = None
        self._beats = None
        self._receiver = _NOBODY

    def write(self, buffers: Iterable[bytes]) -> None:
        transport = self._transport
        # A transport that the other end closed still reports that it is writable, and fails if it gets bytes.
        if transport is not None and not self._closing and not transport.is_closing():
            transport.writelines(buffers)

    def pause(self) -> None:
        """Stop reading. Frames that are in the buffer already still come."""
        if self._transport is not None and not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    def fail(self, why: PubSubError) -> None:
        """Cut the connection. The receiver gets `why`."""
        if self.why is None:
            self.why = why
        self._closing = True
        self._listening = False
        if self._transport is not None:
            self._transport.abort()

    async def close(self, *, listening: bool = False) -> None:
        """Close the connection: wait until the broker has closed its end, or for `GOODBYE_S`.

        `listening`: the receiver still gets the frames that come until then.
        """
        self._closing = True
        self._listening = listening
        transport = self._transport
        if transport is None:
            return
        try:
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()
                self.resume()
                await asyncio.wait([self.closed], timeout=GOODBYE_S)
        finally:
            # Leave no socket behind, even if the wait is cancelled.
            transport.abort()
        await asyncio.wait([self.closed])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.space()

    def buffer_updated(self, count: int) -> None:
        self._heard = True
        self._reader.received(count)
        try:
            for frame in self._reader.frames():
                # Take frames out even if they are dropped: they must not pile up in the buffer until the end.
                if self._listening:
                    self._take(codec.decode(frame))
        except PubSubError as error:
            self.fail(error)

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False
        # Not at once: the transport is in the middle of writing. If its socket broke during a write from here, it would
        # report the loss twice.
        asyncio.get_running_loop().call_soon(self._receiver.writable, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._beats is not None:
            self._beats.cancel()
        why = self.why = self.why or connection_lost(self._socket, exc)
        self._closing = True
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.welcome.done():
            self.welcome.set_exception(why)
            # Retrieve the exception: asyncio complains if the waiting task has given up and never does.
            self.welcome.exception()
        elif not self.welcome.cancelled() and self.welcome.exception() is None:
            self._receiver.lost(self, why)

    def _begin_beats(self, interval_s: float, silent_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._pulse = Pulse(interval_s, silent_s, loop.time())
        self._beats = loop.call_later(interval_s, self._beat)

    def _beat(self) -> None:
        """Send a heartbeat, and check the broker's."""
        assert self._pulse is not None
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        heard, self._heard = self._heard, False
        if self._pulse.beat(loop.time(), heard=heard, reads=not self._paused):
            self.fail(silent(self._socket, self._pulse.silent_s))
            return
        if not self.choked:
            self.write([_ALIVE])
        self._beats = loop.call_later(self._pulse.interval_s, self._beat)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Refused):
            raise ConnectionRefused(frame.code, frame.detail)
        if isinstance(frame, Heartbeat):
            return
        if self.welcome.done():
            self._receiver.received(self, frame)
        elif isinstance(frame, Welcome):
            # Entries of peers may be longer than the broker's own `Welcome.max_frame`. Memory grows only with bytes that come.
            self._reader.limit = MAX_FRAME_BYTES
            self.welcome.set_result(frame)
            if frame.heartbeat_ms and frame.silent_ms:
                self._begin_beats(frame.heartbeat_ms / 1000, frame.silent_ms / 1000)
        else:
            raise unexpected(frame)


def unexpected(frame: Frame) -> ProtocolError:
    return ProtocolError(
        "unexpected_frame", f"the broker sent {type(frame).__name__}, which is not allowed here"
    )


def wrong_version(welcome: Welcome) -> ProtocolError | None:
    """The error for a broker that speaks another version than this client."""
    if welcome.version == VERSION:
        return None
    return ProtocolError(
        "version", f"the broker answers in version {welcome.version}, this client speaks {VERSION}"
    )


class BrokerDialler:
    """Opens this client's connections, all under one identity."""

    def __init__(self, socket: str, timeout_s: float) -> None:
        self.socket = socket
        self.timeout_s = timeout_s
        self.identity = Identity()

    async def dial(self, role: str, receiver: Receiver) -> tuple[BrokerConnection, Welcome]:
        """Connect, greet, and wait for the welcome.

        Raises `BrokerUnavailable`, `ConnectionRefused`, or `ProtocolError` if the other end is not a broker.
        """
        check_process()
        connection = BrokerConnection(self.socket, receiver)
        said = codec.encode(self.identity.hello(role))
        if role != "control":
            # The first heartbeat goes with the greeting, so the broker also notices a process that hangs right then.
            said += _ALIVE
        loop = asyncio.get_running_loop()
        try:
            # Check each time: another user may have created the folder meanwhile, after /tmp was emptied.
            check_folder_below_tmp(self.socket)
            async with asyncio.timeout(self.timeout_s):
                greeted = await _greeted(self.socket, said)
                await loop.create_unix_connection(lambda: connection, sock=greeted)
                welcome = await connection.welcome
        except TimeoutError:
            why = silent(self.socket, self.timeout_s)
            connection.fail(why)
            raise why from None
        except OSError as error:
            raise not_reached(self.socket, error) from error
        except BaseException as error:
            connection.fail(BrokerUnavailable(self.socket, "given up while connecting"))
            if isinstance(error, PubSubError) or not isinstance(error, Exception):
                raise
            # Turn any error into this one: the task that redials must not end by it unnoticed.
            raise BrokerUnavailable(self.socket, f"{type(error).__name__}: {error}") from error
        wrong = wrong_version(welcome)
        if wrong is not None:
            connection.fail(wrong)
        if connection.why is not None:
            raise connection.why
        return connection, welcome


async def _greeted(path: str, said: bytes) -> sockets.socket:
    """A connected socket on which `said` has been sent. Raises `OSError`."""
    sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    belongs_here(sock)
    try:
        sock.setblocking(False)
        with within_limit(path) as short:
            while True:
                try:
                    sock.connect(short)
                    break
                except BlockingIOError:
                    await asyncio.sleep(QUEUE_RETRY_S)
        # Sent without a transport, because a transport that fails to write drops the received bytes. A broker that
        # refuses may have hung up already, and its refusal must still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.get_running_loop().sock_sendall(sock, said)
    except BaseException:
        sock.close()
        raise
    return sock

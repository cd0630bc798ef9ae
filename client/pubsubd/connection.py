"""One connection to the broker: frames in, buffers out, and the greeting that opens it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as sockets
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, cast

from pubsubd.errors import BrokerUnavailable
from pubsubd.forks import begins_anew, belongs_here, check_process, keep
from pubsubd.identity import Identity
from pubsubd.pulse import Pulse
from pubsubd.unavailable import check_folder_below_tmp, lost, not_reached, silent
from pubsubd_protocol import codec
from pubsubd_protocol.errors import ConnectionRefused, ProtocolError, PubSubError
from pubsubd_protocol.frames import VERSION, Frame, Heartbeat, Refused, Welcome
from pubsubd_protocol.framing import FrameReader

GREETING_BYTES = codec.MAX_CONTROL_BYTES
"""The longest frame before the welcome, which lists what its reader may publish."""

MAX_FRAME_BYTES = 2**32 - 1
"""The longest frame from there on. The broker hands on what its peers publish, which may be longer than what
it takes itself (`Welcome.max_frame`); memory is taken only as a frame's bytes arrive.
"""

QUEUE_RETRY_S = 0.02
"""Seconds until another attempt when more connections wait for the broker than its system lets wait."""

ADDRESS_BYTES = 107
"""The longest path that the address of a Unix socket holds."""

GOODBYE_S = 1.0
"""Seconds that the broker may take to close its end before ours is cut."""


_ALIVE = codec.encode(Heartbeat())


class Receiver(Protocol):
    """The part of the client that a connection serves."""

    def received(self, connection: Connection, frame: Frame) -> None:
        """A frame after the welcome. A `PubSubError` that it raises ends the connection."""

    def lost(self, connection: Connection, why: PubSubError) -> None:
        """The connection is gone; called once, never before the welcome."""

    def writable(self, connection: Connection) -> None:
        """The socket takes bytes again."""


class _Nobody:
    """Receiver of a connection that a forked child has inherited. It does nothing."""

    def received(self, connection: Connection, frame: Frame) -> None: ...

    def lost(self, connection: Connection, why: PubSubError) -> None: ...

    def writable(self, connection: Connection) -> None: ...


_NOBODY: Final = _Nobody()


class Connection(asyncio.BufferedProtocol):
    """Made by `Dialler.dial`. `write` never blocks; look at `choked` before writing much."""

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
        """The reason why it is gone, or about to be."""
        self._closing = False
        self._listening = True
        """Whether frames that come are for the receiver."""
        self._paused = False
        self._pulse: Pulse | None = None
        self._beats: asyncio.TimerHandle | None = None
        self._heard = False
        """Whether something came since the last beat."""
        begins_anew(self)

    def forked(self) -> None:
        """It is the parent's: in the child it says nothing, beats no more, and its transport is never touched."""
        keep(self._transport, self._receiver, self._beats, self.welcome, self.closed)
        self._closing = True
        self._transport = None
        self._beats = None
        self._receiver = _NOBODY

    def write(self, buffers: Iterable[bytes]) -> None:
        transport = self._transport
        # One that the other end has closed still asks for more when its last bytes are out, and ends badly if it gets some.
        if transport is not None and not self._closing and not transport.is_closing():
            transport.writelines(buffers)

    def pause(self) -> None:
        """Stops reading; what is in the buffer already still comes."""
        if self._transport is not None and not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    def fail(self, why: PubSubError) -> None:
        """Cuts the connection; `why` is what its receiver is told."""
        if self.why is None:
            self.why = why
        self._closing = True
        self._listening = False
        if self._transport is not None:
            self._transport.abort()

    async def close(self, *, listening: bool = False) -> None:
        """Says goodbye: returns when the broker has seen the end, or after `GOODBYE_S`.

        `listening`: the receiver is still given what the broker says until then.
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
            # Also when the wait is cancelled: no socket stays.
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
                # Taken out in any case: the rest must not pile up in the buffer until the end comes.
                if self._listening:
                    self._take(codec.decode(frame))
        except PubSubError as error:
            self.fail(error)

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False
        # Not here: the transport is in the middle of writing, and one whose socket breaks in a write that is made from
        # here loses its connection twice.
        asyncio.get_running_loop().call_soon(self._receiver.writable, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._beats is not None:
            self._beats.cancel()
        why = self.why = self.why or lost(self._socket, exc)
        self._closing = True
        if not self.closed.done():
            self.closed.set_result(None)
        if not self.welcome.done():
            self.welcome.set_exception(why)
            # A task that has given up meanwhile does not look at it, and asyncio would complain of that.
            self.welcome.exception()
        elif not self.welcome.cancelled() and self.welcome.exception() is None:
            self._receiver.lost(self, why)

    def _begin_beats(self, interval_s: float, silent_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._pulse = Pulse(interval_s, silent_s, loop.time())
        self._beats = loop.call_later(interval_s, self._beat)

    def _beat(self) -> None:
        """Shows the broker that this process lives, and checks whether the broker does."""
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
            self._reader.limit = MAX_FRAME_BYTES
            self.welcome.set_result(frame)
            if frame.heartbeat_ms and frame.silent_ms:
                self._begin_beats(frame.heartbeat_ms / 1000, frame.silent_ms / 1000)
        else:
            raise unexpected(frame)


def unexpected(frame: Frame) -> ProtocolError:
    return ProtocolError("unexpected_frame", f"{type(frame).__name__} has no place here")


class Dialler:
    """Opens this client's connections, one identity for all of them."""

    def __init__(self, socket: str, timeout_s: float) -> None:
        self.socket = socket
        self.timeout_s = timeout_s
        self.identity = Identity()

    async def dial(self, role: str, receiver: Receiver) -> tuple[Connection, Welcome]:
        """Connects and greets. The connection stands when this returns.

        Raises `BrokerUnavailable`, `ConnectionRefused`, or `ProtocolError` if something else answers.
        """
        check_process()
        connection = Connection(self.socket, receiver)
        said = codec.encode(self.identity.hello(role))
        if role != "control":
            # With the greeting: a process that hangs before its first beat is due is noticed like any other.
            said += _ALIVE
        loop = asyncio.get_running_loop()
        try:
            # Each time: a stranger may have made it since the last one, after /tmp was emptied.
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
            # Any error: the task that dials again and again must not end by it, unheard.
            raise BrokerUnavailable(self.socket, f"{type(error).__name__}: {error}") from error
        if welcome.version != VERSION:
            connection.fail(
                ProtocolError("version", f"the broker answers in version {welcome.version}")
            )
        if connection.why is not None:
            raise connection.why
        return connection, welcome


async def _greeted(path: str, said: bytes) -> sockets.socket:
    """A connected socket on which `said` has been said. Raises `OSError`."""
    sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    belongs_here(sock)
    try:
        sock.setblocking(False)
        with _within_limit(path) as short:
            while True:
                try:
                    sock.connect(short)
                    break
                except BlockingIOError:
                    await asyncio.sleep(QUEUE_RETRY_S)
        # By hand, because a transport drops what came in when it fails to write: a broker that refuses may have
        # hung up already, and its word can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await asyncio.get_running_loop().sock_sendall(sock, said)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _within_limit(path: str) -> Iterator[str]:
    """A path to the same socket that the system takes: an absolute one may be longer than an address holds."""
    folder, name = os.path.split(path)
    if len(os.fsencode(path)) <= ADDRESS_BYTES or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{name}"
    finally:
        os.close(opened)

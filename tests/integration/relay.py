"""A relay between two ends of a connection that behaves as badly as a network can.

It forwards bytes between its callers at `address` and `target`, over TCP or over Unix sockets, in a thread of its
own. Its methods can be called from blocking and from asynchronous tests alike, and have taken effect when they
return.

    with Relay(("127.0.0.1", 7420)) as relay:
        connect(relay.address)
        relay.hold("from_target")      # the answer does not come, and neither end is told why
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Final, Literal, Self, TypeVar

T = TypeVar("T")

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

Direction = Literal["to_target", "from_target"]
DIRECTIONS: Final[tuple[Direction, Direction]] = ("to_target", "from_target")

CHUNK_BYTES: Final = 64 * 1024
_CALL_TIMEOUT_S: Final = 10.0
_DELAY_S: Final = float(os.environ.get("PUBSUBD_TEST_LINK_DELAY_S", "0"))
"""The longest delay of each forwarded piece. It makes tests fail that should wait for a condition and do not."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Relay:
    """Listens at once. Without a `target` connections are accepted and wait until a target is set.

    A target that refuses the connection shows as a connection that opens and closes. `buffer_bytes` makes the
    kernel's buffers small, so that back-pressure is felt early.
    """

    def __init__(
        self,
        target: Address | None = None,
        *,
        listen: Address = ("127.0.0.1", 0),
        buffer_bytes: int | None = None,
    ) -> None:
        self.accepted = 0
        """Connections ever accepted."""
        self.bytes: dict[Direction, int] = dict.fromkeys(DIRECTIONS, 0)
        """Bytes ever forwarded."""
        self._recorded: dict[Direction, bytearray] | None = None
        self._buffer_bytes = buffer_bytes
        self._target = target
        self._rates: dict[Direction, float | None] = dict.fromkeys(DIRECTIONS)
        self._budgets: dict[Direction, int | None] = dict.fromkeys(DIRECTIONS)
        self._pairs: set[_Pair] = set()
        self._reservation = None if isinstance(listen, str) else _reserve(listen)
        self.address: Address = (
            listen if self._reservation is None else self._reservation.getsockname()[:2]
        )
        """The address to connect to."""
        started: threading.Event = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="relay", daemon=True
        )
        self._thread.start()
        if not started.wait(_CALL_TIMEOUT_S):
            raise RuntimeError("the relay's thread did not start")

    @property
    def endpoint(self) -> str:
        """`HOST:PORT`, or the path: as the options of a command take it."""
        return self.address if isinstance(self.address, str) else "{}:{}".format(*self.address)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._pairs)

    @property
    def target(self) -> Address | None:
        """The target of new connections."""
        return self._target

    @target.setter
    def target(self, target: Address | None) -> None:
        async def change() -> None:
            self._target = target
            if target is None:
                self._has_target.clear()
            else:
                self._has_target.set()

        self._call(change())

    def cut(self) -> None:
        """Close every connection and refuse new ones, until `heal()`."""

        async def cut() -> None:
            self._stop_listening()
            await self._drop(reset=False)

        self._call(cut())

    def heal(self) -> None:
        """Become a good network again: listening, without holds, slow links or planned cuts."""

        async def heal() -> None:
            for direction in DIRECTIONS:
                self._rates[direction] = self._budgets[direction] = None
                self._open[direction].set()
            self._listen()

        self._call(heal())

    def hold(self, direction: Direction | None = None) -> None:
        """Stop forwarding (both ways, or one); connections stay open, and new ones are accepted."""

        async def hold() -> None:
            for each in _both(direction):
                self._open[each].clear()

        self._call(hold())

    def release(self, direction: Direction | None = None) -> None:
        """Forward again, beginning with all that came meanwhile."""

        async def release() -> None:
            for each in _both(direction):
                self._open[each].set()

        self._call(release())

    def slow(self, bytes_per_s: float | None, direction: Direction | None = None) -> None:
        """Forward at most `bytes_per_s` on each connection; None for no limit."""

        async def slow() -> None:
            for each in _both(direction):
                self._rates[each] = bytes_per_s

        self._call(slow())

    def drop(self) -> None:
        """Close every connection; new ones are accepted."""
        self._call(self._drop(reset=False))

    def reset(self) -> None:
        """Close every connection with a TCP reset; new ones are accepted."""
        self._call(self._drop(reset=True))

    def cut_after(self, direction: Direction, n_bytes: int) -> None:
        """Let `n_bytes` more through in `direction`; the byte after them closes every connection instead.

        Counted over all connections, and once: new connections are accepted. With 0 bytes
        "from_target", a request arrives and its answer is lost.
        """

        async def cut_after() -> None:
            self._budgets[direction] = n_bytes

        self._call(cut_after())

    def record(self) -> None:
        """Keep a copy of what is forwarded from now on."""

        async def record() -> None:
            self._recorded = {each: bytearray() for each in DIRECTIONS}

        self._call(record())

    def recorded(self, direction: Direction) -> bytes:
        """All bytes that went this way since `record()`, over all connections in order of arrival."""

        async def recorded() -> bytes:
            assert self._recorded is not None
            return bytes(self._recorded[direction])

        return self._call(recorded())

    def close(self) -> None:
        """Close everything. A second call does nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_CALL_TIMEOUT_S)
        if self._reservation is not None:
            self._reservation.close()
        if isinstance(self.address, str):
            _remove(self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # All that follows runs in the relay's own thread.

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CALL_TIMEOUT_S)

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._has_target = asyncio.Event()
        if self._target is not None:
            self._has_target.set()
        self._open: dict[Direction, asyncio.Event] = {each: asyncio.Event() for each in DIRECTIONS}
        for gate in self._open.values():
            gate.set()
        self._listener: socket.socket | None = None
        self._listen()
        started.set()
        await self._stopping.wait()
        self._stop_listening()
        await self._drop(reset=False)

    def _listen(self) -> None:
        if self._listener is not None:
            return
        if isinstance(self.address, str):
            _remove(self.address)
            listener = socket.socket(socket.AF_UNIX)
        else:
            listener = socket.socket(socket.AF_INET)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._shrink(listener)
        listener.bind(self.address)
        listener.listen(128)
        listener.setblocking(False)
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        # Not by a task: if a caller came in, a cancelled task would drop the open connection.
        try:
            incoming, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.accepted += 1
        pair = _Pair(incoming)
        self._pairs.add(pair)
        pair.task = asyncio.create_task(self._connect(pair))

    async def _connect(self, pair: _Pair) -> None:
        try:
            await self._has_target.wait()
            assert self._target is not None
            unix = isinstance(self._target, str)
            pair.outgoing = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            pair.outgoing.setblocking(False)
            for each in (pair.incoming, pair.outgoing):
                each.setblocking(False)
                self._shrink(each)
                if each.family == socket.AF_INET:
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(pair.outgoing, self._target)
            pumps = [
                asyncio.create_task(self._pump(pair.incoming, pair.outgoing, "to_target")),
                asyncio.create_task(self._pump(pair.outgoing, pair.incoming, "from_target")),
            ]
            try:
                await asyncio.gather(*pumps)
            finally:
                for pump in pumps:
                    await _cancel(pump)
        except OSError:
            pass  # One end is closed: the other end closes in a moment.
        finally:
            pair.close()
            self._pairs.discard(pair)

    async def _pump(self, source: socket.socket, sink: socket.socket, way: Direction) -> None:
        while True:
            rate = self._rates[way]
            # Twenty small pieces a second, so that a change is felt at once.
            most = CHUNK_BYTES if rate is None else max(1, min(CHUNK_BYTES, int(rate / 20)))
            data = await self._loop.sock_recv(source, most)
            if _DELAY_S:
                await asyncio.sleep(random.uniform(0, _DELAY_S))
            await self._open[way].wait()
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            allowed = self._allowed(way, len(data))
            await self._loop.sock_sendall(sink, data[:allowed])
            self.bytes[way] += allowed
            if self._recorded is not None:
                self._recorded[way] += data[:allowed]
            if allowed < len(data):
                self._budgets[way] = None
                for pair in self._pairs:
                    if pair.task is not None:
                        pair.task.cancel()
                # A pump with more bytes to read does not stop for a cancellation, and would leave a hole.
                return
            if rate is not None:
                await asyncio.sleep(allowed / rate)

    def _allowed(self, way: Direction, size: int) -> int:
        budget = self._budgets[way]
        if budget is None:
            return size
        allowed = min(size, budget)
        self._budgets[way] = budget - allowed
        return allowed

    async def _drop(self, *, reset: bool) -> None:
        for pair in list(self._pairs):
            if reset:
                pair.reset_on_close()
            if pair.task is not None:
                await _cancel(pair.task)
            pair.close()
            self._pairs.discard(pair)

    def _shrink(self, each: socket.socket) -> None:
        if self._buffer_bytes is not None:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer_bytes)


class _Pair:
    """An incoming connection, and the one that was made for it."""

    def __init__(self, incoming: socket.socket) -> None:
        self.incoming = incoming
        self.outgoing: socket.socket | None = None
        self.task: asyncio.Task[None] | None = None

    def reset_on_close(self) -> None:
        for each in (self.incoming, self.outgoing):
            if each is not None and each.family == socket.AF_INET and each.fileno() >= 0:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    def close(self) -> None:
        for each in (self.incoming, self.outgoing):
            if each is not None:
                each.close()


def _reserve(listen: tuple[str, int]) -> socket.socket:
    """A bound socket that never listens: it keeps the port reserved while the relay refuses connections."""
    reservation = socket.socket(socket.AF_INET)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.bind(listen)
    return reservation


def _both(direction: Direction | None) -> tuple[Direction, ...]:
    return DIRECTIONS if direction is None else (direction,)


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # Take the result: an end that closed first is not an error.


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

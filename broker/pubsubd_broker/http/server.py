"""The admin HTTP server: `/metrics`, `/healthz`, `/readyz`, `/status.json`. GET and HEAD, nothing else.

Everything a caller can take is bounded: the head of a request, the time for it, the connections.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final

import h11
import structlog

from pubsubd_broker.http.exposition import metrics_type, render_metrics
from pubsubd_broker.http.loop_share import LONGEST_REST_S, LoopShare
from pubsubd_broker.process.off_loop import off_loop
from pubsubd_broker.settings.forms import is_loopback
from pubsubd_broker.sockets.host_names import TCP_BACKLOG, bind

IDLE_S: Final = 60.0
"""Time for which a kept connection may wait for its next request; Prometheus asks every 15 s or so."""

MAX_HTTP_TURNED_AWAY: Final = 64
"""Further callers that are told that there are too many; beyond that they are just closed."""

HTTP_LINGER_S: Final = 1.0
LINGER_READS: Final = 16
"""Time, and number of reads, for which a refused caller is listened to before the connection closes."""


_READ_BYTES: Final = 16 * 1024

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"

StatusReader = Callable[[], Mapping[str, Any]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Answer to one request."""

    code: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def answer(method: str, target: str, accept: str, status: StatusReader) -> HttpAnswer:
    """The answer to one request. Reads the status at most once; health does not need it."""
    path = _path(target)
    if path != "/healthz" and path not in _OF_THE_STATUS:
        return _plain(404, "not found; paths: /metrics, /healthz, /readyz, /status.json")
    if method not in ("GET", "HEAD"):
        return _plain(405, "method not allowed: use GET or HEAD", ("Allow", "GET, HEAD"))
    if path == "/healthz":
        return _plain(200, "ok")
    now = status()
    if path == "/metrics":
        body, content_type = render_metrics(now, accept)
        return HttpAnswer(200, content_type, body)
    if path == "/status.json":
        return _json(200, now)
    if now["ready"]:
        return _json(200, {"ready": True})
    return _json(503, {"ready": False, "reasons": now["not_ready"]})


_OF_THE_STATUS: Final = ("/metrics", "/readyz", "/status.json")


def _path(target: str) -> str:
    return target.partition("?")[0]


class AdminServer:
    """Serves until `close()`. `address` is where, with the port that was really taken."""

    def __init__(
        self,
        status: StatusReader,
        *,
        deadline_s: float = 5.0,
        idle_s: float = IDLE_S,
        max_connections: int = 64,
        max_head_bytes: int = 16 << 10,
        refused: Counter[str] | None = None,
        longest_rest_s: float = LONGEST_REST_S,
    ) -> None:
        """`deadline_s`: from the first byte of a request, or the start of the connection, to the last byte of the answer.

        `max_head_bytes`: of a request line and its headers. `refused`: counts by reason those that were ended before
        their request was answered. `longest_rest_s`: of the loop after a request.
        """
        self._refused: Counter[str] = refused if refused is not None else Counter()
        self.address: tuple[str, int] = ("", 0)
        self._status = status
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._max_connections = max_connections
        self._max_head_bytes = max_head_bytes
        self._connections: set[asyncio.Task[None]] = set()
        self._kept: dict[asyncio.Task[None], None] = {}
        """Connections that wait for a further request, the one that waits longest first."""
        self._share = LoopShare(longest_rest_s)
        self._made: dict[tuple[str, str], tuple[float, HttpAnswer]] = {}
        """The last answers, and when their making began."""
        self._local = False
        """Whether it serves this machine alone."""
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int) -> None:
        """Bind and serve. Raises `OSError` if the address cannot be had."""
        bound = await off_loop("pubsubd-bind", bind, host, port)
        name = bound[0].getsockname()
        self.address = (name[0], name[1])
        self._local = is_loopback(name[0])
        for sock in bound:
            self._servers.append(
                await asyncio.start_server(
                    self._connected, sock=sock, limit=_READ_BYTES, backlog=TCP_BACKLOG
                )
            )

    async def close(self) -> None:
        """Stop listening and end every connection."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        for server in servers:
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= self._max_connections + MAX_HTTP_TURNED_AWAY:
            self._refused["too_many_unheard"] += 1
            writer.transport.abort()
            return
        if len(self._connections) >= self._max_connections and self._kept:
            # It asks again over another one, if it still wants something.
            longest = next(iter(self._kept))
            del self._kept[longest]
            self._connections.discard(longest)
            longest.cancel()
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # The caller has gone, was too slow, or the server closes: nothing is owed to it.
        finally:
            self._connections.discard(task)
            # The bytes left by now are for a caller that does not read; close() would wait for it.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # drain() is to mean "all of it has left".
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=self._max_head_bytes)
        if len(self._connections) > self._max_connections:
            self._refused["too_many_connections"] += 1
            await self._refuse(connection, reader, writer, _plain(503, "too many connections"))
            return
        first = True
        while True:
            if not first and not connection.trailing_data[0]:
                connection.receive_data(await self._next_bytes(reader))
            first = False
            try:
                async with asyncio.timeout(self._deadline_s):
                    if not await self._exchange(connection, reader, writer):
                        return
            except TimeoutError:
                self._refused["too_slow"] += 1
                if connection.trailing_data[0]:
                    await self._refuse(connection, reader, writer, _plain(408, "too slow"))
                return
            except h11.RemoteProtocolError as error:
                await self._refuse(connection, reader, writer, self._malformed(error))
                return

    async def _next_bytes(self, reader: asyncio.StreamReader) -> bytes:
        """The begin of a further request. Others may need the place meanwhile."""
        task = asyncio.current_task()
        assert task is not None
        self._kept[task] = None
        try:
            async with asyncio.timeout(self._idle_s):
                return await reader.read(_READ_BYTES)
        finally:
            self._kept.pop(task, None)

    def _answer(self, method: str, target: str, accept: str, came_s: float) -> HttpAnswer:
        """The answer to a request. One that was made after the request had come is given again."""
        path = _path(target)
        if path not in _OF_THE_STATUS or method not in ("GET", "HEAD"):
            return answer(method, target, accept, self._status)
        form = path, metrics_type(accept) if path == "/metrics" else ""
        made_s, reply = self._made.get(form, (0.0, None))
        if reply is None or made_s < came_s:
            made_s = time.perf_counter()
            reply = answer(method, target, accept, self._status)
            self._made[form] = made_s, reply
        return reply

    def _reply(self, request: h11.Request, came_s: float) -> HttpAnswer:
        headers = dict(request.headers)
        if self._local and not _names_this_machine(headers.get(b"host", b"")):
            # A page from elsewhere can have its own name lead here, and a browser lets it read what it is answered.
            return _plain(421, "only for this machine: ask for localhost or its address")
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        target = request.target.decode("ascii")
        try:
            return self._answer(
                request.method.decode("ascii"), target, accept.decode("latin-1"), came_s
            )
        except Exception:
            # One request failed; the broker and its next scrape live on.
            log.exception("admin.failed", target=target[:200])
            return _plain(500, "the request failed: see the log")

    def _malformed(self, error: h11.RemoteProtocolError) -> HttpAnswer:
        too_large = error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refused["too_large" if too_large else "malformed"] += 1
        return _plain(error.error_status_hint, str(error))

    async def _refuse(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        reply: HttpAnswer,
        method: str = "GET",
    ) -> None:
        """Say no, and give the caller a moment to hear it. `method`: of its request, if that was one."""
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        async with asyncio.timeout(min(self._deadline_s, HTTP_LINGER_S)):
            writer.write(_on_the_wire(connection, reply, method, keep=False))
            await writer.drain()
            # Closing with bytes unread resets the connection, and the caller may lose the answer.
            writer.write_eof()
            for _ in range(LINGER_READS):
                if not await reader.read(_READ_BYTES):
                    return

    async def _exchange(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serves one request. Returns whether the connection may have another.

        Raises `h11.RemoteProtocolError` before anything was answered.
        """
        came_s = time.perf_counter()
        malformed = None
        while True:
            # However many ask, and however much at once, the broker does its work between two of them.
            async with self._share:
                request = connection.next_event()
                if isinstance(request, h11.Request):
                    method = request.method.decode("ascii")
                    try:
                        # A body is never read: a request that has one ends its connection.
                        bodiless = isinstance(connection.next_event(), h11.EndOfMessage)
                        reply = self._reply(request, came_s)
                        writer.write(_on_the_wire(connection, reply, method, bodiless))
                    except h11.RemoteProtocolError as error:
                        malformed = self._malformed(error)
                    break
            if request is not h11.NEED_DATA:
                return False
            connection.receive_data(await reader.read(_READ_BYTES))
        if malformed is not None:
            await self._refuse(connection, reader, writer, malformed, method)
            return False
        await writer.drain()
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return False
        connection.start_next_cycle()
        return True


def _on_the_wire(connection: h11.Connection, reply: HttpAnswer, method: str, keep: bool) -> bytes:
    headers = [
        ("Content-Type", reply.content_type),
        ("Content-Length", str(len(reply.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *reply.headers,
    ]
    if not keep:
        headers.append(("Connection", "close"))
    phrase = HTTPStatus(reply.code).phrase
    parts = [connection.send(h11.Response(status_code=reply.code, headers=headers, reason=phrase))]
    if method != "HEAD":
        parts.append(connection.send(h11.Data(data=reply.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)


def _names_this_machine(host: bytes) -> bool:
    """Whether a `Host` header is one that no name server has a say in."""
    name = host.decode("latin-1").lower()
    if not name.endswith("]"):
        name = re.sub(r":[0-9]*$", "", name)
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return name in ("", "localhost") or name.endswith(".localhost")
    return True


def _plain(code: int, text: str, *headers: tuple[str, str]) -> HttpAnswer:
    return HttpAnswer(code, _TEXT, text.encode(), headers)


def _json(code: int, value: object) -> HttpAnswer:
    return HttpAnswer(code, _JSON, json.dumps(value, allow_nan=False).encode())

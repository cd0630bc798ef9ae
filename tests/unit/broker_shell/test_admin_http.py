"""The admin server over a real socket: its answers, and its defence against hostile clients."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.unit.broker_shell.a_status import a_status

from pubsubd_broker.http import server as admin_http
from pubsubd_broker.http.server import MAX_HTTP_TURNED_AWAY, AdminServer

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    code: int
    headers: dict[str, str]
    body: bytes


@asynccontextmanager
async def serving(
    status: Callable[[], Mapping[str, Any]] = a_status, **limits: Any
) -> AsyncIterator[AdminServer]:
    server = AdminServer(status, **limits)
    await server.listen("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def connection(server: AdminServer) -> AsyncIterator[tuple[Reader, Writer]]:
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield reader, writer
    finally:
        writer.close()


async def all_ended(server: AdminServer) -> None:
    """Waits until no connection is open."""
    while server._connections:
        await asyncio.wait(list(server._connections))


async def reply_of(reader: Reader, head_only: bool = False) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = b"" if head_only else await reader.readexactly(int(headers["content-length"]))
    return Reply(int(first.split()[1]), headers, body)


async def ask(
    server: AdminServer, request: str, headers: str = "", head_only: bool = False
) -> Reply:
    async with connection(server) as (reader, writer):
        writer.write(f"{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        return await reply_of(reader, head_only)


def get(request: str, headers: str = "", **status: Any) -> Reply:
    async def run() -> Reply:
        async with serving(lambda: a_status() | status) as server:
            return await ask(server, request, headers, request.startswith("HEAD"))

    return asyncio.run(run())


def test_healthz_is_ok() -> None:
    reply = get("GET /healthz")
    assert (reply.code, reply.body) == (200, b"ok")
    assert reply.headers["cache-control"] == "no-store"


def test_healthz_needs_no_status() -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("no status")

    async def run() -> tuple[Reply, Reply]:
        async with serving(broken) as server:
            return await ask(server, "GET /healthz"), await ask(server, "GET /status.json")

    healthy, failed = asyncio.run(run())
    assert healthy.code == 200
    assert failed.code == 500


def test_readyz_tells_why_it_is_not_ready() -> None:
    assert get("GET /readyz").code == 200
    reply = get("GET /readyz", ready=False, not_ready=["peer c was never reached"])
    assert reply.code == 503
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body) == {"ready": False, "reasons": ["peer c was never reached"]}


def test_status_is_the_status() -> None:
    assert json.loads(get("GET /status.json").body) == a_status()
    assert json.loads(get("GET /status.json?pretty=1").body) == a_status()


def test_metrics_come_in_the_form_that_is_asked_for() -> None:
    text = get("GET /metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert b"pubsubd_ring_messages 10.0\n" in text.body
    accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
    openmetrics = get("GET /metrics", accept)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("request_line", "code"),
    [
        ("GET /", 404),
        ("GET /metrics/", 404),
        ("GET //metrics", 404),
        ("GET /../etc/passwd", 404),
        ("GET //[", 404),
        ("POST /", 404),
        ("POST /metrics", 405),
        ("DELETE /healthz", 405),
        ("OPTIONS /readyz", 405),
    ],
)
def test_other_paths_and_methods_are_refused(request_line: str, code: int) -> None:
    reply = get(request_line)
    assert reply.code == code
    if code == 405:
        assert reply.headers["allow"] == "GET, HEAD"


@async_test
async def test_head_has_the_headers_and_no_body() -> None:
    async with serving() as server, connection(server) as (reader, writer):
        writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        reply = await reply_of(reader, head_only=True)
        assert (reply.code, reply.headers["content-length"]) == (200, "2")
        assert await reader.read() == b""


@async_test
async def test_a_connection_is_kept_and_requests_may_be_pipelined() -> None:
    async with serving() as server, connection(server) as (reader, writer):
        writer.write(HEALTHZ * 3)
        assert [(await reply_of(reader)).code for _ in range(3)] == [200] * 3
        writer.write(b"GET /healthz HTTP/1.1\r\nHo")
        writer.write(b"st: x\r\nConnection: close\r\n\r\n")
        assert (await reply_of(reader)).headers["connection"] == "close"
        assert await reader.read() == b""


@async_test
async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving() as server, connection(server) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reply_of(reader)).body == b"ok"
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"GET /" + b"a" * (2 * 16 * 1024) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 16 * 1024, 431),
    ],
)
@async_test
async def test_an_invalid_request_gets_its_code_and_the_connection_ends(
    sent: bytes, code: int
) -> None:
    async with serving() as server:
        async with connection(server) as (reader, writer):
            writer.write(sent)
            assert (await reply_of(reader)).code == code
            assert await reader.read() == b""
        assert (await ask(server, "GET /healthz")).code == 200


@async_test
async def test_a_malformed_head_request_gets_its_code_without_a_body() -> None:
    async with serving() as server:
        async with connection(server) as (reader, writer):
            request = (
                b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            writer.write(request + b"no chunk\r\n")
            head, end, body = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert (end, body) == (b"\r\n\r\n", b"")
        assert (await ask(server, "GET /healthz")).code == 200


@async_test
async def test_a_body_is_not_read_and_ends_the_connection() -> None:
    async with serving() as server, connection(server) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
        reply = await reply_of(reader)
        assert (reply.code, reply.headers["connection"]) == (200, "close")
        assert await reader.read() == b""


@async_test
async def test_a_dribbled_request_is_cut_off_at_the_deadline() -> None:
    async with (
        serving(deadline_s=0.1) as server,
        connection(server) as (reader, writer),
    ):

        async def dribble() -> None:
            while True:
                writer.write(b"G")
                await asyncio.sleep(0.01)

        dribbling = asyncio.create_task(dribble())
        reply = await reply_of(reader)
        dribbling.cancel()
        assert (reply.code, reply.headers["connection"]) == (408, "close")
        assert await reader.read() == b""
        assert (await ask(server, "GET /healthz")).code == 200


@async_test
async def test_a_caller_that_never_speaks_or_idles_is_cut_off() -> None:
    async with (
        serving(deadline_s=0.1) as server,
        connection(server) as (reader, _),
    ):
        assert await reader.read() == b""
    # With time enough for a request, however slow the machine is.
    async with (
        serving(deadline_s=60, idle_s=0.1) as server,
        connection(server) as (reader, writer),
    ):
        writer.write(HEALTHZ)
        assert (await reply_of(reader)).code == 200
        assert await reader.read() == b""


@async_test
async def test_a_caller_that_does_not_read_its_answer_is_cut_off() -> None:
    def huge() -> dict[str, Any]:
        return a_status() | {"epoch": "x" * (32 << 20)}

    async with (
        serving(huge, deadline_s=0.2) as server,
        connection(server) as (reader, writer),
    ):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await all_ended(server)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(32 << 20)


@async_test
async def test_beyond_the_limit_of_connections_the_next_is_told_so() -> None:
    async with serving(max_connections=2) as server:
        async with connection(server) as (_, first), connection(server) as (_, second):
            for held in (first, second):
                held.write(b"GET")
            async with connection(server) as (reader, writer):
                writer.write(HEALTHZ)
                assert (await reply_of(reader)).code == 503
                assert await reader.read() == b""
        await all_ended(server)
        assert (await ask(server, "GET /healthz")).code == 200


def head_of(size: int) -> bytes:
    """A request whose line and headers are so long, but for its last byte."""
    start = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: "
    return start + b"a" * (size - len(start) - len(b"\r\n\r")) + b"\r\n\r"


async def ended(reader: Reader) -> bool:
    """Whether it was closed without a word."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@asynccontextmanager
async def two_of_two(
    sent: bytes,
) -> AsyncIterator[tuple[AdminServer, Counter[str], tuple[Reader, Writer], tuple[Reader, Writer]]]:
    """A server with room for 2 connections, its refusals, and both: each has had an answer to what it sent."""
    refused: Counter[str] = Counter()
    async with (
        serving(max_connections=2, refused=refused) as server,
        connection(server) as first,
        connection(server) as second,
    ):
        for reader, writer in (first, second):
            writer.write(sent)
            assert (await reply_of(reader)).code == 200
        yield server, refused, first, second


@async_test
async def test_one_connection_beyond_the_bound_is_refused_and_counted() -> None:
    async with two_of_two(HEALTHZ + b"GET") as (server, refused, _, _):
        assert not refused
        assert (await ask(server, "GET /healthz")).code == 503
        assert refused == {"too_many_connections": 1}


@async_test
async def test_at_the_bound_the_longest_idle_connection_gives_its_place() -> None:
    async with two_of_two(HEALTHZ) as (server, refused, first, second):
        assert (await ask(server, "GET /healthz")).code == 200
        assert await ended(first[0])
        second[1].write(HEALTHZ)
        assert (await reply_of(second[0])).code == 200
        assert not refused


@async_test
async def test_a_waiting_caller_gets_an_answer_made_after_its_request() -> None:
    made = 0

    def status() -> Mapping[str, Any]:
        nonlocal made
        made += 1
        return a_status()

    async with (
        AsyncExitStack() as stack,
        serving(status) as server,
    ):
        held = [await stack.enter_async_context(connection(server)) for _ in range(30)]
        for _, writer in held:
            writer.write(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        for _ in range(3):
            replies = [await reply_of(reader) for reader, _ in held]
            assert {reply.code for reply in replies} == {200}
        assert 3 <= made < 30
        before = made
        assert (await ask(server, "GET /status.json")).code == 200
        assert made == before + 1, "an answer of before he had asked is none"


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/status.json"])
@pytest.mark.parametrize("callers", [1, 30])
@async_test
async def test_the_loop_has_its_turn_between_two_pipelined_answers(
    monkeypatch: pytest.MonkeyPatch, path: str, callers: int
) -> None:
    asked = 60 // callers
    answered_in: list[int] = []
    turns = 0
    on_the_wire = admin_http._on_the_wire

    def noted(*of: Any) -> bytes:
        answered_in.append(turns)
        return on_the_wire(*of)

    monkeypatch.setattr(admin_http, "_on_the_wire", noted)

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with AsyncExitStack() as stack, serving() as server:
        held = [await stack.enter_async_context(connection(server)) for _ in range(callers)]
        loop = asyncio.create_task(turn())
        for _, writer in held:
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * asked)
        for reader, _ in held:
            for _ in range(asked):
                assert (await reply_of(reader, head_only=True)).code == 200
        assert len(answered_in) == callers * asked
        assert len(set(answered_in)) == len(answered_in), "two answers in one turn of the loop"
        loop.cancel()


@async_test
async def test_further_callers_are_told_up_to_a_bound_then_closed() -> None:
    refused: Counter[str] = Counter()
    async with (
        AsyncExitStack() as stack,
        serving(max_connections=1, refused=refused) as server,
    ):

        async def come() -> Reader:
            reader, _ = await stack.enter_async_context(connection(server))
            return reader

        await come()
        told = [await come() for _ in range(MAX_HTTP_TURNED_AWAY)]
        assert {(await reply_of(each)).code for each in told} == {503}
        assert refused["too_many_unheard"] == 0
        assert await ended(await come())
        assert refused == {
            "too_many_connections": MAX_HTTP_TURNED_AWAY,
            "too_many_unheard": 1,
        }


@async_test
async def test_a_head_beyond_the_bound_is_refused_and_counted() -> None:
    refused: Counter[str] = Counter()
    async with serving(max_head_bytes=300, refused=refused) as server:
        for size, code in ((300, 200), (301, 431)):
            async with connection(server) as (reader, writer):
                # Its end comes when all the rest has been looked at.
                writer.write(head_of(size))
                if code == 200:
                    writer.write(b"\n")
                assert (await reply_of(reader)).code == code
            assert refused["too_large"] == (code == 431)


@async_test
async def test_a_request_that_takes_too_long_is_counted() -> None:
    refused: Counter[str] = Counter()
    async with serving(deadline_s=1, refused=refused) as server:
        assert (await ask(server, "GET /healthz")).code == 200
        assert not refused
        async with connection(server) as (reader, writer):
            writer.write(b"GET /healthz HT")
            assert (await reply_of(reader)).code == 408
        assert refused == {"too_slow": 1}


@async_test
async def test_close_ends_open_connections_at_once() -> None:
    async with serving() as server, connection(server) as (reader, writer):
        writer.write(HEALTHZ)
        await reply_of(reader)
        await server.close()
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*server.address)


@async_test
async def test_an_address_that_is_taken_is_an_oserror() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            await AdminServer(a_status).listen(*server.address)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200),
        ("LOCALHOST:9464", 200),
        ("node-a.localhost", 200),
        ("127.0.0.1:80", 200),
        ("10.1.2.3", 200),
        ("[::1]:9464", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9464", 421),
        ("localhost.evil.example", 421),
        ("evil.example:localhost", 421),
    ],
)
def test_a_local_server_refuses_names_that_others_can_give_it(host: str, code: int) -> None:
    async def run() -> int:
        async with serving() as server, connection(server) as (reader, writer):
            writer.write(f"GET /status.json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return (await reply_of(reader)).code

    assert asyncio.run(run()) == code

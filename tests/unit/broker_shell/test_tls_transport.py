"""`Link` over TLS, on uvloop as in the broker: what it needs of a transport holds there too, and who is refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, cast

import pytest
import uvloop
from tests.certificates import Authority

from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.sockets.link import HIGH_WATER_BYTES, Link
from pubsubd_broker.trust.channel import binding_of, names_of
from pubsubd_broker.trust.tls import Tls, explain
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import MAGIC, VERSION, Hello, Refused

# Objects of the tests stand in for connections.
pytestmark = pytest.mark.interpreted

P = ParamSpec("P")

KIB: Final = 1024
MIB: Final = 1024 * KIB
LIMIT_S: Final = 60.0
A_HELLO: Final = Hello(MAGIC, VERSION, VERSION, "peer", "a", b"")

KERNEL_BYTES: Final = 64 * KIB
"""Buffer size that the sockets of these tests ask for. The kernel doubles it."""


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        uvloop.run(asyncio.wait_for(test(*args, **kwargs), LIMIT_S))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Bounded by the test's own limit."""
    while not condition():
        await asyncio.sleep(0.001)


async def settled(figure: Callable[[], int]) -> int:
    """The value once it has stopped changing."""
    last, since = figure(), 0
    while since < 100:
        await asyncio.sleep(0.001)
        last, since = (now, since + 1) if (now := figure()) == last else (now, 0)
    return last


class End:
    """A link's host, and in the place of its connection: bytes as they come, and as many as are wanted."""

    def __init__(self) -> None:
        self.link = Link(self, self.opened, 6000)
        self.made = False
        self.gone = False
        self.came = bytearray()
        self.most_at_once = 0
        self.offered: list[bytes] = []
        """Pieces that are still to be written."""
        self.handed_over = 0
        # The part of a connection that a link uses.
        self.writable = True
        self.wants_more = True
        self.closing = False
        self._space = bytearray(256 * KIB)

    def opened(self, link: Link) -> Connection:
        self.made = True
        return cast(Connection, self)

    def received(self, link: Link, count: int) -> None:
        self.came += memoryview(self._space)[:count]
        self.most_at_once = max(self.most_at_once, count)

    def finished(self) -> bool:
        """False: this end has no last words that it could have finished."""
        return False

    def lost(self, link: Link) -> None:
        self.gone = True

    def flush_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Pulls once a loop turn, as the broker does."""
        if self.gone or not self.made:
            return
        if self.writable and self.offered:
            piece = self.offered.pop(0)
            self.handed_over += len(piece)
            self.link.write([piece])
            self.flush_soon()
        else:
            self.link.write([])

    def space(self) -> memoryview:
        return memoryview(self._space)

    def wake(self) -> None:
        self.flush_soon()

    def offer(self, *pieces: bytes) -> None:
        self.offered.extend(pieces)
        self.flush_soon()

    @property
    def ssl_object(self) -> ssl.SSLObject:
        return cast(ssl.SSLObject, self.link.transport.get_extra_info("ssl_object"))


class Meeting:
    """Two ends that may or may not come together; what went wrong on either side."""

    def __init__(self) -> None:
        self.accepting = End()
        self.dialling = End()
        self.accept_error: OSError | None = None
        self.dial_error: OSError | None = None

    async def take(
        self, listening: socket.socket, context: ssl.SSLContext | None, handshake_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        taken, _ = await loop.sock_accept(listening)
        try:
            await loop.connect_accepted_socket(
                lambda: self.accepting.link,
                taken,
                ssl=context,
                ssl_handshake_timeout=handshake_s if context is not None else None,
            )
        except OSError as error:
            self.accept_error = error

    async def dial(self, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        dialled = socket.socket()
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        dialled.setblocking(False)
        await loop.sock_connect(dialled, address)
        try:
            await loop.create_connection(
                lambda: self.dialling.link,
                sock=dialled,
                ssl=context,
                server_hostname="b" if context is not None else None,
            )
        except OSError as error:
            self.dial_error = error

    async def close(self) -> None:
        for end in (self.accepting, self.dialling):
            if end.made and not end.gone:
                end.link.transport.abort()
        await until(
            lambda: all(end.gone or not end.made for end in (self.accepting, self.dialling))
        )


@asynccontextmanager
async def meeting(
    accepts: ssl.SSLContext | None,
    dials: ssl.SSLContext | None,
    *,
    accepter_says: bytes = b"",
    dialler_says: bytes = b"",
    handshake_s: float = 5.0,
) -> AsyncIterator[Meeting]:
    """Two ends whose handshakes have succeeded or failed. None: that end speaks no TLS."""
    found = Meeting()
    found.accepting.offered = [accepter_says] if accepter_says else []
    found.dialling.offered = [dialler_says] if dialler_says else []
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(found.take(listening, accepts, handshake_s))
            await found.dial(listening.getsockname(), dials)
            await taking
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
def tls(authority: Authority) -> Tls:
    files = authority.certificate("a")
    return Tls(files.cert, files.key, files.ca)


def pieces(count: int, size: int) -> list[bytes]:
    """Each another, so that none can stand for its neighbour."""
    return [(b"%015d " % number) * (size // 16) for number in range(count)]


@pytest.mark.parametrize("runs", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_both_ends_of_a_transport_have_names_and_one_binding(
    tls: Tls, runs: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def met() -> None:
        bindings = set()
        for _ in range(2):
            async with meeting(tls.server, tls.client) as both:
                for end in (both.accepting, both.dialling):
                    assert names_of(end.ssl_object) == {"a"}
                    bindings.add(binding_of(end.ssl_object))
        assert len(bindings) == 2

    runs(met())


@on_uvloop
async def test_large_pieces_arrive_intact_both_ways_at_once(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        there, back = pieces(24, MIB), pieces(24, MIB)[::-1]
        both.dialling.offer(*there)
        both.accepting.offer(*back)
        await until(lambda: len(both.accepting.came) >= 24 * MIB <= len(both.dialling.came))
        assert both.accepting.came == b"".join(there)
        assert both.dialling.came == b"".join(back)
        assert both.accepting.most_at_once <= 256 * KIB


@on_uvloop
async def test_small_pieces_arrive_intact(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        sent = [bytes([number % 256]) * (1 + number % 700) for number in range(5000)]
        both.dialling.offer(*sent)
        await until(lambda: len(both.accepting.came) >= sum(map(len, sent)))
        assert both.accepting.came == b"".join(sent)


@on_uvloop
async def test_a_link_that_does_not_read_takes_a_bounded_part_first(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        reader, writer = both.accepting, both.dialling
        reader.wants_more = False
        reader.flush()
        sent = pieces(256, 256 * KIB)
        writer.offer(*sent)
        await until(lambda: not writer.writable)
        taken = await settled(lambda: writer.handed_over)
        # On the reader's side uvloop holds 256 KiB and one read more, on the writer's what is encrypted
        # above the mark and one pull under it; the rest is the kernel's.
        read_ahead = cast(Any, reader.link.transport).get_read_buffer_size()
        assert read_ahead <= 512 * KIB
        unsent = writer.link.unsent_bytes
        assert HIGH_WATER_BYTES <= unsent <= 2 * HIGH_WATER_BYTES
        assert taken <= read_ahead + unsent + HIGH_WATER_BYTES + 8 * KERNEL_BYTES
        assert len(reader.came) == 0
        reader.wants_more = True
        reader.flush()
        await until(lambda: len(reader.came) >= 64 * MIB)
        assert reader.came == b"".join(sent)


@on_uvloop
async def test_a_link_that_stops_reading_in_the_midst_gets_nothing_more(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        reader, writer = both.accepting, both.dialling
        writer.offer(*pieces(64, 256 * KIB))
        await until(lambda: len(reader.came) > 0)
        reader.wants_more = False
        reader.flush()
        came = len(reader.came)
        await until(lambda: not writer.writable)
        await settled(lambda: writer.handed_over)
        assert len(reader.came) == came
        reader.wants_more = True
        reader.flush()
        await until(lambda: len(reader.came) >= 16 * MIB)


@on_uvloop
async def test_both_ends_that_write_and_do_not_read_go_on_when_they_do(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        ends = (both.accepting, both.dialling)
        for end in ends:
            end.wants_more = False
            end.flush()
            end.offer(*pieces(64, 256 * KIB))
        await until(lambda: not any(end.writable for end in ends))
        for end in ends:
            end.wants_more = True
            end.flush()
        await until(lambda: all(len(end.came) == 16 * MIB for end in ends))


@on_uvloop
async def test_last_words_arrive_and_both_ends_hear_of_the_end(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        both.accepting.closing = True
        both.accepting.offer(b"refused: for a reason" * 1000)
        await until(lambda: both.dialling.gone and both.accepting.gone)
        assert both.dialling.came == b"refused: for a reason" * 1000


@on_uvloop
async def test_an_ending_connection_is_cut_though_it_is_never_read(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        both.dialling.wants_more = False
        both.dialling.flush()
        both.accepting.offer(*pieces(16, 256 * KIB))
        await until(lambda: not both.accepting.writable)
        both.accepting.closing = True
        both.accepting.flush()
        await until(lambda: both.accepting.gone)


@on_uvloop
async def test_an_abort_ends_both_sides(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        both.dialling.link.transport.abort()
        await until(lambda: both.dialling.gone and both.accepting.gone)


@on_uvloop
async def test_a_vanished_end_that_is_not_read_is_noticed_at_a_write(
    tls: Tls,
) -> None:
    async with meeting(tls.server, tls.client) as both:
        both.accepting.wants_more = False
        both.accepting.flush()
        both.dialling.link.transport.abort()
        await until(lambda: both.dialling.gone)
        both.accepting.offer(*pieces(4, 256 * KIB))
        await until(lambda: both.accepting.gone)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
@on_uvloop
async def test_the_kernel_s_own_time_out_is_set_on_the_socket_below(tls: Tls) -> None:
    async with meeting(tls.server, tls.client) as both:
        for end in (both.accepting, both.dialling):
            below = end.link.transport.get_extra_info("socket")
            assert below.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6000
            assert end.link.transport.get_extra_info("peername")[0] == "127.0.0.1"


# Refusals. The dialler is done before its certificate is looked at, and no alert reaches it: the reason
# is known on the accepting side alone.


def nothing_came_of_it(found: Meeting) -> None:
    assert not found.accepting.made
    assert found.dialling.came == b""


async def why_refused(found: Meeting) -> str:
    """The words of the accepting side, once the dialler is gone."""
    await until(lambda: found.dialling.gone)
    nothing_came_of_it(found)
    assert found.accept_error is not None
    return explain(found.accept_error)


@on_uvloop
async def test_a_dialler_without_a_certificate_is_refused(tls: Tls, authority: Authority) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(authority.path)
    async with meeting(tls.server, bare) as found:
        assert (await why_refused(found)).startswith("it shows no certificate")
        assert found.dialling.made
        assert found.dial_error is None


@on_uvloop
async def test_a_dialler_of_another_authority_is_refused(
    tls: Tls, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other").certificate("a")
    theirs = Tls(stranger.cert, stranger.key, stranger.ca).client
    theirs.load_verify_locations(authority.path)
    async with meeting(tls.server, theirs) as found:
        assert (await why_refused(found)).startswith("its certificate is not accepted")


@on_uvloop
async def test_a_producer_of_another_authority_is_not_talked_to(tls: Tls, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "other").certificate("a")
    async with meeting(Tls(stranger.cert, stranger.key, stranger.ca).server, tls.client) as found:
        nothing_came_of_it(found)
        assert not found.dialling.made
        assert found.dial_error is not None
        assert explain(found.dial_error).startswith("its certificate is not accepted")
        assert found.accept_error is not None
        assert explain(found.accept_error) == "it ended the TLS handshake: its log says why"


@pytest.mark.parametrize("old", ["dialler", "producer"])
def test_an_end_that_speaks_tls_1_2_at_most_is_refused(
    tls: Tls, authority: Authority, old: str
) -> None:
    @on_uvloop
    async def met() -> None:
        files = authority.certificate("b")
        older = Tls(files.cert, files.key, files.ca)
        for context in (older.server, older.client):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        ends = (tls.server, older.client) if old == "dialler" else (older.server, tls.client)
        async with meeting(*ends) as found:
            nothing_came_of_it(found)
            assert not found.dialling.made
            assert found.accept_error is not None
            assert found.dial_error is not None
            if old == "dialler":
                assert explain(found.accept_error) == "it speaks an older TLS than 1.3"
            assert explain(found.dial_error) == "it ended the TLS handshake: its log says why"

    met()


@on_uvloop
async def test_a_plain_dialler_at_a_tls_port_is_refused(tls: Tls) -> None:
    async with meeting(tls.server, None, dialler_says=encode(A_HELLO)) as found:
        assert (await why_refused(found)).startswith("it does not speak TLS: give all brokers")


@on_uvloop
async def test_a_tls_dialler_recognises_a_plain_port(tls: Tls) -> None:
    refusal = encode(Refused("protocol", "a frame of 369295616 bytes, allowed are 1..65536"))
    async with meeting(None, tls.client, accepter_says=refusal) as found:
        assert not found.dialling.made
        assert found.dial_error is not None
        assert explain(found.dial_error).startswith("it does not speak TLS: give all brokers")
        # A plain broker reads these bytes as the length of a frame, and so knows TLS.
        assert found.accepting.came[:3] == b"\x16\x03\x01"


@on_uvloop
async def test_a_browser_at_a_tls_port_is_told_apart(tls: Tls) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with meeting(tls.server, None, dialler_says=request) as found:
        await until(lambda: found.dialling.gone)
        assert found.accept_error is not None
        assert explain(found.accept_error) == "it speaks HTTP: this port is for brokers"


@on_uvloop
async def test_a_silent_end_in_the_handshake_is_cut_off_in_time(tls: Tls) -> None:
    async with meeting(tls.server, None, handshake_s=0.05) as found:
        await until(lambda: found.dialling.gone)
        assert not found.accepting.made
        assert found.accept_error is not None
        assert "SSL handshake is taking longer than" in explain(found.accept_error)

"""HTTP to the admin server, without a socket: each answer is complete, and is one of the allowed ones.

The first byte draws the pieces in which the rest arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Final

import h11
from tests.unit.broker_shell.a_status import a_status

from pubsubd_broker.http.server import AdminServer

CODES: Final = frozenset({200, 400, 404, 405, 408, 413, 414, 431, 501, 505})
_MOST_ANSWERS: Final = 1_000
_SIZES: Final = (1 << 20, 1, 2, 7, 100, 5_000)


class Pieces(asyncio.StreamReader):
    """The caller's bytes, a piece at each read; then the caller closes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(loop=_loop())
        self._pieces = pieces
        self._left = b""
        self.taken = 0

    async def read(self, n: int = -1) -> bytes:
        data = self._left or next(self._pieces, b"")
        data, self._left = data[:n], data[n:]
        self.taken += len(data)
        return data


class Answers(asyncio.Transport):
    """Collects the answers: each is one write, and none waits to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ended = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        assert not self.ended, "an answer after the end"
        self.writes.append(data)

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Does nothing: these answers have no buffer."""


def check(data: bytes) -> None:
    """Raises only for a fault."""
    size = _SIZES[(data[0] if data else 0) % len(_SIZES)]
    rest = data[1:]
    reader = Pieces(rest[at : at + size] for at in range(0, len(rest), size))
    transport = Answers()
    loop = _loop()
    writer = asyncio.StreamWriter(
        transport, asyncio.StreamReaderProtocol(reader, loop=loop), reader, loop
    )
    loop.run_until_complete(AdminServer(a_status, longest_rest_s=0)._connected(reader, writer))
    assert transport.ended, "the connection stays open"
    assert len(transport.writes) <= _MOST_ANSWERS
    for number, write in enumerate(transport.writes, 1):
        _is_an_answer(write, last=number == len(transport.writes))
    # A caller that asks nothing gets no answer; each request has at least one line.
    assert len(transport.writes) <= 1 + rest.count(b"\n"), "more answers than questions"


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _is_an_answer(write: bytes, *, last: bool) -> None:
    head, end, body = write.partition(b"\r\n\r\n")
    assert end, "a head that is not whole"
    line, *headers = head.decode("ascii").split("\r\n")
    version, code, phrase = line.split(" ", 2)
    assert version == "HTTP/1.1"
    assert int(code) in CODES, line
    assert phrase == HTTPStatus(int(code)).phrase, line
    told = dict(header.split(": ", 1) for header in headers)
    length = int(told["Content-Length"])
    assert len(body) in (0, length), f"{length} bytes announced, {len(body)} sent"
    assert last or told.get("Connection") != "close", "an answer behind the one that closes"
    assert "Content-Type" in told
    assert (code == "405") == ("Allow" in told)
    # A client must be able to read the answer, too.
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET" if body else "HEAD", target="/", headers=[("Host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(write)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == int(code)

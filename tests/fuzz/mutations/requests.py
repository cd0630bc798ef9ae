"""Changes of HTTP requests: lines, headers, bodies, and the bytes between them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from tests.fuzz.mutations.noise import noisy

_LINES: Final = (
    b"GET /metrics HTTP/1.1",
    b"HEAD /healthz HTTP/1.0",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT x:1 HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"Host: localhost",
    b"Host: y",
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: -1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Expect: 100-continue",
    b"Accept: application/openmetrics-text; version=1.0.0; q=\xff",
    b" folded",
    b"A" * 300 + b": b",
    b"",
    b"5",
    b"hello",
    b"0",
)


def changed_requests(data: bytes, chance: Random, donors: Sequence[bytes]) -> bytes:
    """Changed requests. The first byte draws the pieces in which the rest arrives."""
    lines = data.split(b"\r\n")
    at = chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at + 1, chance.choice(_LINES))
        case 2:
            lines[at] = chance.choice(_LINES)
        case 3:
            lines[at] = noisy(lines[at], chance)
        case 4:
            return data + chance.choice(donors)[1:]
        case 5:
            return bytes((chance.randrange(256),)) + data[1:]
        case 6:
            return chance.choice((b"\n", b"\r\r\n", b"\r\n")).join(lines)
        case _:
            return noisy(data, chance)
    return b"\r\n".join(lines)

"""Bytes that no honest client or peer sends, and a raw connection to send them on.

with RawConnection(broker.socket) as raw:
    raw.send(FOUR_GIB)
    assert isinstance(raw.frame(), Refused)
    assert raw.ended()
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import msgpack
from tests.feeding import feed
from tests.integration.relay import Address

from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import MAGIC, VERSION, Frame, Heartbeat, Hello, Query, Subscribe
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import Epoch, Position

_READ_BYTES: Final = 64 * 1024
MAX_FRAME: Final = 64 * 1024 * 1024

EPOCH: Final = Epoch(bytes(range(16)))


def framed(body: bytes, length: int | None = None) -> bytes:
    """`body` behind its length, or behind a false one."""
    return struct.pack(">I", len(body) if length is None else length) + body


def packed(*fields: Any) -> bytes:
    """A frame of any kind with any fields, right or wrong."""
    return framed(msgpack.packb(fields))


def hello(
    role: str = "session",
    *,
    magic: str = MAGIC,
    lowest: int = VERSION,
    highest: int = VERSION,
    name: str = "",
    life: bytes | None = None,
    spoke_to: bytes | None = None,
) -> bytes:
    """A greeting, honest unless an argument says otherwise."""
    life = os.urandom(16) if life is None else life
    return encode(Hello(magic, lowest, highest, role, name, life, spoke_to))


def publish(
    topic: str = "t", payload: bytes = b"x", *, sequence: int = 1, retry: bool = False
) -> bytes:
    """An honest publish of one message."""
    lengths = pack_numbers("I", [len(payload)])
    return encode(Batch(sequence, retry, None, topic, b"", lengths, payload))


def subscribe(*patterns: str, positions: dict[str, Position] | None = None) -> bytes:
    """An honest subscription."""
    return encode(Subscribe(patterns or (">",), "latest", positions, None, None, True))


def status() -> bytes:
    """An honest query, for a control connection."""
    return encode(Query("status"))


def noise(size: int, seed: int = 1) -> bytes:
    """Random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def tree_of_empty_arrays(depth: int = 4) -> bytes:
    """32 ** depth empty arrays: 1 byte each in the frame, 64 each when unpacked."""
    return b"\x90" if depth == 0 else b"\xdc\x00\x20" + tree_of_empty_arrays(depth - 1) * 32


def batch_head(*fields: Any, payloads: bytes = b"x") -> bytes:
    """A publish whose head holds these fields."""
    return framed(b"\x93\x0a" + msgpack.packb(msgpack.packb(fields)) + msgpack.packb(payloads))


FOUR_GIB: Final = b"\xff\xff\xff\xff"

INSTEAD_OF_A_GREETING: Final[dict[str, bytes]] = {
    "a length of four GiB": FOUR_GIB + b"and some",
    "a length of nothing": bytes(4),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "noise": noise(1000),
    "zeros": bytes(1000),
    "an array of nothing": framed(b"\x90"),
    "deep nesting": framed(b"\x92\x01" + b"\x91" * 100_000),
    "a tree of empty arrays": framed(b"\x92\x01" + tree_of_empty_arrays()),
    "an array of four billion": framed(b"\x92\x01\xdd\xff\xff\xff\xff"),
    "a map of four billion": framed(b"\x92\x01\xdf\xff\xff\xff\xff"),
    "another protocol's name": hello(magic="kafka"),
    "an unknown role": packed(1, MAGIC, 1, 1, "admin", "", bytes(16), None),
    "a life of 15 bytes": packed(1, MAGIC, 1, 1, "session", "", bytes(15), None),
    "numbers for text": packed(1, 2, 3, 4, 5, 6, 7, 8),
    "a frame that is only for later": subscribe(),
    "a frame that only brokers send": packed(21, {}, EPOCH, False),
    "a kind that no frame has": packed(99),
}
"""Each must end in a refusal or a closed connection, without effect on any other connection."""

AS_A_PUBLISHER: Final[dict[str, bytes]] = {
    "a length of four GiB": FOUR_GIB,
    "noise": noise(1000, seed=2),
    "a second greeting": hello("publisher"),
    "a subscription": subscribe(),
    "an entry instead of a publish": packed(25, b"", b""),
    "a head that is not an array": framed(b"\x93\x0a\xc4\x01\xc0\xc4\x00"),
    "a head with nothing in it": batch_head(),
    "a head of wrong types": batch_head("1", 0, 7, b"t", "", ""),
    "a negative sequence": batch_head(-1, False, None, "t", b"", b"\x01\0\0\0"),
    "no message": batch_head(1, False, None, "t", b"", b"", payloads=b""),
    "lengths that lie": batch_head(1, False, None, "t", b"", b"\xff\xff\xff\xff"),
    "an index beyond the topics": batch_head(1, False, None, "t\nu", b"\xff\xff", b"\x01\0\0\0"),
    "a tree of empty arrays in the head": framed(
        b"\x93\x0a" + msgpack.packb(tree_of_empty_arrays()) + b"\xc4\x00"
    ),
    "millions of topics": batch_head(1, False, None, "ab\n" * 2_000_000, b"", b"\x01\0\0\0"),
}
"""Sent after an honest greeting as a publisher. Each breaks the protocol: the connection ends."""

AS_A_SESSION: Final[dict[str, bytes]] = {
    "a length of four GiB": FOUR_GIB,
    "noise": noise(1000, seed=3),
    "an acknowledgement before the subscription": packed(28, "a", [EPOCH, 0]),
    "a filter before the subscription": packed(22, "t"),
    "a publish": publish(),
    "an attach": packed(30, "earliest"),
    "a position that is only a number": packed(20, "t", "latest", {"a": 7}, None, None, True),
    "a node name with a space": packed(20, "t", "latest", {"a b": [EPOCH, 1]}, None, None, True),
    "an unknown start": packed(20, "t", "yesterday", None, None, None, True),
}
"""Sent after an honest greeting as a session. Each breaks the protocol: the connection ends."""

AS_A_PEER: Final[dict[str, bytes]] = {
    "a length of four GiB": FOUR_GIB,
    "noise": noise(1000, seed=4),
    "a subscription": subscribe(),
    "an acknowledgement before the attach": packed(28, "a", [EPOCH, 0]),
    "an unknown claim": packed(30, "everything"),
    "a fetch with a negative budget": packed(32, 1, "earliest", -1),
}
"""Sent after an honest greeting as a peer. Each breaks the protocol: the connection ends."""


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    """`data` in pieces of `size` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))


class RawConnection:
    """A blocking connection to a broker's Unix socket or TCP port, without any rules of its own."""

    def __init__(self, address: Address, timeout_s: float = 30.0) -> None:
        unix = isinstance(address, str)
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        self.socket.settimeout(timeout_s)
        self._reader = FrameReader(MAX_FRAME)
        self._frames: list[Frame] = []
        self._beats = 0
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise

    def send(self, data: bytes) -> None:
        """Send all of `data`. An `OSError` (the other end has hung up) is for the caller."""
        self.socket.sendall(data)

    def send_in_pieces(self, data: bytes, size: int) -> None:
        """Send `data`, one system call a piece."""
        for piece in in_pieces(data, size):
            self.socket.sendall(piece)

    def greet(self, role: str = "session", **fields: Any) -> Frame | None:
        """An honest greeting, and the answer."""
        self.send(hello(role, **fields))
        return self.frame()

    def frame(self) -> Frame | None:
        """The next frame, without heartbeats; None when the connection has ended. Raises `TimeoutError`."""
        while not self._frames:
            if not self._read():
                return None
        return self._frames.pop(0)

    def beats(self, count: int) -> None:
        """Return when `count` heartbeats have come. Raises `TimeoutError`."""
        while self._beats < count:
            assert self._read(), f"the connection ended after {self._beats} heartbeats"

    def _read(self) -> bool:
        """Read once; False when the connection has ended. Raises `TimeoutError`."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except ConnectionResetError:
            return False
        for frame in map(decode, feed(self._reader, data)):
            if isinstance(frame, Heartbeat):
                self._beats += 1
            else:
                self._frames.append(frame)
        return bool(data)

    def frames_until_end(self) -> list[Frame]:
        """Every frame until the connection ends. Raises `TimeoutError` if it does not."""
        frames: list[Frame] = []
        while (frame := self.frame()) is not None:
            frames.append(frame)
        return frames

    def ended(self, timeout_s: float = 30.0) -> bool:
        """Whether the other end hangs up within `timeout_s`, after any frames."""
        deadline = time.monotonic() + timeout_s
        before = self.socket.gettimeout()
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(_READ_BYTES):
                    return True
        except TimeoutError:
            return False
        except (ConnectionResetError, BrokenPipeError):
            return True
        finally:
            self.socket.settimeout(before)
        return False

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refused_and_violating(port_for_peers: Address) -> None:
    """Come as a client, which is refused, and then break the protocol."""
    for said in (hello("session"), FOUR_GIB):
        with RawConnection(port_for_peers) as raw:
            raw.send(said)
            assert raw.ended()

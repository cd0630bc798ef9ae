"""A broker at all of its bounds at once takes at most the computed memory, and at least a share that shows the
bounds.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import pytest
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.hostile import RawConnection, publish
from tests.integration.proc import memory_kib
from tests.integration.waiting import wait_until
from tests.memory_bounds import memory_at_bounds

from pubsubd_broker.core.limits import PUBLISH_WINDOW
from pubsubd_broker.settings.sources import resolve_settings
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import Attach, Receipt, Subscribe, Welcome
from pubsubd_protocol.framing import BUFFER_BYTES
from pubsubd_protocol.positions import Epoch, Position

StartBroker = Callable[..., Broker]

MIB: Final = 1 << 20
PEER: Final = "127.0.0.1"

SMALL: Final[dict[str, Any]] = {
    "ring_bytes": 8 * MIB,
    "replica_bytes": 4 * MIB,
    "max_message": MIB // 2,
    "max_frame": MIB,
    "max_receive_bytes": 8 * MIB,
    "max_unsent_bytes": 8 * MIB,
    "max_connections": 70,
    "max_sessions": 16,
    "max_named_sessions": 8,
    "max_patterns": 64,
    "max_publishers": 16,
    "max_consumers": 16,
    "max_commands": 4,
    "http_max_connections": 8,
}


class Crowd:
    """All callers that take all that `broker` gives."""

    def __init__(self, broker: Broker, stack: ExitStack) -> None:
        self._broker = broker
        self._stack = stack

    def come(self, role: str, *, peers: bool = False, **fields: Any) -> RawConnection:
        host, _, port = self._broker.listen.rpartition(":")
        raw = RawConnection((host, int(port)) if peers else self._broker.socket)
        self._stack.enter_context(raw)
        assert isinstance(raw.greet(role, **fields), Welcome)
        return raw

    def away_publishers(self, count: int) -> None:
        for _ in range(count):
            with self.come("publisher") as raw:
                for sequence in range(PUBLISH_WINDOW):
                    raw.send(publish(sequence=sequence))
                for _ in range(PUBLISH_WINDOW):
                    assert isinstance(raw.frame(), Receipt)

    def named_sessions(self, count: int) -> None:
        for number in range(count):
            with self.come("session") as raw:
                raw.send(_subscription(f"{number:0128d}"))
                raw.frame()

    def sessions(self, count: int) -> list[RawConnection]:
        opened = [self.come("session") for _ in range(count)]
        for raw in opened:
            raw.send(_subscription(None))
        return opened

    def consumers(self, count: int) -> None:
        for number in range(count):
            raw = self.come("peer", peers=True, name=f"consumer-{number}")
            raw.send(encode(Attach(Remembered(waiting=False))))

    def unfinished(self, count: int, length: int) -> None:
        """Frames whose last byte is missing."""
        for _ in range(count):
            self.come("publisher").send(struct.pack(">I", length) + bytes(length - 1))

    def unread(self, count: int) -> None:
        """Publishers of refused messages that do not read their answers, for as long as the broker reads from them."""
        # A long topic: the refusal repeats it, so few are enough.
        topic = "no topic" * 30
        refused = b"".join(publish(topic, sequence=number) for number in range(10_000))
        left = {self.come("publisher"): memoryview(refused) for _ in range(count)}
        for raw in left:
            raw.socket.setblocking(False)
        before = None
        while left:
            taken = {raw: _taken(raw, data) for raw, data in left.items()}
            left = {raw: left[raw][size:] for raw, size in taken.items() if size is not None}
            if any(taken.values()):
                before = None
                select.select([], [raw.socket for raw in left], [], 0.1)
                continue
            # Data in the sockets may still be on its way into the broker: as long as that is so it refuses some.
            rejected = self._broker.metric("publishes_rejected_total")
            if rejected == before:
                return
            before = rejected

    def http_requests(self, count: int) -> None:
        host, _, port = self._broker.http.rpartition(":")
        for _ in range(count):
            raw = self._stack.enter_context(socket.create_connection((host, int(port))))
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 12_000)


def _taken(raw: RawConnection, data: memoryview) -> int | None:
    """The bytes of `data` that its socket takes without a wait. None: the connection ended, or all is sent."""
    taken = 0
    try:
        while taken < len(data):
            taken += raw.socket.send(data[taken : taken + 16 * 1024])
    except BlockingIOError:
        return taken
    except ConnectionError:
        return None
    return None


def _subscription(name: str | None) -> bytes:
    """As large as allowed: all patterns, each as long as allowed, and a position in many streams."""
    patterns = [f"{number:0251d}.*" for number in range(SMALL["max_patterns"] - 1)]
    elsewhere = {f"n{i:060d}": Position(Epoch(os.urandom(16)), i) for i in range(1000)}
    subscribe = Subscribe(("t.*", *patterns), "latest", elsewhere, None, name, True, elsewhere)
    return encode(subscribe)


def filling(sequence: int, size: int) -> bytes:
    """A batch of one message of `size` bytes, each time on another topic."""
    topic = f"t.{sequence:0240d}"
    return encode(
        Batch(sequence, False, None, topic, b"", pack_numbers("I", [size]), os.urandom(size))
    )


def fill(broker: Broker, batches: int, size: int, readers: Iterable[RawConnection] = ()) -> None:
    """As long as `readers` read, no data waits for them."""
    for raw in readers:
        raw.socket.setblocking(False)
    with RawConnection(broker.socket) as publisher:
        publisher.greet("publisher")
        for sequence in range(batches):
            publisher.send(filling(sequence, size))
            assert isinstance(publisher.frame(), Receipt)
            if sequence % 32 == 0:
                for raw in readers:
                    with suppress(BlockingIOError):
                        while raw.socket.recv(MIB):
                            pass


@contextmanager
def all_callers(broker: Broker, peer: Broker) -> Iterator[None]:
    with ExitStack() as stack:
        crowd = Crowd(broker, stack)
        crowd.away_publishers(SMALL["max_publishers"])
        crowd.named_sessions(SMALL["max_named_sessions"])
        sessions = crowd.sessions(SMALL["max_sessions"])
        crowd.consumers(SMALL["max_consumers"])
        wait_until(lambda: broker.metric("sessions") == SMALL["max_sessions"], what="sessions")
        # Small entries on many topics, then large ones that are not read: they stay where they are.
        for each in (broker, peer):
            fill(each, 2500, 100, sessions)
            fill(each, 24, MIB // 2)
        for _ in range(SMALL["max_commands"]):
            crowd.come("control")
        large = SMALL["max_receive_bytes"] // (MIB - BUFFER_BYTES)
        crowd.unfinished(large, MIB - 4)

        def is_full() -> bool:
            """Readers that keep too much are leaving meanwhile: others take their places."""
            sessions: int = SMALL["max_sessions"] - int(broker.metric("sessions"))
            crowd.sessions(sessions)
            missing: int = SMALL["max_connections"] - int(broker.metric("connections"))
            crowd.unread(max(0, missing))
            return sessions == 0 and missing <= 0

        wait_until(is_full, 240, what="connections")
        crowd.http_requests(SMALL["http_max_connections"] - 1)
        yield


@pytest.mark.timeout(300)
def test_all_bounds_at_once_take_at_most_the_computed_memory(start_broker: StartBroker) -> None:
    peer = start_broker(
        "b", command=PUBSUBD, max_frame=MIB, max_message=MIB // 2, peer_timeout="1m"
    )
    # Hundreds of thousands of refusals are not measured here: each kind is logged once.
    broker = start_broker(
        "a",
        command=PUBSUBD,
        peers=[peer.listen],
        pace=0,
        peer_timeout="1m",
        log_repeat="1h",
        **SMALL,
    )
    wait_until(lambda: broker.metric("peer_connected") == 1, what="the peer")
    flags: dict[str, str | bool | tuple[str, ...] | None] = {
        **{name.replace("_", "-"): str(value) for name, value in SMALL.items()},
        "node": "a",
        "socket": broker.socket,
        "peer": (f"{PEER}:1",),
    }
    found = resolve_settings(flags, {}, host="box", uid=os.getuid(), terminal=False, folder="/")
    settings = found.settings
    computed = sum(memory_at_bounds(settings).values())
    before = memory_kib(broker.pid)
    with all_callers(broker, peer):
        status = broker.status()
        taken = (memory_kib(broker.pid) - before) * 1024
    assert status["ring"]["bytes"] > 0.9 * SMALL["ring_bytes"]
    assert status["peers"][0]["replica"]["bytes"] > 0.8 * SMALL["replica_bytes"]
    assert status["publishers"] >= SMALL["max_publishers"]
    assert len(status["sessions"]) == SMALL["max_sessions"] + SMALL["max_named_sessions"]
    assert computed / 8 < taken < computed, f"{taken / MIB:.0f} of {computed / MIB:.0f} MiB"

"""A broker dials the addresses that it is told. A false answer there costs it that link only."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from tests.integration import hostile
from tests.integration.broker import Broker
from tests.integration.commands import ok
from tests.integration.proc import steady_memory
from tests.integration.steps import StartBroker
from tests.integration.waiting import wait_until
from tests.unit.protocol.samples import SAMPLES
from tests.unit.protocol.strategies import batch_of

from pubsubd_protocol.attach import Reason, Resume
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry, place_batch
from pubsubd_protocol.frames import (
    Attached,
    CursorExpired,
    Fetched,
    Refused,
    Skip,
    Welcome,
)
from pubsubd_protocol.positions import Epoch, StreamView

NODE: Final = "liar-00"
"""The name of each liar has its own number: a broker does not read from a second producer of one name."""
LIFE: Final = hostile.EPOCH
OTHER: Final = Epoch(bytes(16))
WELCOME: Final = Welcome(1, NODE, LIFE, 2**20, 2**24, 128)
EMPTY: Final = StreamView(LIFE, (), 0, 0)
ATTACHED: Final = Attached(EMPTY, Resume(0), None)


def entry(first: int = 0, node: str = NODE, epoch: Epoch = LIFE, to: str | None = None) -> Entry:
    batch = batch_of([("t", b"x")], sequence=1, to=to)
    return place_batch(batch, node, epoch, first, 0, bytes(16))


def said(*frames: Any) -> bytes:
    return b"".join(each if isinstance(each, bytes) else encode(each) for each in frames)


ANSWERS: Final[dict[str, bytes]] = {
    **hostile.INSTEAD_OF_A_GREETING,
    **{f"{kind} before the greeting": said(SAMPLES[kind]) for kind in ("Hello", "Entry", "Ack")},
    **{
        f"{kind} after the greeting": said(WELCOME, SAMPLES[kind])
        for kind in SAMPLES.keys() - {"Attached", "Heartbeat", "Refused"}
    },
    **{
        f"{kind} after the attach": said(WELCOME, ATTACHED, SAMPLES[kind])
        for kind in SAMPLES.keys() - {"Heartbeat", "Refused"}
    },
    "a version that was not offered": said(Welcome(2, NODE, LIFE, 2**20, 2**24, 128)),
    "a length of four GiB after the greeting": said(WELCOME, hostile.FOUR_GIB),
    "noise after the attach": said(WELCOME, ATTACHED, hostile.noise(1000)),
    "an answer against its own view": said(WELCOME, Attached(EMPTY, Reason.AHEAD, None)),
    "a place that it does not have": said(WELCOME, Attached(EMPTY, Resume(7), None)),
    "a hole": said(WELCOME, ATTACHED, entry(5)),
    "a place twice": said(WELCOME, ATTACHED, entry(0), entry(0)),
    "a skipped hole": said(WELCOME, ATTACHED, Skip(NODE, LIFE, 3, 9)),
    "another node's message": said(WELCOME, ATTACHED, entry(node="other")),
    "our own message": said(WELCOME, ATTACHED, entry(node="a")),
    "another epoch's message": said(WELCOME, ATTACHED, entry(epoch=OTHER)),
    "a message for another node": said(WELCOME, ATTACHED, entry(to="other")),
    "an expiry that goes back": said(
        WELCOME, ATTACHED, entry(0), CursorExpired(NODE, Reason.OVERWRITTEN, 1, EMPTY)
    ),
    "an answer to what was not asked": said(WELCOME, ATTACHED, Fetched(3, EMPTY, Resume(0), 1)),
}


class Liar:
    """Answers each caller with the same bytes, and listens until the caller hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    connection.sendall(self._answer)
                    while connection.recv(65536):
                        pass


@pytest.fixture
def liars() -> Iterator[Callable[[bytes], Liar]]:
    with contextlib.ExitStack() as stack:

        def make(answer: bytes) -> Liar:
            liar = Liar(answer)
            stack.callback(liar.close)
            return liar

        yield make


def test_a_producers_lie_ends_its_link_only(
    start_broker: StartBroker, liars: Callable[[bytes], Liar]
) -> None:
    honest = start_broker("honest")
    told = {
        name: liars(answer.replace(NODE.encode(), f"liar-{number:02}".encode()))
        for number, (name, answer) in enumerate(ANSWERS.items())
    }
    a = start_broker("a", peers=[honest.listen, *(liar.address for liar in told.values())])
    with steady_memory(a.pid, 128 * 1024):
        missing = dict(told)

        def violated() -> bool:
            labels = {
                line["connection"] for line in list(a.logs) if line["event"] == "protocol.violated"
            }
            for name, liar in list(missing.items()):
                if liar.address in labels:
                    del missing[name]
            return not missing

        wait_until(violated, 30, f"a violation by each of {missing}")
    assert_goes_on(a, honest)
    for row in a.status()["peers"]:
        assert row["node"] == "honest" or row["error"], row
    assert not [line for line in a.logs if line.get("level") in (None, "error")]


def test_a_refusal_is_not_a_violation_and_gives_its_reason(
    start_broker: StartBroker, liars: Callable[[bytes], Liar]
) -> None:
    liar = liars(said(Refused("closing_time", "come back tomorrow")))
    a = start_broker("a", peers=[liar.address])
    line = a.wait_log("peer.unreachable", address=liar.address)
    assert line["error"] == "come back tomorrow (closing_time)"
    assert "come back tomorrow" in a.status()["not_ready"][0]
    assert a.metric("protocol_errors_total") == 0


def test_a_producer_does_not_set_its_readers_limit_of_a_frame(
    start_broker: StartBroker, liars: Callable[[bytes], Liar]
) -> None:
    liar = liars(said(Welcome(1, NODE, LIFE, 2**20, 2**40, 128), ATTACHED, hostile.FOUR_GIB))
    a = start_broker("a", peers=[liar.address])
    line = a.wait_log("peer.unreachable", address=liar.address)
    assert str(2**40) in line["error"]
    assert "--max-frame" in a.status()["not_ready"][0]


def assert_goes_on(a: Broker, honest: Broker) -> None:
    ok("publish", "t", "honest word", "--socket", honest.socket)
    out = ok("subscribe", "t", "--start", "earliest", "--count", "1", "--socket", a.socket)
    assert out == "t honest word\n"

"""An end that breaks the protocol is cut off alone, and is told, logged and counted. No other connection notices."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from tests.integration import hostile
from tests.integration.broker import Broker
from tests.integration.hostile import RawConnection, hello, in_pieces, publish, status, subscribe
from tests.integration.proc import descriptors, steady_memory
from tests.integration.relay import Address
from tests.integration.waiting import wait_until
from tests.unit.protocol.samples import SAMPLES

from pubsubd_protocol.attach import At, Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Attached,
    Frame,
    Receipt,
    Refused,
    Report,
    Subscribe,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.positions import Epoch, Position

MEMORY_KIB = 48 * 1024
"""The largest allowed frame, unfinished and copied once. A bomb that goes off takes hundreds of MiB."""

Door = Literal["unix", "tcp"]
DOORS: tuple[Door, ...] = ("unix", "tcp")

_names = (f"stranger-{number}" for number in itertools.count())


def door_of(broker: Broker, door: Door) -> Address:
    host, _, port = broker.listen.rpartition(":")
    return broker.socket if door == "unix" else (host, int(port))


def next_of(raw: RawConnection, kind: type[Frame]) -> Frame | None:
    """The next frame of this kind; other frames on the way are skipped."""
    while (frame := raw.frame()) is not None and not isinstance(frame, kind):
        pass
    return frame


class Witness:
    """Broker a with honest connections: a publisher and a session on it, a peer and a session on that."""

    def __init__(self, a: Broker, b: Broker) -> None:
        self.a, self.b = a, b
        self._sequence = 0
        self._publisher = RawConnection(a.socket)
        assert isinstance(self._publisher.greet("publisher"), Welcome)
        self._readers = [RawConnection(broker.socket) for broker in (a, b)]
        for reader in self._readers:
            reader.greet("session")
            reader.send(subscribe("witness"))
            assert isinstance(reader.frame(), Subscribed)

    def assert_goes_on(self) -> int:
        """Another message is accepted, and arrives everywhere over the same connections. Returns its offset."""
        self._sequence += 1
        self._publisher.send(publish("witness", sequence=self._sequence))
        receipt = self._publisher.frame()
        assert isinstance(receipt, Receipt)
        for reader in self._readers:
            entry = next_of(reader, Entry)
            assert isinstance(entry, Entry)
            assert entry.first == receipt.first
        assert self.b.metric("peer_reconnects_total") == 0
        return receipt.first

    def close(self) -> None:
        for each in (self._publisher, *self._readers):
            each.close()


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    folder = tmp_path_factory.mktemp("hostile")
    # The default time-outs: a process that gets no processor for a second is not cut off by its peer.
    times: dict[str, Any] = {"heartbeat": None, "peer_timeout": None}
    with Broker(folder, "a", **times) as a, Broker(folder, "b", [a.listen], **times) as b:
        wait_until(b.ready)
        witness = Witness(a, b)
        yield witness
        witness.close()
        for broker in (a, b):
            assert broker.stop() == 0
            assert not [line for line in broker.logs if line.get("level") in (None, "error")]


@contextlib.contextmanager
def expect_violation(witness: Witness, kind: str | None = None) -> Iterator[None]:
    """Inside, one violation is logged and counted, memory stays, and no other connection is disturbed."""
    a = witness.a
    before, mark = a.metric("protocol_errors_total"), a.mark()
    with steady_memory(a.pid, MEMORY_KIB):
        yield
        expected: dict[str, Any] = {} if kind is None else {"kind": kind}
        line = a.wait_log("protocol.violated", since=mark, **expected)
        witness.assert_goes_on()
    assert line["detail"]
    assert a.metric("protocol_errors_total") == before + 1
    assert a.metric("protocol_errors_total", kind=line["kind"]) >= 1


def attack(raw: RawConnection, data: bytes) -> None:
    """Send all that the broker takes, until it cuts the connection."""
    with contextlib.suppress(OSError):
        raw.send(data)
    assert raw.ended()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", hostile.INSTEAD_OF_A_GREETING)
def test_an_invalid_greeting_ends_its_connection_only(
    witness: Witness, door: Door, name: str
) -> None:
    with expect_violation(witness), RawConnection(door_of(witness.a, door)) as raw:
        attack(raw, hostile.INSTEAD_OF_A_GREETING[name])


@pytest.mark.parametrize(
    ("door", "role", "name"),
    [
        *(("unix", "publisher", name) for name in hostile.AS_A_PUBLISHER),
        *(("unix", "session", name) for name in hostile.AS_A_SESSION),
        *(("tcp", "peer", name) for name in hostile.AS_A_PEER),
    ],
)
def test_a_lie_after_the_greeting_ends_its_connection_only(
    witness: Witness, door: Door, role: str, name: str
) -> None:
    lies = {
        "publisher": hostile.AS_A_PUBLISHER,
        "session": hostile.AS_A_SESSION,
        "peer": hostile.AS_A_PEER,
    }[role]
    before = witness.assert_goes_on()
    with expect_violation(witness), RawConnection(door_of(witness.a, door)) as raw:
        node = next(_names) if role == "peer" else ""
        assert isinstance(raw.greet(role, name=node), Welcome)
        attack(raw, lies[name])
    assert witness.assert_goes_on() == before + 2, "nothing of it is in the stream"


STAGES: dict[str, tuple[Door, str | None, tuple[bytes, ...], frozenset[str]]] = {
    "client, not greeted": ("unix", None, (), frozenset({"Hello"})),
    "peer, not greeted": ("tcp", None, (), frozenset({"Hello"})),
    "publisher": ("unix", "publisher", (), frozenset({"Batch", "Heartbeat"})),
    "session, not subscribed": ("unix", "session", (), frozenset({"Subscribe", "Heartbeat"})),
    "session": ("unix", "session", (subscribe("t"),), frozenset({"SetFilter", "Heartbeat"})),
    "command": ("unix", "control", (), frozenset({"Query"})),
    "peer, not attached": ("tcp", "peer", (), frozenset({"Attach", "Heartbeat"})),
    "peer": (
        "tcp",
        "peer",
        (encode(Attach(Remembered(waiting=False))),),
        frozenset({"Fetch", "Heartbeat"}),
    ),
}
"""The door, the role, the honest frames before, and the kinds of frames that are allowed then."""


@pytest.mark.parametrize("stage", STAGES)
def test_every_frame_at_the_wrong_time_is_a_violation(witness: Witness, stage: str) -> None:
    door, role, said, right = STAGES[stage]
    for kind in SAMPLES.keys() - right - {"Refused"}:
        with expect_violation(witness), RawConnection(door_of(witness.a, door)) as raw:
            if role is not None:
                name = next(_names) if role == "peer" else ""
                assert isinstance(raw.greet(role, name=name), Welcome)
            for each in said:
                raw.send(each)
                assert raw.frame() is not None
            attack(raw, encode(SAMPLES[kind]))


@pytest.mark.parametrize("door", DOORS)
def test_a_frame_cut_short_is_forgotten(witness: Witness, door: Door) -> None:
    before = witness.assert_goes_on()
    held = descriptors(witness.a.pid)
    role, whole = {"unix": ("publisher", publish()), "tcp": ("peer", encode(SAMPLES["Attach"]))}[
        door
    ]
    for cut in (1, 3, 4, 5, len(whole) - 1):
        with RawConnection(door_of(witness.a, door)) as raw:
            raw.send(hello(role)[:cut])
        with RawConnection(door_of(witness.a, door)) as raw:
            raw.greet(role, name=next(_names))
            raw.send(whole[:cut])
    wait_until(lambda: descriptors(witness.a.pid) <= held, what="the end of every connection")
    assert witness.assert_goes_on() == before + 1


def test_connections_reset_at_once_are_not_logged(witness: Witness) -> None:
    no_linger = struct.pack("ii", 1, 0)
    for _ in range(100):
        with RawConnection(door_of(witness.a, "tcp")) as raw:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    witness.assert_goes_on()


@pytest.mark.parametrize(("door", "role"), [("unix", "session"), ("tcp", "peer")])
@pytest.mark.parametrize("versions", [(0, 0), (2, 9)])
def test_an_unknown_version_is_refused_in_one_log_line(
    witness: Witness, door: Door, role: str, versions: tuple[int, int]
) -> None:
    a = witness.a
    before, mark = a.metric("connections_refused_total", reason="version"), a.mark()
    with RawConnection(door_of(a, door)) as raw:
        lowest, highest = versions
        answer = raw.greet(role, name=next(_names), lowest=lowest, highest=highest)
        assert isinstance(answer, Refused)
        assert answer.code == "version"
        assert f"{lowest}..{highest}" in answer.detail
        assert raw.ended()
    witness.assert_goes_on()
    assert a.metric("connections_refused_total", reason="version") == before + 1
    # The log is written beside the loop: a line may come after its counter.
    a.wait_log("connection.refused", code="version", since=mark)
    said = [line["event"] for line in a.logs[mark:] if "version" in str(line)]
    assert said == ["connection.refused"]


@pytest.mark.parametrize(
    ("door", "role"),
    [("tcp", "publisher"), ("tcp", "session"), ("tcp", "control"), ("unix", "peer")],
)
def test_a_role_at_the_wrong_door_is_refused(witness: Witness, door: Door, role: str) -> None:
    before = witness.a.metric("connections_refused_total", reason="role")
    with RawConnection(door_of(witness.a, door)) as raw:
        answer = raw.greet(role, name=next(_names))
        assert isinstance(answer, Refused)
        assert answer.code == "role"
        assert raw.ended()
    witness.assert_goes_on()
    assert witness.a.metric("connections_refused_total", reason="role") == before + 1


@pytest.mark.parametrize("lie", ["beyond", "back", "another epoch", "another stream"])
def test_a_peers_false_acknowledgement_cuts_the_link(witness: Witness, lie: str) -> None:
    offset = witness.assert_goes_on()
    name = next(_names)
    with RawConnection(door_of(witness.a, "tcp")) as raw:
        assert isinstance(raw.greet("peer", name=name), Welcome)
        raw.send(encode(Attach(Remembered(waiting=False))))
        attached = next_of(raw, Attached)
        assert isinstance(attached, Attached)
        epoch = attached.view.epoch
        offset = witness.assert_goes_on()
        assert isinstance(next_of(raw, Entry), Entry)
        raw.send(encode(Ack("a", Position(epoch, offset + 1))))
        wait_until(lambda: cursor_of(witness.a, name) == offset + 1)
        with expect_violation(witness, "ack"):
            lies = {
                "beyond": Ack("a", Position(epoch, offset + 5)),
                "back": Ack("a", Position(epoch, offset)),
                "another epoch": Ack("a", Position(hostile.EPOCH, offset + 1)),
                "another stream": Ack("b", Position(epoch, offset + 1)),
            }
            attack(raw, encode(lies[lie]))
    assert cursor_of(witness.a, name) == offset + 1, "the cursor has not moved"


def cursor_of(broker: Broker, consumer: str) -> int | None:
    rows = [row["cursor"] for row in broker.status()["consumers"] if row["consumer"] == consumer]
    return rows[0] if rows else None


@pytest.mark.parametrize("lie", ["beyond", "back", "another stream"])
def test_a_named_sessions_false_acknowledgement_moves_nothing(witness: Witness, lie: str) -> None:
    name = next(_names)
    opening = encode(Subscribe(("witness",), "latest", None, None, name, True))
    with RawConnection(witness.a.socket) as raw:
        raw.greet("session")
        raw.send(opening)
        assert isinstance(raw.frame(), Subscribed)
        offset = witness.assert_goes_on()
        entry = next_of(raw, Entry)
        assert isinstance(entry, Entry)
        raw.send(encode(Ack("a", Position(entry.epoch, offset + 1))))
        with expect_violation(witness, "ack"):
            lies = {
                "beyond": Ack("a", Position(entry.epoch, offset + 5)),
                "back": Ack("a", Position(entry.epoch, offset)),
                "another stream": Ack("z", Position(entry.epoch, offset + 1)),
            }
            attack(raw, encode(lies[lie]))
    wait_until(lambda: witness.a.metric("sessions") == 1, what="the end of the session")
    with RawConnection(witness.a.socket) as raw:
        raw.greet("session")
        raw.send(opening)
        back = raw.frame()
        assert isinstance(back, Subscribed)
        assert back.resumed
        assert back.positions["a"] == Position(entry.epoch, offset + 1)


def test_honest_bytes_one_at_a_time_are_honest(witness: Witness) -> None:
    with RawConnection(witness.a.socket) as raw:
        raw.send_in_pieces(hello("control"), 1)
        assert isinstance(raw.frame(), Welcome)
        for piece in in_pieces(hostile.status() * 3, 1):
            raw.send(piece)
        assert all(isinstance(raw.frame(), Report) for _ in range(3))
    witness.assert_goes_on()


def test_a_session_reads_on_behind_a_split_frame(witness: Witness) -> None:
    first = witness.assert_goes_on()
    with RawConnection(door_of(witness.a, "tcp")) as raw:
        raw.greet("peer", name=next(_names))
        status = witness.a.status()
        start = Position(Epoch(bytes.fromhex(status["epoch"])), first)
        raw.send_in_pieces(encode(Attach(At(start))), 3)
        entry = next_of(raw, Entry)
        assert isinstance(entry, Entry)
        assert entry.first == first


def test_a_silent_connection_is_closed_after_the_deadline(
    witness: Witness, start_broker: Callable[..., Broker]
) -> None:
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(RawConnection(door_of(witness.a, door), timeout_s=20))
            for door in DOORS
        ]
        halting = stack.enter_context(RawConnection(door_of(witness.a, "tcp"), timeout_s=20))
        halting.send(hello("peer", name="halting")[:9])
        # And the other way round: a broker dials an end that never sends a byte.
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        mute.settimeout(20)
        address = "{}:{}".format(*mute.getsockname())
        dialler = start_broker("c", peers=[address])
        first = stack.enter_context(mute.accept()[0])
        for raw in (*silent, halting):
            refused = raw.frame()
            assert isinstance(refused, Refused)
            assert refused.code == "handshake_timeout"
            assert raw.ended()
        stack.enter_context(mute.accept()[0])
        assert first.recv(10_000)
        assert not dialler.ready()
        (reason,) = dialler.status()["not_ready"]
        assert address in reason
        assert "greeting" in reason
    assert witness.a.metric("connections_refused_total", reason="handshake_timeout") == 3
    witness.assert_goes_on()


def asks_until_full(raw: RawConnection, role: str) -> int:
    """The number of frames until the other end took no more. The kernel's buffers and its own take some."""
    for number in range(1, 400_000):
        try:
            raw.send(status() if role == "control" else publish("t", sequence=number))
        except TimeoutError:
            return number
    raise AssertionError("it is read from without end")


@pytest.mark.parametrize("role", ["publisher", "control"])
def test_a_client_that_takes_no_answers_costs_no_memory(witness: Witness, role: str) -> None:
    with RawConnection(witness.a.socket, timeout_s=3.0) as raw, steady_memory(witness.a.pid, 16384):
        assert isinstance(raw.greet(role), Welcome)
        asked = asks_until_full(raw, role)
        witness.assert_goes_on()
        # The last frame may be cut short. All frames before it are answered, in order.
        raw.socket.settimeout(10.0)
        for number in range(1, asked):
            answer = raw.frame()
            assert isinstance(answer, Receipt | Report)
            if isinstance(answer, Receipt):
                assert answer.sequence == number


def test_an_unfinished_frame_goes_with_its_connection(witness: Witness) -> None:
    with steady_memory(witness.a.pid, MEMORY_KIB):
        for _ in range(40):
            with RawConnection(witness.a.socket) as raw:
                assert isinstance(raw.greet("publisher"), Welcome)
                raw.send(struct.pack(">I", 12 * 2**20) + bytes(8 * 2**20))
    witness.assert_goes_on()


def test_only_publishers_take_the_memory_of_a_long_frame(witness: Witness) -> None:
    with expect_violation(witness, "frame_length"), RawConnection(door_of(witness.a, "tcp")) as raw:
        raw.greet("peer", name=next(_names))
        raw.send(struct.pack(">I", 2**20) + bytes(1000))
        assert raw.ended()

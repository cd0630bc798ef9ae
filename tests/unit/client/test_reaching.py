"""Reaching a broker: the error names one that is away, forbidden or silent, or that turns all clients away."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.other_users import STRANGER, needs_root
from tests.unit.client.fake_broker import LIMIT_S, FakeBroker

import pubsubd
from pubsubd import control
from pubsubd.connection import BrokerConnection, BrokerDialler
from pubsubd.unavailable import not_reached
from pubsubd_protocol import codec
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.frames import Frame, Heartbeat, Refused

FULL = Refused("too_many_connections", "4096 connections are open, that is the limit")


class Deaf:
    """A receiver that is not interested."""

    def received(self, connection: BrokerConnection, frame: Frame) -> None: ...

    def lost(self, connection: BrokerConnection, why: PubSubError) -> None: ...

    def writable(self, connection: BrokerConnection) -> None: ...


def listening(path: str, queue: int = 8) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(queue)
    return listener


@pytest.mark.parametrize("queue", [8, 0], ids=["not taken up", "queue full"])
@async_test
async def test_one_that_does_not_answer_is_not_one_that_is_not_there(
    queue: int, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    before = socket.socket(socket.AF_UNIX)
    with listening(path, queue), before:
        before.connect(path)
        with pytest.raises(
            pubsubd.BrokerUnavailable, match=r"a process listens .* 0\.2 s"
        ) as caught:
            await control.query(path, "status", timeout_s=0.2)
        assert "pubsubd start" not in str(caught.value)
        with pytest.raises(pubsubd.BrokerUnavailable, match="a process listens"):
            await pubsubd.connect(path, connect_timeout_s=0.1)


@async_test
async def test_a_process_shows_that_it_lives_with_its_first_word(tmp_path: Path) -> None:
    """Else one that hangs in its first moments would keep its connection, and its name, for good."""
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path) as client,
        client.subscribe("t"),
    ):
        await broker.until(lambda: broker.sessions[0].beats and broker.publishers[0].beats)


@async_test
async def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    before = socket.socket(socket.AF_UNIX)
    with listening(path, 0) as listener, before:
        before.connect(path)
        asking = asyncio.create_task(control.query(path, "status", timeout_s=LIMIT_S))
        await asyncio.sleep(0.05)
        assert not asking.done()
        listener.accept()[0].close()
        with await asyncio.to_thread(_accept, listener) as taken:
            taken.sendall(codec.encode(FULL))
        with pytest.raises(pubsubd.ConnectionRefused):
            await asking


def _accept(listener: socket.socket) -> socket.socket:
    return listener.accept()[0]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("role", ["publisher", "session", "control"])
def test_a_refusal_is_read_though_the_broker_hung_up_first(
    role: str, loop: str, tmp_path: Path
) -> None:
    async def refused() -> str:
        path = str(tmp_path / "s")
        with listening(path) as listener:
            dialler = BrokerDialler(path, 5.0)
            ours = socket.socket.connect

            def connect(self: socket.socket, address: str) -> None:
                ours(self, address)
                taken, _ = listener.accept()
                with taken:
                    taken.sendall(codec.encode(FULL))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(socket.socket, "connect", connect)
                with pytest.raises(pubsubd.ConnectionRefused) as caught:
                    await dialler.dial(role, Deaf())
            return caught.value.code

    if loop == "uvloop":
        import uvloop

        assert uvloop.run(refused()) == "too_many_connections"
    else:
        assert asyncio.run(refused()) == "too_many_connections"


@async_test
async def test_one_that_hangs_up_without_a_word_was_there(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(path) as listener:
        dialling = asyncio.create_task(pubsubd.connect(path)._open())
        taken = await asyncio.to_thread(_accept, listener)
        taken.close()
        with pytest.raises(pubsubd.BrokerUnavailable, match="connection was lost") as caught:
            await dialling
    assert "pubsubd start" not in str(caught.value)


@async_test
@pytest.mark.slow
async def test_a_cancelled_attempt_leaves_no_complaint_at_any_moment(
    tmp_path: Path,
) -> None:
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    path = str(tmp_path / "s")
    dialler = BrokerDialler(path, LIMIT_S)
    with listening(path, queue=64):
        for turns in range(10):
            dialling = asyncio.create_task(dialler.dial("session", Deaf()))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            assert dialling.cancelled()
            del dialling
            # The attempt that was begun ends, and the test looks at its resources.
            for _ in range(3):
                await asyncio.sleep(0)
            gc.collect()
    assert complaints == []


def test_what_helps_depends_on_what_happened(tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    def said(number: int) -> str:
        return str(not_reached(path, OSError(number, os.strerror(number))))

    for missing in (errno.ENOENT, errno.ECONNREFUSED):
        assert "start one with `pubsubd start`" in said(missing)
        assert path in said(missing)
    forbidden = said(errno.EACCES)
    assert f"belongs to uid {os.stat(tmp_path).st_uid}" in forbidden
    assert f"this process is uid {os.getuid()}" in forbidden
    for there in (errno.EACCES, errno.EPROTOTYPE):
        assert "pubsubd start" not in said(there)


@pytest.fixture
def below_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The default folder of a user who has none yet; that is whom `os.getuid` says we are. It can be made by the test."""
    uid = 2_000_000_000 + os.getpid()
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.delenv("PUBSUBD_SOCKET", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = Path(f"/tmp/pubsubd-{uid}")
    yield folder
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def ask(socket: str | None) -> str:
    """The error of an application that connects by default, or of a command that connects to `socket`."""

    async def dial() -> None:
        if socket is None:
            await pubsubd.connect()
        else:
            await control.query(socket, "status", timeout_s=0.1)

    with pytest.raises(pubsubd.BrokerUnavailable) as caught:
        asyncio.run(dial())
    return caught.value.detail


@needs_root
@pytest.mark.parametrize("default", [True, False], ids=["client", "command"])
def test_whoever_was_faster_below_tmp_is_not_taken_for_our_broker(
    below_tmp: Path, default: bool
) -> None:
    below_tmp.mkdir(0o755)
    path = str(below_tmp / "pubsubd.sock")
    with listening(path) as listener:
        listener.settimeout(0)
        os.chown(below_tmp, STRANGER, STRANGER)
        said = ask(None if default else path)
        assert f"{below_tmp} belongs to uid {STRANGER}, so another user may listen there" in said
        assert f"this process is uid {os.getuid()}" in said
        with pytest.raises(BlockingIOError):
            listener.accept()
        # Ours or root's: we ask, and wait for the answer.
        for owner in (0, os.getuid()):
            os.chown(below_tmp, owner, owner)
            assert "a process listens there" in ask(path)
            listener.accept()[0].close()


@needs_root
def test_a_link_below_tmp_is_not_followed(below_tmp: Path, tmp_path: Path) -> None:
    with listening(str(tmp_path / "pubsubd.sock")) as listener:
        listener.settimeout(0)
        below_tmp.symlink_to(tmp_path)
        assert "is not a folder, so another user may listen there" in ask(None)
        os.lchown(below_tmp, STRANGER, STRANGER)
        assert f"belongs to uid {STRANGER}" in ask(None)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_where_nobody_has_been_below_tmp_a_broker_is_to_be_started(below_tmp: Path) -> None:
    assert "pubsubd start" in ask(None)
    assert not below_tmp.exists()


@needs_root
@async_test
async def test_it_is_looked_at_each_time_a_client_dials(below_tmp: Path) -> None:
    below_tmp.mkdir(0o700)
    lost = asyncio.Event()
    async with FakeBroker(below_tmp) as broker:
        os.rename(broker.path, below_tmp / "pubsubd.sock")
        async with pubsubd.connect(publish_timeout_s=0.3, on_lost=lambda _: lost.set()) as client:
            await client.publish("t", 1)
            os.chown(below_tmp, STRANGER, STRANGER)
            broker.publishers[0].cut()
            await lost.wait()
            with pytest.raises(pubsubd.PubSubError, match=f"belongs to uid {STRANGER}"):
                await client.publish("t", 2)
        assert len(broker.publishers) == 1


@async_test
async def test_a_path_that_is_too_long_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(pubsubd.BrokerUnavailable, match="path too long"):
        await pubsubd.connect(tmp_path / ("x" * 200))


@async_test
async def test_what_comes_while_saying_goodbye_is_dropped_at_once() -> None:
    connection = BrokerConnection("/socket", Deaf())
    connection.fail(pubsubd.ClientClosed("closed"))
    beats = codec.encode(Heartbeat(1)) * 50
    for _ in range(100):
        space = connection.get_buffer(-1)
        assert len(space) < 100_000
        count = min(len(space), len(beats))
        space[:count] = beats[:count]
        connection.buffer_updated(count)
        assert connection._reader.unfinished < len(beats)


@async_test
async def test_opening_twice_at_once_opens_once(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = pubsubd.connect(broker.path)
        one, other = await asyncio.gather(client._open(), client._open())
        assert one is other is client
        assert len(broker.publishers) == 1
        await client.publish("t", 1)
        await client.close()


@async_test
async def test_a_client_that_is_closed_while_it_opens_stays_closed(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker:
        client = pubsubd.connect(broker.path)
        subscription = client.subscribe("t")
        opening = asyncio.create_task(client._open())
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(pubsubd.ClientClosed):
            await opening
        assert client.state is pubsubd.State.CLOSED
        with pytest.raises(pubsubd.ClientClosed):
            await subscription
        assert broker.sessions == []


class Pump(Deaf):
    """A receiver that writes on as soon as it may; by then the other end has gone."""

    def __init__(self, theirs: socket.socket) -> None:
        self.theirs = theirs

    def writable(self, connection: BrokerConnection) -> None:
        self.theirs.close()
        connection.write([b"more"])


@async_test
@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_a_transport_whose_last_write_fails_is_ended_once(says_goodbye: bool) -> None:
    """asyncio would end it twice, and log a traceback: its last bytes go out, it asks for more, and these fail."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    connection = BrokerConnection("/socket", Pump(theirs))
    await loop.create_connection(lambda: connection, sock=ours)
    while not connection.choked:
        connection.write([bytes(65_536)])
    if says_goodbye:
        theirs.shutdown(socket.SHUT_WR)
    while theirs.fileno() >= 0:
        with contextlib.suppress(BlockingIOError):
            theirs.recv(2**20)
        await asyncio.sleep(0)
    with pytest.raises(PubSubError):
        await connection.welcome
    await asyncio.sleep(0)
    assert complaints == []

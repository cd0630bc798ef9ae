"""A dial or an accept that is given up after it was open: uvloop does not tell, so our code tells the link's host."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from tests.certificates import Authority
from tests.unit.broker_shell.test_tls_transport import End, on_uvloop, until

from pubsubd_broker.broker import Broker
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.settings.values import Settings
from pubsubd_broker.sockets.link import Link
from pubsubd_broker.sockets.listener import Listener
from pubsubd_broker.trust.peer_trust import PeerTrust
from pubsubd_broker.trust.tls import Tls
from pubsubd_protocol.addresses import Address

# Objects of the tests stand in for connections.
pytestmark = pytest.mark.interpreted


class Broken(asyncio.Transport):
    """A transport whose handle uvloop has closed: it does not say so, and raises."""

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def writelines(self, list_of_data: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    def pause_reading(self) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    def close(self) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

    abort = close

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


class Counting(End):
    def __init__(self) -> None:
        super().__init__()
        self.link = Link(self, self.opened)
        self.losses = 0

    def lost(self, link: Link) -> None:
        super().lost(link)
        self.losses += 1


@on_uvloop
async def test_a_write_to_a_dead_transport_ends_its_link_once() -> None:
    end = Counting()
    end.link.connection_made(Broken())
    end.link.write([b"x"])
    assert end.losses == 1
    end.link.write([b"x"])
    end.link.regulate()
    end.link.close()
    end.link.abort()
    end.link.connection_lost(None)
    assert end.losses == 1
    assert end.link.unsent_bytes == 0


@on_uvloop
async def test_a_link_given_up_before_it_opens_never_tells_its_host() -> None:
    end = Counting()
    end.link.abort()
    ours, theirs = socket.socketpair()
    with theirs:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: end.link, ours)
        assert await loop.run_in_executor(None, theirs.recv, 1) == b""
    assert not end.link.eof_received(), (
        "the end of what the other one says does not matter any more"
    )
    assert not end.made
    assert end.losses == 0


def broker_of(tmp_path: Path, peer: tuple[str, int], tls: Tls | None) -> Broker:
    settings = Settings(Config("a"), str(tmp_path / "s"), peers=(peer,))
    return Broker(settings, PeerTrust(None, tls))


@pytest.mark.parametrize("encrypted", [False, True])
@on_uvloop
async def test_a_dial_cancelled_as_it_succeeds_is_a_lost_link(
    tmp_path: Path, encrypted: bool
) -> None:
    tls = None
    if encrypted:
        files = Authority(tmp_path).certificate("a")
        tls = Tls(files.cert, files.key, files.ca)
    ended = asyncio.Event()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    server = await asyncio.start_server(taken, "127.0.0.1", 0, ssl=tls.server if tls else None)
    broker = broker_of(tmp_path, server.sockets[0].getsockname(), tls)
    opened = broker.dialled
    links: list[Link] = []

    def dialled_and_stopped(link: Link, target: object) -> Connection:
        # The stop comes in the very turn in which the dial succeeds.
        (dial,) = broker._dialler.under_way
        dial.cancel()
        links.append(link)
        return opened(link, broker.node.targets[0])

    broker.dialled = dialled_and_stopped  # type: ignore[method-assign]
    broker.tick()
    await until(lambda: bool(links))
    await broker.close_links()
    assert not broker.node.connections
    assert not broker.node.targets[0].linked
    await asyncio.wait_for(ended.wait(), 10)
    server.close()


@on_uvloop
async def test_a_bad_link_does_not_end_the_flush(tmp_path: Path) -> None:
    """Others that are ready are served, and what comes after them happens."""
    broker = broker_of(tmp_path, ("127.0.0.1", 1), None)

    class Bad:
        writable = closing = True
        label = flow_key = "bad"

        def pull(self, *_: object) -> list[bytes]:
            return [b"x"]

        def failed(self, error: Exception) -> None:
            pass

    served: list[str] = []

    class OneLink:
        def __init__(self, name: str, connection: object) -> None:
            self.name = name
            self.connection = connection

        def write(self, buffers: list[bytes]) -> None:
            if self.name == "bad":
                raise RuntimeError("unable to perform operation")
            served.append(self.name)

        def abort(self, error: Exception | None = None) -> None:
            served.append(f"{self.name} is over")

    for name in ("bad", "good"):
        connection = cast(Connection, Bad())
        broker._links[connection] = cast(Link, OneLink(name, connection))
        broker.node.ready.wake(connection)
    broker.flush()
    # Telling of it may take what the others have in one turn.
    await until(lambda: len(served) > 1)
    assert served == ["bad is over", "good"]


class Gate:
    """An acceptor whose callers get links that count their ends."""

    tls: ssl.SSLContext | None = None

    def __init__(self) -> None:
        self.ends: list[Counting] = []

    def welcome(self, taken: socket.socket, address: Address) -> Link:
        self.ends.append(Counting())
        return self.ends[-1].link

    def turned_away(self, address: Address, reason: str, detail: str) -> None:
        pass


@on_uvloop
async def test_a_listener_closing_during_an_accept_leaves_no_link_untold(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "s")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    gate = Gate()
    listener = Listener("socket", listening, gate, Counter())
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)
        listener.start()
        await until(lambda: bool(gate.ends and gate.ends[0].made))
        # A task that is done, and not yet out of the list, has left the link open for good.
        under_way = any(not task.done() for task in listener._opening)
        listener.close()
        caller.settimeout(10)
        (end,) = gate.ends
        await until(lambda: not listener._opening)
        if not under_way:
            assert end.losses == 0
            end.link.abort()
        assert end.losses == 1
        assert await asyncio.get_running_loop().run_in_executor(None, caller.recv, 1) == b""

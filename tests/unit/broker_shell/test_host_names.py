"""Connecting to a host by its name, while name servers answer late, wrongly or never."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.unit.broker_shell.test_tls_transport import on_uvloop, until

from pubsubd_broker.sockets.host_names import Hosts, bind

Found = list[tuple[int, int, int, str, tuple[str, int]]]


class Names:
    """A name server that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self._answers = threading.Event()
        self._answer: Found | OSError = []

    def answer(self, answer: Found | OSError) -> None:
        self._answer = answer
        self._answers.set()

    def look_up(self, *_: object, **__: object) -> Found:
        self.asked += 1
        self._answers.wait()
        if isinstance(self._answer, OSError):
            raise self._answer
        return self._answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.answer([])


def at(port: int, family: int = socket.AF_INET) -> Found:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    return [(family, socket.SOCK_STREAM, 0, "", (host, port))]


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@on_uvloop
async def test_a_name_that_is_looked_up_already_is_not_looked_up_again(names: Names) -> None:
    hosts = Hosts()
    with listening() as there:
        port = there.getsockname()[1]
        given_up = asyncio.ensure_future(hosts.connect("b", port))
        await until(lambda: names.asked == 1)
        given_up.cancel()
        await asyncio.wait({given_up})
        # It ends at once, and its look-up goes on.
        assert given_up.cancelled()
        joined = asyncio.ensure_future(hosts.connect("b", port))
        await asyncio.sleep(0)
        names.answer(at(port))
        (await joined).close()
        assert names.asked == 1
        (await hosts.connect("b", port)).close()
        assert names.asked == 2


@on_uvloop
async def test_an_error_after_all_have_given_up_is_not_logged(
    names: Names,
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    given_up = asyncio.ensure_future(Hosts().connect("b", 1))
    await until(lambda: names.asked == 1)
    given_up.cancel()
    await asyncio.wait({given_up})
    names.answer(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    await until(lambda: "pubsubd-look-up" not in [each.name for each in threading.enumerate()])
    # The thread's last callbacks run now. A forgotten future with an unread exception would say so.
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


@on_uvloop
async def test_the_first_of_several_addresses_that_accepts_is_used(names: Names) -> None:
    with listening() as there, listening() as gone:
        port, closed = there.getsockname()[1], gone.getsockname()[1]
        gone.close()
        # Every address has the port that was asked for.
        names.answer([*at(port, socket.AF_INET6), *at(port)])
        connected = await Hosts().connect("b", port)
        assert connected.getpeername() == ("127.0.0.1", port)
        connected.close()
        names.answer(at(closed))
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            await Hosts().connect("b", closed)


def test_a_name_is_listened_on_at_each_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*at(0), (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    bound = bind("b", 0)
    assert [each.getsockname()[0] for each in bound] == ["127.0.0.1", "127.0.0.2"]
    for each in bound:
        each.close()

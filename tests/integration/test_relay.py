"""The relay itself, against an echo server: a test of faults depends on right faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.relay import Address, Relay
from tests.integration.waiting import wait_until

QUIET_S = 0.15
"""Seconds of silence that are listened to: an upper bound of patience only."""


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65_536):
                self.request.sendall(data)


class TcpEcho(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class UnixEcho(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def serving(server: Any) -> Iterator[Address]:
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def echo() -> Iterator[Address]:
    with serving(TcpEcho(("127.0.0.1", 0), Echo)) as address:
        yield address


@pytest.fixture
def relay(echo: Address) -> Iterator[Relay]:
    with Relay(echo) as relay:
        yield relay


def connect(relay: Relay) -> socket.socket:
    unix = isinstance(relay.address, str)
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    connection.settimeout(5)
    try:
        connection.connect(relay.address)
    except BaseException:
        connection.close()
        raise
    return connection


def receive(connection: socket.socket, count: int) -> bytes:
    """`count` bytes, or fewer if the connection ends first."""
    got = b""
    while len(got) < count and (data := connection.recv(count - len(got))):
        got += data
    return got


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


@contextlib.contextmanager
def talking(relay: Relay) -> Iterator[socket.socket]:
    """A connection over which one byte has gone to the target and back."""
    with connect(relay) as connection:
        assert echoed(connection, b"x") == b"x"
        yield connection


def is_quiet(connection: socket.socket) -> bool:
    connection.settimeout(QUIET_S)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)
    return False


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_bytes_go_both_ways_and_are_counted(relay: Relay) -> None:
    with connect(relay) as one, connect(relay) as two:
        assert echoed(one, b"hello") == b"hello"
        assert echoed(two, b"you") == b"you"
        wait_until(lambda: relay.bytes == {"to_target": 8, "from_target": 8})
        assert (relay.connections, relay.accepted) == (2, 2)
    wait_until(lambda: relay.connections == 0)
    assert relay.accepted == 2


def test_a_megabyte_arrives_as_it_was_sent(relay: Relay) -> None:
    data = bytes(i % 251 for i in range(1_000_000))
    with connect(relay) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert receive(connection, len(data)) == data
        sender.join()


def test_the_end_of_one_direction_is_passed_on(relay: Relay) -> None:
    with connect(relay) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"last words"


def test_a_cut_ends_connections_and_refuses_new_ones(relay: Relay) -> None:
    with talking(relay) as connection:
        relay.cut()
        assert ended(connection)
    assert relay.connections == 0
    with pytest.raises(ConnectionRefusedError):
        connect(relay)
    relay.heal()
    with talking(relay):
        pass


def test_a_relay_can_be_cut_and_healed_again_and_again(relay: Relay) -> None:
    for _ in range(20):
        relay.cut()
        relay.cut()
        relay.heal()
        relay.heal()
        with talking(relay):
            pass


def test_held_bytes_arrive_after_the_release(relay: Relay) -> None:
    with talking(relay) as connection:
        relay.hold()
        connection.sendall(b"later")
        assert is_quiet(connection)
        assert relay.bytes["to_target"] == 1
        relay.release()
        assert receive(connection, 5) == b"later"


def test_one_direction_can_be_held_alone(relay: Relay) -> None:
    with talking(relay) as connection:
        relay.hold("from_target")
        connection.sendall(b"heard")
        wait_until(lambda: relay.bytes["to_target"] == 6)
        assert is_quiet(connection)
        assert relay.bytes["from_target"] == 1
        relay.release("from_target")
        assert receive(connection, 5) == b"heard"


def test_a_new_connection_through_a_held_relay_hears_nothing(relay: Relay) -> None:
    relay.hold()
    with connect(relay) as connection:
        connection.sendall(b"anyone?")
        assert is_quiet(connection)
        relay.release()
        assert receive(connection, 7) == b"anyone?"


def test_a_slow_relay_takes_its_time(relay: Relay) -> None:
    relay.slow(100_000, "to_target")
    with connect(relay) as connection:
        before = time.monotonic()
        assert echoed(connection, bytes(20_000)) == bytes(20_000)
        assert time.monotonic() - before > 0.1
    relay.slow(None)
    with connect(relay) as connection:
        assert echoed(connection, bytes(20_000)) == bytes(20_000)


def test_a_slow_relay_with_small_buffers_is_felt_by_the_sender(echo: Address) -> None:
    with Relay(echo, buffer_bytes=4096) as relay:
        relay.hold("to_target")
        with connect(relay) as connection:
            connection.settimeout(QUIET_S)
            with pytest.raises(TimeoutError):
                connection.sendall(bytes(32_000_000))


def test_a_reset_is_a_reset_and_new_connections_are_welcome(relay: Relay) -> None:
    with talking(relay) as connection:
        relay.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with talking(relay):
        pass


def test_a_drop_is_an_orderly_end_and_allows_new_connections(relay: Relay) -> None:
    with talking(relay) as connection:
        relay.drop()
        assert connection.recv(1) == b""
    with talking(relay):
        pass


@pytest.mark.parametrize("n_bytes", [0, 1, 4, 9])
def test_an_answer_is_cut_after_an_exact_number_of_bytes(relay: Relay, n_bytes: int) -> None:
    with talking(relay) as connection:
        relay.cut_after("from_target", n_bytes)
        connection.sendall(b"ten bytes!")
        assert receive(connection, 100) == b"ten bytes!"[:n_bytes]
        assert relay.bytes == {"to_target": 11, "from_target": 1 + n_bytes}
    with connect(relay) as connection:
        assert echoed(connection, b"and on it goes") == b"and on it goes"


def test_a_request_can_be_cut_before_it_arrives(relay: Relay) -> None:
    with connect(relay) as connection:
        relay.cut_after("to_target", 3)
        connection.sendall(b"request")
        assert ended(connection) or ended(connection)
        wait_until(lambda: relay.connections == 0)
        assert relay.bytes["to_target"] == 3


def test_as_many_bytes_as_allowed_are_no_reason_to_cut(relay: Relay) -> None:
    with connect(relay) as connection:
        relay.cut_after("from_target", 5)
        assert echoed(connection, b"12345") == b"12345"
        assert is_quiet(connection)
        assert relay.connections == 1


def test_the_target_can_be_set_later_and_changed(echo: Address) -> None:
    with Relay() as relay, connect(relay) as early:
        early.sendall(b"early")
        assert is_quiet(early)
        relay.target = echo
        assert receive(early, 5) == b"early"
        with serving(TcpEcho(("127.0.0.1", 0), Echo)) as other:
            relay.target = other
            with connect(relay) as late:
                assert echoed(late, b"late") == b"late"


def test_a_target_that_is_not_there_ends_the_connection() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with Relay(unheard.getsockname()) as relay, connect(relay) as connection:
            assert ended(connection)


def test_unix_sockets_on_both_sides() -> None:
    with tempfile.TemporaryDirectory(prefix="psd-") as folder:
        echo_path, path = f"{folder}/echo", f"{folder}/relay"
        with serving(UnixEcho(echo_path, Echo)), Relay(echo_path, listen=path) as relay:
            assert relay.endpoint == path
            with connect(relay) as connection:
                assert echoed(connection, b"hello") == b"hello"
                relay.cut_after("from_target", 0)
                connection.sendall(b"lost answer")
                assert ended(connection)
            relay.cut()
            with pytest.raises(ConnectionRefusedError):
                connect(relay)
            relay.heal()
            with connect(relay) as connection:
                assert echoed(connection, b"again") == b"again"
        assert not Path(path).exists()


def test_an_asynchronous_test_can_use_it(relay: Relay) -> None:
    async def talk() -> bytes:
        assert not isinstance(relay.address, str)
        reader, writer = await asyncio.open_connection(*relay.address)
        writer.write(b"hello")
        hello = await reader.readexactly(5)
        relay.cut()
        rest = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return hello + rest

    assert asyncio.run(talk()) == b"hello"


def test_closing_twice_does_nothing(echo: Address) -> None:
    relay = Relay(echo)
    relay.close()
    relay.close()
    with pytest.raises(ConnectionRefusedError):
        connect(relay)

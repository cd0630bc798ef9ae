"""Addresses of hosts: a look-up takes as long as a name server likes, so no event loop and no end of the process waits for it.

The loop's own look-ups run in threads that the process waits for when it ends: a silent name server would hold it for a minute.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any, Final

from pubsubd_broker.process.off_loop import off_loop

TCP_BACKLOG: Final = 1024

ResolvedAddress = tuple[int, str, int]
"""Family, numeric host, port."""


class Hosts:
    """Hosts to connect to. A name is looked up once at a time, however often it is asked for."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], asyncio.Future[list[ResolvedAddress]]] = {}

    async def connect(self, host: str, port: int) -> socket.socket:
        """A socket that is connected to the first address of the host that takes it.

        Raises `OSError` as the last address gave it, or `UnicodeError` for an invalid name.
        """
        addresses = await self._find(host, port)
        for left, address in zip(range(len(addresses))[::-1], addresses, strict=True):
            try:
                return await _connect(*address)
            except OSError:
                if not left:
                    raise
        raise OSError(f"{host} has no address")

    async def _find(self, host: str, port: int) -> list[ResolvedAddress]:
        # A caller that gives up leaves the look-up to its thread, and the next caller joins it.
        asked = host, port
        looking = self._under_way.get(asked)
        if looking is None:
            looking = self._under_way[asked] = off_loop("pubsubd-look-up", _look_up, host, port)
            looking.add_done_callback(lambda done: self._found(asked, done))
        return await asyncio.shield(looking)

    def _found(self, asked: tuple[str, int], done: asyncio.Future[list[ResolvedAddress]]) -> None:
        del self._under_way[asked]
        if not done.cancelled():
            # The callers may all have given up: then no caller looks at an error.
            done.exception()


def _look_up(host: str, port: int) -> list[ResolvedAddress]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, _numeric(address), port) for family, *_, address in found))


def _numeric(address: tuple[Any, ...]) -> str:
    host = str(address[0])
    # An address of one link says nothing without the link.
    scope = address[3] if len(address) == 4 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


async def _connect(family: int, host: str, port: int) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, (host, port))
    except OSError as error:
        connecting.close()
        if not error.errno:
            raise
        # In the system's words: the loop's own leave out the reason.
        raise OSError(error.errno, os.strerror(error.errno)) from error
    except BaseException:
        connecting.close()
        raise
    return connecting


def bind(host: str, port: int) -> list[socket.socket]:
    """Listens at every address that `host` has. Blocks. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                listening = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                # The name has addresses of a family that this system does not speak.
                continue
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(TCP_BACKLOG)
        if not bound:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    except BaseException:
        for listening in bound:
            listening.close()
        raise
    return bound

"""The two ways into a broker: the Unix socket for clients, the TCP port for peers. Who comes, and with what."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pubsubd_broker.core.access.remote import Caller, Channel
from pubsubd_broker.core.links.dial_targets import format_address
from pubsubd_broker.credentials import credentials_of
from pubsubd_broker.listener import Address
from pubsubd_broker.tls import NoBinding, Tls, binding_of, names_of
from pubsubd_broker.transport import Link
from pubsubd_protocol.proof import NONCE_BYTES

if TYPE_CHECKING:
    from pubsubd_broker.broker import Broker
    from pubsubd_broker.core.links.connection import Connection

NOBODY: Final = 2**32 - 1
"""The id that is nobody's."""


class ClientDoor:
    """Local applications."""

    tls: ssl.SSLContext | None = None

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._numbers = itertools.count(1)

    def welcome(self, taken: socket.socket, address: Address) -> Link:
        return Link(_Accepted(self._broker, self._caller(taken), peers=False))

    def turned_away(self, address: Address, reason: str, detail: str) -> None:
        self._broker.turned_away(Caller("client"), reason, detail)

    def _caller(self, taken: socket.socket) -> Caller:
        label = f"client-{next(self._numbers)}"
        try:
            known = credentials_of(taken)
        except OSError:
            # The kernel could tell and does not: nobody in particular, who is in no list.
            return Caller(label, uid=NOBODY, gid=NOBODY)
        if known is None:
            return Caller(label)
        label += f" (pid {known.pid})"
        return Caller(label, uid=known.uid, gid=known.gid, groups=frozenset(known.groups))


class PeerDoor:
    """Other brokers."""

    def __init__(self, broker: Broker, tls: Tls | None) -> None:
        self._broker = broker
        self._tls = tls

    @property
    def tls(self) -> ssl.SSLContext | None:
        return self._tls.server if self._tls is not None else None

    def welcome(self, taken: socket.socket, address: Address) -> Link:
        caller = replace(_from(address), nonce=os.urandom(NONCE_BYTES))
        return Link(_Accepted(self._broker, caller, peers=True), self._broker.user_timeout_ms)

    def turned_away(self, address: Address, reason: str, detail: str) -> None:
        self._broker.turned_away(_from(address), reason, detail)


def channel_of(link: Link) -> Channel | None:
    """The TLS channel under a link that has just opened; None if there is none.

    One over which nothing can be proved speaks for nobody.
    """
    ssl_object = link.transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return None
    try:
        return Channel(names_of(ssl_object), binding_of(ssl_object))
    except NoBinding as why:
        return Channel(frozenset(), b"", str(why))


def _from(address: Address) -> Caller:
    host, port = address[:2]
    return Caller(format_address((host, port)), host=host)


class _Accepted:
    """The host of a link that came in."""

    def __init__(self, broker: Broker, caller: Caller, *, peers: bool) -> None:
        self._broker = broker
        self._caller = caller
        self._peers = peers
        self.received = broker.received
        self.lost = broker.lost
        self.flush_soon = broker.flush_soon

    def opened(self, link: Link) -> Connection:
        caller = replace(self._caller, channel=channel_of(link))
        return self._broker.accepted(link, caller, peers=self._peers)

"""Acceptors: one for the clients' Unix socket, one for the peers' TCP port. Each says which remote end has come."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.sockets.credentials import credentials_of
from pubsubd_broker.sockets.link import Host, Link
from pubsubd_broker.trust.channel import channel_of
from pubsubd_broker.trust.tls import Tls
from pubsubd_protocol.addresses import Address, format_address
from pubsubd_protocol.proof import NONCE_BYTES

UNKNOWN_ID: Final = 2**32 - 1
"""User and group id that the system gives to no user."""


class AcceptingBroker(Host, Protocol):
    """The broker, as an acceptor needs it."""

    def accepted(self, link: Link, remote: Remote, *, peers: bool) -> Connection:
        """The connection of a remote end whose link has just opened."""

    def turned_away(self, remote: Remote, reason: str, detail: str) -> None:
        """Counts a remote end that has ended before it had a connection."""


class ClientAcceptor:
    """Takes local applications."""

    tls: ssl.SSLContext | None = None

    def __init__(self, broker: AcceptingBroker) -> None:
        self._broker = broker
        self._numbers = itertools.count(1)

    def welcome(self, taken: socket.socket, address: Address) -> Link:
        return Link(self._broker, _admitted(self._broker, self._remote(taken), peers=False))

    def turned_away(self, address: Address, reason: str, detail: str) -> None:
        self._broker.turned_away(Remote("client"), reason, detail)

    def _remote(self, taken: socket.socket) -> Remote:
        label = f"client-{next(self._numbers)}"
        try:
            known = credentials_of(taken)
        except OSError:
            # The kernel could tell and does not: a user that stands in no list.
            return Remote(label, uid=UNKNOWN_ID, gid=UNKNOWN_ID)
        if known is None:
            return Remote(label)
        label += f" (pid {known.pid})"
        return Remote(label, uid=known.uid, gid=known.gid, groups=frozenset(known.groups))


class PeerAcceptor:
    """Takes other brokers."""

    def __init__(self, broker: AcceptingBroker, tls: Tls | None, user_timeout_ms: int) -> None:
        """`user_timeout_ms`: how long the kernel keeps on trying for a peer that acknowledges nothing."""
        self._broker = broker
        self._tls = tls
        self._user_timeout_ms = user_timeout_ms

    @property
    def tls(self) -> ssl.SSLContext | None:
        return self._tls.server if self._tls is not None else None

    def welcome(self, taken: socket.socket, address: Address) -> Link:
        remote = replace(_remote_at(address), nonce=os.urandom(NONCE_BYTES))
        opened = _admitted(self._broker, remote, peers=True)
        return Link(self._broker, opened, self._user_timeout_ms)

    def turned_away(self, address: Address, reason: str, detail: str) -> None:
        self._broker.turned_away(_remote_at(address), reason, detail)


def _remote_at(address: Address) -> Remote:
    host, port = address[:2]
    return Remote(format_address((host, port)), host=host)


def _admitted(
    broker: AcceptingBroker, remote: Remote, *, peers: bool
) -> Callable[[Link], Connection]:
    def opened(link: Link) -> Connection:
        known = replace(remote, channel=channel_of(link.transport))
        return broker.accepted(link, known, peers=peers)

    return opened

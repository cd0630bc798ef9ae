"""The TLS channel under a link: the names in the peer's certificate, and the bytes that bind a proof to the channel."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

from pubsubd_broker.core.access.remote import Channel

ALPN: Final = "pubsubd/1"
BINDING_BYTES: Final = 32
"""The least that a channel binding has: SHA-256's Finished. With SHA-384 it is 48."""


def channel_of(transport: asyncio.BaseTransport) -> Channel | None:
    """The channel under a transport that has just opened; None without TLS.

    A channel without a binding speaks for no node.
    """
    ssl_object = transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return None
    try:
        return Channel(names_of(ssl_object), binding_of(ssl_object))
    except NoBinding as why:
        return Channel(frozenset(), b"", str(why))


def names_of(ssl_object: ssl.SSLObject) -> frozenset[str]:
    """The node names that the other end's certificate, which has been verified, speaks for.

    The DNS names of its subjectAltName; only if it has none of any kind, its common name (RFC 6125, 6.4.4).
    A name is taken as it stands: one with a wildcard speaks for no node.
    """
    certificate: Mapping[str, Any] = ssl_object.getpeercert() or {}
    if "subjectAltName" in certificate:
        names = [value for kind, value in certificate["subjectAltName"] if kind == "DNS"]
    else:
        subject = certificate.get("subject", ())
        names = [value for part in subject for kind, value in part if kind == "commonName"]
    return frozenset(name for name in names if "*" not in name)


class NoBinding(Exception):
    """Reason why nothing can be proved over this connection."""


def binding_of(ssl_object: ssl.SSLObject) -> bytes:
    """Bytes that only the two ends of this very connection have in common. Raises `NoBinding`.

    A relay in between, with one connection to each end, has other bytes on either: a proof that includes
    them cannot be passed on. The binding is the client's Finished message: a MAC, keyed by this handshake's secret,
    over the whole handshake up to there, fresh randoms and both certificates included (RFC 8446, 4.4.4).
    `ssl` calls it "tls-unique" (RFC 5929). What made that unsafe before 1.3 were resumed and
    renegotiated connections; there are none here. Its successor, the exporter of RFC 9266, is out of
    `ssl`'s reach.
    """
    if ssl_object.version() != "TLSv1.3" or ssl_object.session_reused:
        raise NoBinding("the connection is not a fresh one of TLS 1.3: it has no binding")
    # A handshake in which no protocol is agreed on succeeds all the same.
    if ssl_object.selected_alpn_protocol() != ALPN:
        raise NoBinding(f"the other end did not agree to speak {ALPN}")
    binding = ssl_object.get_channel_binding("tls-unique")
    if binding is None or len(binding) < BINDING_BYTES:
        raise NoBinding("the connection has no binding")
    return binding

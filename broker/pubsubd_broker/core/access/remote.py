"""Remote: the other end of a connection, as far as it is known before its first frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """The addresses that one machine surely has, if it has this one: of IPv6 a network of 64 bits, else itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


@dataclass(frozen=True, slots=True)
class Channel:
    """A TLS channel: the names in the other end's certificate, and bytes that only its two ends have in common."""

    names: frozenset[str]
    binding: bytes
    flaw: str = ""
    """The reason for which nothing can be proved over it, if there is one: it speaks for no node then."""


@dataclass(frozen=True, slots=True)
class Remote:
    """`nonce`: fresh entropy for this connection alone, for a peer that has to be challenged over it."""

    label: str
    """The name for people: where the connection comes from, or leads to."""
    host: str | None = None
    """The address at the other end of TCP; of one that was dialled, as the settings have it."""
    uid: int | None = None
    gid: int | None = None
    groups: frozenset[int] = frozenset()
    """The groups of the user at the Unix socket, as the kernel says."""
    nonce: bytes = b""
    channel: Channel | None = None

    @property
    def origin(self) -> str:
        """The user or the network behind it. Connections and refusals of one origin are counted together."""
        if self.uid is not None:
            return f"uid {self.uid}"
        return f"address {network_of(self.host)}" if self.host is not None else "unknown"


def owner_of(name: str) -> str | None:
    """The user who has a session of this name, as it is called here. None: the broker's own."""
    uid, colon, _ = name.partition(":")
    return uid if colon and uid.isdecimal() else None

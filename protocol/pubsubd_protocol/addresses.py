"""TCP addresses as text: `HOST:PORT`, an IPv6 host in brackets. Pure: no name is looked up."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

Address = tuple[str, int]
"""Host and port. An IPv6 host is without its brackets."""

_FORM: Final = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s\[\]:/@,]+)):([0-9]{1,5})")
_LAST_PORT: Final = 65535


def format_address(address: Address) -> str:
    """The inverse of `parse_address`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str, lowest_port: int = 0) -> Address:
    """The host and port in `text`. Raises `ValueError`."""
    match = _FORM.fullmatch(text)
    if match is None:
        if re.search(r"[\s,]", text.strip()):
            raise ValueError(f"{text!r} is more than one address: give each by itself")
        if text.count(":") > 1 and "[" not in text:
            raise ValueError(f"{text!r} is not an address: an IPv6 host stands in brackets")
        raise ValueError(f"{text!r} is not an address")
    host, port = match[1] or match[2], int(match[3])
    if match[1] and not _is_ipv6(match[1]):
        raise ValueError(f"{match[1]!r} is not an IPv6 address")
    if not lowest_port <= port <= _LAST_PORT:
        raise ValueError(f"port {port} is out of range")
    return host, port


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True

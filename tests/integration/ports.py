"""Ports for brokers that listen on the same one in each life."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path


def lasting_port() -> int:
    """A free port below those that the system hands out: it stays free between two lives of a broker."""
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.SystemRandom().randrange(10_000, int(first))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

"""Tells systemd how the broker is: READY, STOPPING, WATCHDOG. Says nothing where systemd did not ask."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class Systemd:
    """The service manager's end, as the environment names it (sd_notify(3)). Never raises.

    `watchdog_s` is how often `watchdog()` wants to be called: half of what systemd waits; None if
    it does not watch this process.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # A leading @ names Linux's abstract namespace, whose addresses begin with a zero byte.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_s = _watchdog(environment, pid) if path else None

    def ready(self) -> bool:
        """Says that the broker serves. Returns whether systemd took the message."""
        return self._send("READY=1")

    def stopping(self) -> bool:
        """Says that the broker drains and will end."""
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """Says that the event loop turns."""
        return self._send("WATCHDOG=1")

    def _send(self, state: str) -> bool:
        if not self._address:
            return False
        # The broker neither fails nor waits if its manager does not listen.
        with (
            contextlib.suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        ):
            notify.setblocking(False)
            notify.sendto(state.encode(), self._address)
            return True
        return False


def _watchdog(environment: Mapping[str, str], pid: int) -> float | None:
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        period_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return period_us / 2_000_000 if period_us > 0 else None

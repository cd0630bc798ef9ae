"""The event loop to which an open client or subscription belongs, and with it the thread."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop as running_loop
from threading import get_ident as this_thread

from pubsubd.errors import WrongEventLoop

__all__ = ["Home", "this_thread"]
# Asking for the running loop asks the system for the process: what is done for each message compares threads.


class Home:
    """Taken when something is opened. A call from elsewhere is refused before it has any effect."""

    __slots__ = ("_what", "loop")

    def __init__(self, what: str) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._what = what

    def enter(self) -> None:
        """Belongs to the running loop from now on. Raises `WrongEventLoop` if it has another one."""
        if self.loop is None:
            self.loop = running_loop()
        self.check()

    def leave(self) -> None:
        """Belongs to no loop again: nothing is open."""
        self.loop = None

    def check(self) -> None:
        """Raises `WrongEventLoop` for a call from elsewhere."""
        if self.loop is not None and running_loop() is not self.loop:
            raise WrongEventLoop(
                f"this {self._what} belongs to the event loop that opened it, and to its thread: call it there, "
                "as by asyncio.run_coroutine_threadsafe(), or open another one here"
            )

"""The event loop, and thereby the thread, to which an open client or subscription belongs."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop as running_loop
from threading import get_ident as this_thread

from pubsubd.errors import WrongEventLoop

__all__ = ["Home", "this_thread"]
# Asking for the running loop costs a system call (getpid). The code that runs for each message compares threads.


class Home:
    """The event loop of one open object. A call from another loop or thread is refused before it has any effect."""

    __slots__ = ("_what", "loop")

    def __init__(self, what: str) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._what = what

    def enter(self) -> None:
        """Bind to the running loop. Raises `WrongEventLoop` if bound to another one."""
        if self.loop is None:
            self.loop = running_loop()
        self.check()

    def leave(self) -> None:
        """Unbind from the loop: nothing is open."""
        self.loop = None

    def check(self) -> None:
        """Raises `WrongEventLoop` for a call from another loop or thread."""
        if self.loop is not None and running_loop() is not self.loop:
            raise WrongEventLoop(
                f"this {self._what} belongs to the event loop and thread that opened it: call it there, for example "
                "with asyncio.run_coroutine_threadsafe(), or open another one here"
            )

"""SIGTERM and SIGINT: the first one asks for a clean end, whatever the process is doing; a second one ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType
from typing import Any, Final, TypeVar

T = TypeVar("T")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

GRACE_S: Final = 1.0
"""How long a step of the start that is under way may take to its end once a stop is asked for."""


class StopAsked(Exception):
    """The start ends here: a stop has been asked for."""


class StopRequest:
    """To be made as early as possible, in the main thread: from then on no signal is lost, and none kills a start.

    As process 1 of a container it would not even be delivered before that.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        """The name of the signal that asked first."""
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """`wait` may be called on this loop."""
        self._loop = loop
        if self.asked is not None:
            self._event.set()

    def detach(self) -> None:
        """The loop ends."""
        self._loop = None

    async def wait(self) -> None:
        await self._event.wait()

    def check(self) -> None:
        """Raises `StopAsked` if a stop has been asked for."""
        if self.asked is not None:
            raise StopAsked

    async def unless_asked(self, step: asyncio.Future[T]) -> T:
        """The outcome of `step`. Raises `StopAsked` if a stop is asked for and the step does not end soon after."""
        asked = asyncio.ensure_future(self.wait())
        either: list[asyncio.Future[Any]] = [step, asked]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                # What it takes in this moment can then be released.
                await asyncio.wait([step], timeout=GRACE_S)
        finally:
            asked.cancel()
        if not step.done():
            step.cancel()
            raise StopAsked
        return step.result()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.asked is not None:
            # Not here: the thread that was interrupted may hold the log's lock.
            threading.Thread(target=_abort, args=(name,), daemon=True).start()
            return
        self.asked = name
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._event.set)


def _abort(name: str) -> None:
    # Only now: this module is loaded before anything else, and those are slow to load.
    import structlog

    from pubsubd_broker.logs import flush_log

    structlog.get_logger("pubsubd").warning("broker.aborted", signal=name)
    flush_log()
    os._exit(1)

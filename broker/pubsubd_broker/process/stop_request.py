"""The signals of a broker. SIGTERM and SIGINT ask for its end, more urgently each time; SIGHUP asks for nothing.

| | what the broker does |
|---|---|
| first | drains: waits for connected readers; writes all that is to be kept; ends |
| second | waits for readers no longer; writes all that is to be kept; ends |
| third | ends in `ABORT_S`, with what is written by then |

Only the third may lose something: process managers, and people, send two in the same moment (Ctrl-C in a terminal reaches
the process, and then its manager passes it on). See ADR 27.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final, TypeVar

import structlog

from pubsubd_broker.logs.setup import flush_log

T = TypeVar("T")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

GRACE_S: Final = 1.0
"""Time that a step of the start that is under way may take to its end once a stop is asked for."""

ABORT_S: Final = 2.0
"""Time that the stop may still take after a third signal."""

log = structlog.get_logger("pubsubd")


class StopAsked(Exception):
    """The start ends here: a stop has been asked for."""


class StopRequest:
    """Takes the signals from when it is made, in the main thread, to the end of the process.

    The handler records and never raises, at any point of the thread's work.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        """The name of the signal that asked first."""
        self.asked_again: str | None = None
        """The name of the second."""
        self._asked, self._asked_again = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = threading.Event()
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGHUP, self._hang_up)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """`wait` may be called on this loop."""
        self._loop = loop
        self._tell()

    def detach(self) -> None:
        """All is done. From here on no signal changes anything."""
        self._loop = None
        self._ended.set()

    async def wait(self) -> None:
        await self._asked.wait()

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
                # Memory that is taken in this moment can then be released.
                await asyncio.wait([step], timeout=GRACE_S)
        finally:
            asked.cancel()
        if not step.done():
            step.cancel()
            raise StopAsked
        return step.result()

    async def unless_asked_again(self, step: Coroutine[Any, Any, None]) -> None:
        """Does `step`, and gives it up at the second signal."""
        doing, again = asyncio.ensure_future(step), asyncio.ensure_future(self._asked_again.wait())
        try:
            await asyncio.wait({doing, again}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
            else:
                log.warning("drain.skipped", signal=self.asked_again)
        finally:
            again.cancel()
            doing.cancel()
            await asyncio.wait({doing})

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.asked is None:
            self.asked = name
        elif self.asked_again is None:
            self.asked_again = name
        else:
            # In a thread: the loop may be what does not end, and this one may hold the log's lock.
            threading.Thread(target=self._abort, args=(name,), daemon=True).start()
        self._later(self._tell)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._later(log.info, "signal.ignored")

    def _later(self, call: Callable[..., object], *args: object) -> None:
        if self._loop is not None:
            # It may be closed by now, with `detach` to come.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call, *args)

    def _tell(self) -> None:
        if self.asked is not None:
            self._asked.set()
        if self.asked_again is not None:
            self._asked_again.set()

    def _abort(self, name: str) -> None:
        if self._ended.wait(ABORT_S):
            return
        log.warning("broker.aborted", signal=name)
        flush_log()
        os._exit(1)

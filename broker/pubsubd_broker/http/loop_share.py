"""A share of the event loop's time: what many strangers may ask for leaves nine tenths of it to the broker."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final

REST: Final = 9
"""Factor: after a piece of work the next one waits this many times as long as the piece has taken."""

LONGEST_REST_S: Final = 0.25


class LoopShare:
    """`async with share:` around work without an `await`. One piece at a time, in the order in which they came."""

    __slots__ = ("_began_s", "_longest_s", "_rested_s", "_turn")

    def __init__(self, longest_rest_s: float = LONGEST_REST_S) -> None:
        self._longest_s = longest_rest_s
        self._turn = asyncio.Lock()
        self._began_s = 0.0
        self._rested_s = 0.0

    async def __aenter__(self) -> None:
        await self._turn.acquire()
        try:
            await asyncio.sleep(max(0.0, self._rested_s - time.perf_counter()))
        except BaseException:
            self._turn.release()
            raise
        self._began_s = time.perf_counter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended_s = time.perf_counter()
        self._rested_s = ended_s + min(REST * (ended_s - self._began_s), self._longest_s)
        self._turn.release()

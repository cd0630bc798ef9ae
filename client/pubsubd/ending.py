"""The end of a client or subscription: it runs once, to its end, and each call of `close` waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from pubsubd.errors import PubSubError, copy_of


class Ending:
    """Runs `end` once, in a task of its own. A caller that gives up waiting does not stop the task.

    `end` returns its error, or None. Each waiting caller gets the error; if no caller waits, the next one gets it.
    """

    __slots__ = ("_end", "_task", "_told")

    def __init__(self, end: Callable[[], Coroutine[object, object, PubSubError | None]]) -> None:
        self._end = end
        self._task: asyncio.Task[PubSubError | None] | None = None
        self._told = False

    @property
    def over(self) -> bool:
        return self._task is not None and self._task.done()

    def begin(self) -> asyncio.Task[PubSubError | None]:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._end(), name="pubsubd close")
        return self._task

    async def reached(self) -> None:
        """Wait for the end. Raises its error."""
        task = self.begin()
        waited = not task.done()
        await asyncio.wait([task])
        failure = task.result()
        if failure is not None and (waited or not self._told):
            self._told = True
            raise copy_of(failure)

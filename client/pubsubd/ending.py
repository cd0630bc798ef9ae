"""The end of a client or subscription: begun once, carried through, and waited for by each call of `close`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from pubsubd.errors import PubSubError, copy_of


class Ending:
    """Runs `end` once, in a task of its own. A caller that gives up waiting does not stop it.

    `end` returns what went wrong. It is raised for the callers that wait, or for the next one if none waits any more.
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
        """Returns when all is over. Raises what went wrong."""
        task = self.begin()
        waited = not task.done()
        await asyncio.wait([task])
        failure = task.result()
        if failure is not None and (waited or not self._told):
            self._told = True
            raise copy_of(failure)

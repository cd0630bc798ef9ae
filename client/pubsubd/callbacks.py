"""The application's callbacks. Each runs in a task of its own, so it cannot stop its caller."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable


class Callbacks:
    """Keeps the running tasks. Their exceptions go to the event loop's exception handler."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def call(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call a function or a coroutine function soon."""

        async def run() -> object:
            result = callback(*arguments)
            return await result if inspect.isawaitable(result) else result

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

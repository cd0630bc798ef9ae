"""The application's callbacks, each run as a task of its own: none stops what called it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable


class Callbacks:
    """Keeps the tasks that run; an exception of one goes to the loop's exception handler, as for any task."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def call(self, callback: Callable[..., object], *arguments: object) -> None:
        """Calls a function or a coroutine function soon."""

        async def run() -> object:
            result = callback(*arguments)
            return await result if inspect.isawaitable(result) else result

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""An attempt to open, shared by all tasks that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Opening:
    """Runs `attempt` in a task named `name`, never twice at once. Further calls join the attempt under way."""

    __slots__ = ("_attempt", "_name", "_task")

    def __init__(self, attempt: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._attempt = attempt
        self._name = name
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    async def ended(self) -> BaseException | None:
        """Wait for the end of an attempt. Returns its error, or None.

        None also if another waiting task cancelled the attempt: look whether it succeeded, else try once more.
        A caller that is cancelled cancels the attempt.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._attempt(), name=self._name)
        task = self._task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        if self._task is task:
            self._task = None
        return None if task.cancelled() else task.exception()

    async def cancel(self) -> None:
        """Cancel the attempt under way, and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

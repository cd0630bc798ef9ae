"""End of a broker: releases what its start has taken, in reverse order. A step that fails stops no other step."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

log = structlog.get_logger("pubsubd")

ShutdownStep = Callable[[], Awaitable[object] | object]

STEP_S: Final = 5.0
"""Time that a step may take, unless it says otherwise."""


class Shutdown:
    """A stack of named steps."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, ShutdownStep, float | None]] = []

    def add(self, name: str, step: ShutdownStep, limit_s: float | None = STEP_S) -> None:
        """`step` runs before those that were added earlier. `limit_s`: None if it has to come to its end."""
        self._steps.append((name, step, limit_s))

    async def run(self) -> bool:
        """Runs every step. Whether each of them succeeded; one that did not is logged.

        A task that is cancelled meanwhile goes on to the last step, and is cancelled then.
        """
        whole, cancelled = True, None
        while self._steps:
            name, step, limit_s = self._steps.pop()
            try:
                async with asyncio.timeout(limit_s):
                    outcome = step()
                    if inspect.isawaitable(outcome):
                        await outcome
            except asyncio.CancelledError as error:
                cancelled, whole = error, False
                log.warning("stop.interrupted", step=name)
            except Exception as error:
                whole = False
                log.error("stop.failed", step=name, error=repr(error), exc_info=error)
        if cancelled is not None:
            raise cancelled
        return whole

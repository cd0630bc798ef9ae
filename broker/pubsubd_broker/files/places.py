"""Places: the files and folders that a running broker relies on. Each is looked at every second, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

PLACES_S: Final = 1.0
"""Time between two looks at a place."""

HUNG_LOOKS: Final = 5
"""A look that is under way when 5 later ones are due is trouble itself: the file system does not answer.

Not measured by a clock: a process that was stopped would accuse its disks.
"""

CLOSE_S: Final = 1.0
"""Time that a stop gives looks that are under way."""

Look = Callable[[], Awaitable[str | None]]
"""Returns what is wrong with a place, in a sentence with its path and the remedy; None if nothing is.

It may put the place right first.
"""

log = structlog.get_logger("pubsubd")


@dataclass(slots=True)
class _Place:
    path: str
    look: Look
    under_way: asyncio.Task[str | None] | None = None
    missed: int = 0


class Places:
    """Keeps what is wrong with each place. A place has at most one look under way, even if its disk hangs."""

    def __init__(self, troubles: dict[str, str | None]) -> None:
        """`troubles`: where it is kept, by the name of the place; None while nothing is wrong."""
        self._troubles = troubles
        self._places: dict[str, _Place] = {}
        self._due_s = 0.0

    def add(self, name: str, path: str, look: Look) -> None:
        """`path` is for people. `look` is a coroutine; blocking steps of it run in a thread."""
        self._places[name] = _Place(path, look)
        self._troubles[name] = None

    def tick(self, now_s: float) -> None:
        """Begins the looks that are due, and notes those that do not come back."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + PLACES_S
        loop = asyncio.get_running_loop()
        for name, place in self._places.items():
            if place.under_way is None:
                place.missed = 0
                place.under_way = loop.create_task(self._look(name, place))
                continue
            place.missed += 1
            if place.missed >= HUNG_LOOKS:
                seconds = HUNG_LOOKS * PLACES_S
                self._note(
                    name,
                    f"{place.path} has not answered for {seconds:g} s: look at its disk or network",
                )

    async def close(self) -> None:
        """Looks no more. A look that hangs is left to its thread."""
        places, self._places = self._places, {}
        tasks = [each.under_way for each in places.values() if each.under_way is not None]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=CLOSE_S)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _look(self, name: str, place: _Place) -> None:
        try:
            trouble = await place.look()
        except Exception as error:
            trouble = f"{place.path} cannot be looked at: {error or repr(error)}"
        finally:
            place.under_way = None
        self._note(name, trouble)

    def _note(self, name: str, trouble: str | None) -> None:
        if trouble == self._troubles[name]:
            return
        self._troubles[name] = trouble
        if trouble is None:
            log.info("place.restored", what=name)
        else:
            log.error("place.lost", what=name, reason=trouble)

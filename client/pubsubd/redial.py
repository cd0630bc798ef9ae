"""Reconnecting with back-off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pubsubd.chance import chance
from pubsubd_protocol.backoff import backoff
from pubsubd_protocol.errors import PubSubError

T = TypeVar("T")

FIRST_S = 0.05
LONGEST_S = 2.0
STEADY_S = 1.0
"""Seconds after which a connection counts as steady, and the back-off begins anew."""


class Redial:
    """A row of attempts. A connection that keeps breaking backs off like one that never comes up."""

    def __init__(self) -> None:
        self._attempt = 0
        self._stood_since: float | None = None

    def begin_anew(self) -> None:
        """Forget earlier failures: the next attempts follow closely."""
        self._attempt = 0

    def pause_s(self, now_s: float, chance: float) -> float:
        """Count an attempt, to be made after this pause in seconds."""
        if self._stood_since is not None and now_s - self._stood_since >= STEADY_S:
            self._attempt = 0
        self._stood_since = None
        pause_s = backoff(FIRST_S, LONGEST_S, self._attempt, chance)
        self._attempt += 1
        return pause_s

    def stood(self, now_s: float) -> None:
        """Note that the attempt succeeded."""
        self._stood_since = now_s

    async def until_connected(
        self, dial: Callable[[], Awaitable[T]], hopeless: Callable[[PubSubError], bool]
    ) -> T:
        """The result of `dial`, as soon as it succeeds. Raises its error if that is `hopeless`."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.pause_s(loop.time(), chance()))
            try:
                result = await dial()
            except PubSubError as error:
                if hopeless(error):
                    raise
                continue
            self.stood(loop.time())
            return result

"""A shared reload for many subscriptions that expire at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from pubsubd import arguments
from pubsubd.chance import chance
from pubsubd.errors import CursorExpired
from pubsubd.forks import begins_anew, check_process, keep


def single_flight(
    reload: Callable[[CursorExpired], object], *, jitter_s: float = 0.5
) -> Callable[[CursorExpired], Awaitable[None]]:
    """An `on_expired` to share among subscriptions: callers that come before a run of `reload` begins share that run.

    A caller that comes during a run shares the *next* one, because the present run may read data older than the
    caller's gap. A run begins after a random wait of up to `jitter_s` seconds, so that many processes do not read one
    database at the same moment. `reload` gets the first caller's expiry. Its error goes to all callers of the run.
    Raises `InvalidArgument`. Example:

    ```python
    reload_once = pubsubd.single_flight(reload, jitter_s=2)
    orders = client.subscribe("orders.>", on_expired=reload_once)
    stock = client.subscribe("stock.>", on_expired=reload_once)
    ```
    """
    arguments.function("reload", reload)
    return _SingleFlight(reload, arguments.seconds("jitter_s", jitter_s))


class _SingleFlight:
    """The shared callable. Each event loop has runs of its own: loops may live in different threads."""

    __slots__ = ("__weakref__", "_flights", "_jitter_s", "_reload")

    def __init__(self, reload: Callable[[CursorExpired], object], jitter_s: float) -> None:
        self._reload = reload
        self._jitter_s = jitter_s
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, _Flight] = WeakKeyDictionary()
        begins_anew(self)

    def __reduce__(self) -> tuple[type[_SingleFlight], tuple[object, float]]:
        """A copy has the same options and shares no runs."""
        return _SingleFlight, (self._reload, self._jitter_s)

    def forked(self) -> None:
        """In a forked child: leave the runs to the parent."""
        keep(self._flights)
        self._flights = WeakKeyDictionary()

    async def __call__(self, expired: CursorExpired) -> None:
        check_process()
        loop = asyncio.get_running_loop()
        flight = self._flights.get(loop)
        if flight is None:
            flight = self._flights[loop] = _Flight(self._reload, self._jitter_s)
        await flight.shared(expired)


class _Flight:
    __slots__ = ("_jitter_s", "_next", "_reload", "_under_way")

    def __init__(self, reload: Callable[[CursorExpired], object], jitter_s: float) -> None:
        self._reload = reload
        self._jitter_s = jitter_s
        self._under_way = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def shared(self, expired: CursorExpired) -> None:
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._run(expired))
        # A caller that gives up must not cancel the run of the others.
        await asyncio.shield(self._next)

    async def _run(self, expired: CursorExpired) -> None:
        async with self._under_way:
            await asyncio.sleep(chance() * self._jitter_s)
            self._next = None
            result = self._reload(expired)
            if inspect.isawaitable(result):
                await result

"""Iterators over a subscription. A wait may be cancelled and tried again; one task waits at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, NoReturn, Self, TypeVar

from pubsubd.errors import AlreadyIterating, CursorExpired, copy_of

T = TypeVar("T")


class Iterating(AsyncIterator[T], Generic[T]):
    """An iterator over the results of `following`. It holds no events itself, so a cancelled wait loses nothing."""

    __slots__ = ("_following", "_left")

    def __init__(self, following: Callable[[], Awaitable[T]]) -> None:
        self._following = following
        self._left = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        # Not `async`: a message would then cost two coroutines.
        return _no_more() if self._left else self._following()

    async def aclose(self) -> None:
        """End this iterator, as `contextlib.aclosing` does. The subscription stays open."""
        self._left = True


class Turn:
    """The right to wait for the next event. One task holds it at a time; two would each get a part of the messages."""

    __slots__ = ("_holder",)

    def __init__(self) -> None:
        self._holder: asyncio.Task[Any] | None = None

    def take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the turn for the task that runs in `loop`. Raises `AlreadyIterating` if another task waits."""
        if self._holder is not None:
            raise AlreadyIterating(
                f"task {self._holder.get_name()!r} iterates this subscription already, and each task would get a part: "
                "iterate in one task, or open a subscription for each task"
            )
        self._holder = asyncio.current_task(loop)

    @property
    def ends(self) -> bool:
        """Whether the task that holds the turn was cancelled, and has not given the turn back yet."""
        return self._holder is not None and self._holder.cancelling() > 0

    def give_back(self) -> None:
        self._holder = None


class Telling:
    """The call of `on_expired` for the gap in hand, made once for each gap.

    If the application gives up its wait, the call runs on, and the next wait joins it. Otherwise a reload that takes
    longer than the application's waits would never end. A call that failed is made again.
    """

    __slots__ = ("_closed", "_given_up", "_on_expired", "_run")

    def __init__(self, on_expired: Callable[[CursorExpired], object]) -> None:
        self._on_expired = on_expired
        self._closed = False
        self._given_up: asyncio.Future[None] | None = None
        """Done when the subscription is closed and the call did not end in time."""
        self._run: asyncio.Task[object] | None = None

    async def done(self, notice: CursorExpired) -> bool:
        """Whether the application has been told; False if the subscription was closed before.

        Raises the exception of `on_expired`. Raises `notice` if the call was cancelled, but this task was not.
        """
        if self._run is None:
            result = self._on_expired(notice)
            if not inspect.isawaitable(result):
                return True
            self._run = asyncio.get_running_loop().create_task(
                _awaited(result), name="pubsubd on_expired"
            )
        run = self._run
        if self._given_up is None:
            self._given_up = asyncio.get_running_loop().create_future()
        waits: list[asyncio.Future[Any]] = [run, self._given_up]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not run.done():
            return False
        self._run = None
        if not run.cancelled():
            run.result()
            return True
        if self._closed:
            return False
        again = copy_of(notice)
        again.add_note("on_expired was cancelled before it ended: it will be called again")
        raise again

    def cancel(self) -> None:
        """Cancel the call when the subscription closes, unless the call itself closes the subscription."""
        self._closed = True
        if self._run is not None and self._run is not asyncio.current_task():
            self._run.cancel()

    async def ended(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for a cancelled call to end. After that no task waits for it."""
        if self._run is not None and self._run.cancelling():
            await asyncio.wait([self._run], timeout=timeout_s)
            if self._given_up is not None and not self._given_up.done():
                self._given_up.set_result(None)


async def _no_more() -> NoReturn:
    raise StopAsyncIteration


async def _awaited(result: Awaitable[object]) -> object:
    return await result

"""Iterating in any way: waits that may be given up and tried again, one at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, NoReturn, Self, TypeVar

from pubsubd.errors import AlreadyIterating, CursorExpired, copy_of

T = TypeVar("T")


class Iterating(AsyncIterator[T], Generic[T]):
    """An iterator over the results of `following`. It keeps nothing of its own, so a cancelled wait loses nothing."""

    __slots__ = ("_following", "_left")

    def __init__(self, following: Callable[[], Awaitable[T]]) -> None:
        self._following = following
        self._left = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        # Not a coroutine of its own: a message would cost two.
        return _no_more() if self._left else self._following()

    async def aclose(self) -> None:
        """Ends this iterator, as `contextlib.aclosing` does it; the subscription goes on."""
        self._left = True


class Turn:
    """The right to wait for the next event: one task at a time has it, or each would get a part."""

    __slots__ = ("_holder",)

    def __init__(self) -> None:
        self._holder: asyncio.Task[Any] | None = None

    async def take(self) -> None:
        """Raises `AlreadyIterating` if another task waits."""
        if self._holder is not None and self._holder.cancelling():
            # It has been told to give up, and has had no moment to do so.
            await asyncio.sleep(0)
        if self._holder is not None:
            raise AlreadyIterating(
                f"task {self._holder.get_name()!r} iterates this subscription already, and each would get a part: "
                "iterate in one task, or subscribe once for each"
            )
        self._holder = asyncio.current_task()

    def give_back(self) -> None:
        self._holder = None


class Telling:
    """The call of `on_expired` for the gap in hand.

    It is begun once for a gap. If the wait for it is given up it runs on, and the next wait joins it: a reload that
    takes longer than the application waits would never end otherwise. One that has failed is begun again.
    """

    __slots__ = ("_closed", "_given_up", "_on_expired", "_run")

    def __init__(self, on_expired: Callable[[CursorExpired], object]) -> None:
        self._on_expired = on_expired
        self._closed = False
        self._given_up: asyncio.Future[None] | None = None
        """Done when the subscription is closed and a run that was told to end has not."""
        self._run: asyncio.Task[object] | None = None

    async def done(self, notice: CursorExpired) -> bool:
        """Whether the application has been told; False if the subscription was closed before.

        Raises what `on_expired` raises, and `notice` itself where that ended as cancelled, which this task was not.
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
        again.add_note("on_expired was cancelled before it had dealt with this: it is called again")
        raise again

    def cancel(self) -> None:
        """The subscription is closed: a run ends, unless it is the very task that closes."""
        self._closed = True
        if self._run is not None and self._run is not asyncio.current_task():
            self._run.cancel()

    async def ended(self, timeout_s: float) -> None:
        """Returns when a run that was cancelled is over, or after `timeout_s`. Then no task waits for it any more."""
        if self._run is not None and self._run.cancelling():
            await asyncio.wait([self._run], timeout=timeout_s)
            if self._given_up is not None and not self._given_up.done():
                self._given_up.set_result(None)


async def _no_more() -> NoReturn:
    raise StopAsyncIteration


async def _awaited(result: Awaitable[object]) -> object:
    return await result

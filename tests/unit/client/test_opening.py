"""An opening runs one attempt for all tasks that wait for it."""

from __future__ import annotations

import asyncio

import pytest
from tests.asynchronous import async_test

from pubsubd.errors import BrokerUnavailable
from pubsubd.opening import Opening


class Attempts:
    """Attempts that wait for `go_on`, and fail if `error` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.go_on = asyncio.Event()
        self.error: BrokerUnavailable | None = None

    async def __call__(self) -> None:
        self.count += 1
        await self.go_on.wait()
        if self.error is not None:
            raise self.error


@async_test
async def test_two_waiting_tasks_share_one_attempt() -> None:
    attempts = Attempts()
    opening = Opening(attempts, "open")
    waiting = [asyncio.create_task(opening.ended()) for _ in range(2)]
    await asyncio.sleep(0)
    assert opening.under_way
    attempts.go_on.set()
    assert await asyncio.gather(*waiting) == [None, None]
    assert attempts.count == 1
    assert not opening.under_way


@async_test
async def test_the_error_of_an_attempt_is_returned_and_the_next_is_new() -> None:
    attempts = Attempts()
    attempts.go_on.set()
    attempts.error = BrokerUnavailable("/run/s", "no such file")
    opening = Opening(attempts, "open")
    assert await opening.ended() is attempts.error
    attempts.error = None
    assert await opening.ended() is None
    assert attempts.count == 2


@async_test
async def test_a_cancelled_task_ends_the_attempt_for_the_others() -> None:
    attempts = Attempts()
    opening = Opening(attempts, "open")
    first, second = (asyncio.create_task(opening.ended()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second is None
    assert not opening.under_way


@async_test
async def test_cancel_waits_for_the_end_of_the_attempt() -> None:
    opening = Opening(Attempts(), "open")
    await opening.cancel()
    waiting = asyncio.create_task(opening.ended())
    await asyncio.sleep(0)
    await opening.cancel()
    assert not opening.under_way
    assert await waiting is None

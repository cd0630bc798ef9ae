"""Each step of a stop runs, even if others fail."""

from __future__ import annotations

import asyncio

import pytest

from pubsubd_broker.process.ending import Shutdown


def test_release_is_in_reverse_order_and_a_failure_ends_its_step() -> None:
    ran: list[str] = []

    def failing() -> None:
        ran.append("fails")
        raise RuntimeError("unable to perform operation")

    async def hanging() -> None:
        ran.append("hangs")
        await asyncio.Event().wait()

    async def run() -> bool:
        ending = Shutdown()
        ending.add("journal", lambda: ran.append("journal"))
        ending.add("hangs", hanging, limit_s=0.01)
        ending.add("fails", failing)
        ending.add("listener", lambda: ran.append("listener"))
        return await ending.run()

    assert asyncio.run(run()) is False
    assert ran == ["listener", "fails", "hangs", "journal"]


def test_a_stop_whose_every_step_succeeds_says_so_and_runs_them_once() -> None:
    ran: list[int] = []

    async def run() -> tuple[bool, bool]:
        ending = Shutdown()
        ending.add("one", lambda: ran.append(1))
        return await ending.run(), await ending.run()

    assert asyncio.run(run()) == (True, True)
    assert ran == [1]


def test_a_stop_that_is_cancelled_goes_on_to_its_last_step() -> None:
    ran: list[str] = []

    async def run() -> None:
        ending = Shutdown()
        ending.add("journal", lambda: ran.append("journal"))
        ending.add("slow", asyncio.Event().wait, limit_s=None)
        task = asyncio.create_task(ending.run())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ran == ["journal"]

"""Places are looked at off the loop, one look at a time, and what is wrong is told once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs
from tests.asynchronous import async_test

from pubsubd_broker.files.places import HUNG_LOOKS, PLACES_S, Places
from pubsubd_broker.process.off_loop import off_loop


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def answering(answers: list[str | Exception | None]) -> Callable[[], Awaitable[str | None]]:
    """A look that gives these outcomes, one after the other."""

    async def look() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


@async_test
async def test_each_change_is_told_once_and_a_look_that_fails_is_trouble() -> None:
    troubles: dict[str, str | None] = {}
    places = Places(troubles)
    answers: list[str | Exception | None] = [
        *(None, "gone", "gone", "another one", OSError(5, "Input/output error"), None)
    ]
    places.add("socket", "/run/s", answering(answers))
    assert troubles == {"socket": None}
    with capture_logs() as logs:
        now_s = 0.0
        while answers:
            places.tick(now_s)
            # Too early for the next one: nothing is looked at.
            places.tick(now_s + PLACES_S / 2)
            now_s += PLACES_S
            left = len(answers)
            await until(lambda left=left: len(answers) < left)  # type: ignore[misc]
            await asyncio.sleep(0)
    assert [(line["event"], line.get("reason")) for line in logs] == [
        ("place.lost", "gone"),
        ("place.lost", "another one"),
        ("place.lost", "/run/s cannot be looked at: [Errno 5] Input/output error"),
        ("place.restored", None),
    ]
    assert troubles == {"socket": None}


@async_test
async def test_a_place_that_does_not_answer_is_told_and_delays_no_other() -> None:
    """As on a network file system whose server is away: a look never comes back."""
    answers, looked = threading.Event(), {"hung": 0, "fine": 0}
    threads = set()

    def blocking(name: str) -> str | None:
        looked[name] += 1
        threads.add(threading.current_thread())
        if name == "hung":
            answers.wait()
        return None

    troubles: dict[str, str | None] = {}
    places = Places(troubles)
    for name in looked:
        places.add(name, f"/net/{name}", lambda name=name: off_loop("look", blocking, name))  # type: ignore[misc]
    for second in range(HUNG_LOOKS + 1):
        assert troubles == {"hung": None, "fine": None}
        before = looked["fine"]
        places.tick(second * PLACES_S)
        await until(lambda before=before: looked["fine"] > before)  # type: ignore[misc]
        await asyncio.sleep(0.01)
    assert troubles == {
        "hung": "/net/hung has not answered for 5 s: look at its disk or network",
        "fine": None,
    }
    assert looked == {"hung": 1, "fine": HUNG_LOOKS + 1}
    assert threading.current_thread() not in threads
    answers.set()
    await until(lambda: troubles["hung"] is None)


@async_test
async def test_a_stop_leaves_a_look_that_hangs_to_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pubsubd_broker.files.places.CLOSE_S", 0.01)
    answers = threading.Event()
    places = Places({})

    def hung() -> None:
        answers.wait()

    places.add("socket", "/net/s", lambda: off_loop("look", hung))
    places.tick(0.0)
    await asyncio.sleep(0)
    await places.close()
    await places.close()
    places.tick(10 * PLACES_S)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    answers.set()

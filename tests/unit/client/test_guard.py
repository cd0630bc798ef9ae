"""Changes of a blocking client's state: one at a time, and mended after one that was broken off."""

from __future__ import annotations

import threading

import pytest
from tests.integration.waiting import wait_until

from pubsubd import ClientClosed, ReentrantCall
from pubsubd.sync.guard import Guard
from pubsubd.sync.service import Service


def test_a_change_that_was_broken_off_is_mended_before_the_next() -> None:
    mended: list[str] = []
    guard = Guard(lambda: mended.append("mended"))

    def broken_off() -> None:
        raise KeyboardInterrupt

    def refused() -> None:
        raise ClientClosed("refused")

    with pytest.raises(ClientClosed):
        guard.change(refused)
    assert guard.change(lambda: [*mended]) == []
    with pytest.raises(KeyboardInterrupt):
        guard.change(broken_off)
    assert guard.change(lambda: [*mended]) == ["mended"]
    assert guard.change(lambda: [*mended]) == ["mended"]


def test_a_call_in_the_middle_of_a_change_is_refused() -> None:
    guard = Guard(lambda: None)
    with pytest.raises(ReentrantCall):
        guard.change(lambda: guard.change(lambda: None))
    assert guard.change(lambda: 1) == 1


def test_one_thread_serves_for_all_and_the_next_one_takes_over() -> None:
    guard = Guard(lambda: None)
    turn = threading.Semaphore(0)
    left: list[bool] = []
    done: set[int] = set()

    def serve(deadline_s: float) -> None:
        turn.acquire()

    service = Service(guard, serve, lambda: left.append(service.served))

    def wait() -> None:
        me = threading.get_ident()
        service.wait(lambda: me in done)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    served: list[int] = []
    for _ in threads:
        wait_until(lambda: service._server not in (0, *served), what="a thread that serves")
        served.append(service._server)
        done.add(served[-1])
        turn.release()
    for thread in threads:
        thread.join()
    assert {*served} == {thread.ident for thread in threads}
    assert left == [False]


def test_a_wait_ends_at_its_deadline() -> None:
    guard = Guard(lambda: None)
    service = Service(guard, lambda deadline_s: None, lambda: None)
    assert service.wait(lambda: False, 0.0) is False
    assert service.wait(lambda: True, 0.0) is True
    assert not service.served

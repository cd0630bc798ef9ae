"""Requests to a broker by signal, also before it listens for them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from tests.unit.broker_shell.test_tls_transport import on_uvloop

from pubsubd_broker.process import stop_request
from pubsubd_broker.process.stop_request import StopAsked, StopRequest


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(stop_request, "ABORT_S", 0.0)
    return codes


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    numbers = (*stop_request.SIGNALS, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield StopRequest()
    for number, handler in before.items():
        signal.signal(number, handler)


def raise_signals(*numbers: signal.Signals) -> None:
    """And waits for what they begin."""
    running = {*threading.enumerate()}
    for number in numbers:
        signal.raise_signal(number)
    for begun in {*threading.enumerate()} - running:
        begun.join()


def test_only_the_third_signal_ends_the_process_and_not_with_0(
    stop: StopRequest, ends: list[int]
) -> None:
    raise_signals(signal.SIGINT, signal.SIGTERM)
    assert (stop.asked, stop.asked_again, ends) == ("SIGINT", "SIGTERM", [])
    raise_signals(signal.SIGINT)
    assert ends == [1]


def test_a_third_signal_lets_a_stop_end_that_is_about_to(
    stop: StopRequest, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_request, "ABORT_S", 60.0)
    for _ in range(3):
        signal.raise_signal(signal.SIGTERM)
    stop.detach()
    raise_signals(signal.SIGTERM)
    assert ends == []


def test_a_hangup_asks_for_nothing(stop: StopRequest, ends: list[int]) -> None:
    raise_signals(*[signal.SIGHUP] * 3)
    assert (stop.asked, ends) == (None, [])


def test_no_signal_raises_when_the_loop_has_ended(stop: StopRequest, ends: list[int]) -> None:
    loop = asyncio.new_event_loop()
    stop.attach(loop)
    loop.close()
    raise_signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert (stop.asked, ends) == ("SIGTERM", [])


@on_uvloop
async def test_signals_that_came_before_the_loop_are_heeded(stop: StopRequest) -> None:
    raise_signals(signal.SIGTERM, signal.SIGTERM)
    stop.attach(asyncio.get_running_loop())
    await stop.wait()
    with pytest.raises(StopAsked):
        stop.check()
    await stop.unless_asked_again(asyncio.sleep(3600))


@on_uvloop
async def test_a_second_signal_gives_up_what_waits_for_readers(stop: StopRequest) -> None:
    waiting, given_up = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    stop.attach(asyncio.get_running_loop())
    raise_signals(signal.SIGTERM)
    draining = asyncio.ensure_future(stop.unless_asked_again(drain()))
    await waiting.wait()
    assert not draining.done()
    raise_signals(signal.SIGINT)
    await draining
    assert given_up.is_set()


@on_uvloop
async def test_what_fails_before_a_second_signal_is_said(stop: StopRequest) -> None:
    async def fail() -> None:
        raise OSError("failed")

    stop.attach(asyncio.get_running_loop())
    with pytest.raises(OSError, match="failed"):
        await stop.unless_asked_again(fail())

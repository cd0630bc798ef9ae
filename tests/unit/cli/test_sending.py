"""`publish` says which messages were not accepted in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import FakeBroker

import pubsubd
from pubsubd_cli import sending
from pubsubd_cli.exit_codes import (
    FAILED,
    INTERRUPTED,
    NO_BROKER,
    TIMED_OUT,
    CommandError,
    Interrupted,
)
from pubsubd_cli.sending import Sending

TIME_S = 1.0
"""Enough to connect to a broker in the same loop, also on a busy machine."""


async def lines(
    count: int, broker: FakeBroker, lost: asyncio.Event | None
) -> AsyncIterator[tuple[int, str]]:
    """The first is accepted; then the broker hangs, or is gone and the client has `lost` it. The input has no end."""
    yield 1, "one"
    await broker.until(lambda: broker.next == 1)
    broker.answers = False
    if lost is not None:
        await broker.stop()
        await lost.wait()
    for number in range(2, count + 1):
        yield number, "more"
    await asyncio.Event().wait()


@async_test
@pytest.mark.parametrize(
    ("leaves", "given", "code"),
    [
        (True, None, NO_BROKER),
        (False, None, FAILED),
        (True, TIME_S, TIMED_OUT),
        (False, TIME_S, TIMED_OUT),
    ],
)
async def test_the_code_says_what_happened_unless_a_time_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool, given: float | None, code: int
) -> None:
    monkeypatch.setattr(sending, "PATIENCE_S", TIME_S)
    lost = asyncio.Event()
    connect = pubsubd.connect
    monkeypatch.setattr(
        pubsubd,
        "connect",
        lambda *given, **options: connect(*given, on_lost=lambda _: lost.set(), **options),
    )
    async with FakeBroker(tmp_path) as broker:
        run = Sending(broker.path, "t", None, "line {} of the input", given)
        with pytest.raises(CommandError) as caught:
            await run.run(lines(3, broker, lost if leaves else None))
    text = str(caught.value)
    assert caught.value.code == code
    assert text.startswith(f"--timeout of {TIME_S:g} s has passed") is (given is not None)
    assert "line 2 of the input" in text
    assert f"no answer within {TIME_S:g} s" in text
    assert "publish again from line 2 on" in text


@async_test
async def test_an_input_that_pauses_is_no_message_that_waits(tmp_path: Path) -> None:
    async def slow() -> AsyncIterator[tuple[int, str]]:
        for number in (1, 2, 3):
            yield number, "line"
            await asyncio.sleep(0.4 * TIME_S)

    async with FakeBroker(tmp_path) as broker:
        await Sending(broker.path, "t", None, "line {}", TIME_S).run(slow())
        assert broker.next == 3


@async_test
async def test_an_interrupt_does_not_wait_for_a_broker_that_hangs(tmp_path: Path) -> None:
    async def never() -> AsyncIterator[tuple[int, str]]:
        yield 1, "line"

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        run = Sending(str(tmp_path / "s"), "t", None, "line {}", None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_later(0.05, run.interrupt.set)
        with pytest.raises(Interrupted):
            await run.run(never())
        # The client itself tries for `connect_timeout_s`.
        assert loop.time() - began < 4


@async_test
@pytest.mark.parametrize("ends", [True, False])
async def test_a_signal_counts_only_while_there_is_something_to_interrupt(
    tmp_path: Path, ends: bool
) -> None:
    async with FakeBroker(tmp_path) as broker:
        run = Sending(broker.path, "t", None, "line {}", None)

        async def given() -> AsyncIterator[tuple[int, str]]:
            yield 1, "one"
            await broker.until(lambda: broker.next == 1)
            if ends:
                # In the turn of the loop in which the last answer is looked at.
                asyncio.get_running_loop().call_soon(run.interrupt.set)
            else:
                run.interrupt.set()
                await asyncio.Event().wait()

        if ends:
            await run.run(given())
        else:
            with pytest.raises(Interrupted):
                await run.run(given())


@async_test
async def test_a_second_signal_waits_for_no_answer_and_says_what_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SEND_FLUSH_S", 3600.0)
    async with FakeBroker(tmp_path) as broker:
        run = Sending(broker.path, "t", None, "line {}", None)
        running = asyncio.ensure_future(run.run(lines(2, broker, lost=None)))
        await broker.until(lambda: broker.next == 1)
        run.interrupt.set()
        run.hurry.set()
        with pytest.raises(CommandError) as caught:
            await running
    assert caught.value.code == INTERRUPTED
    assert "1 accepted, 1 unknown, 0 not published" in str(caught.value)

"""Codecs, receipts, back-off, and one reload for many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.asynchronous import async_test

import pubsubd
from pubsubd_protocol.attach import Reason

EXPIRED = pubsubd.CursorExpired("a", Reason.OVERWRITTEN, 1, 2, "e" * 32)


@pytest.mark.parametrize("codec", [pubsubd.MSGPACK, pubsubd.JSON])
@pytest.mark.parametrize("value", [None, 1, 1.5, "ü", [1, "two"], {"k": {"n": [True]}}])
def test_a_value_survives_its_codec(codec: pubsubd.Codec, value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value


def test_msgpack_keeps_bytes_and_integer_keys() -> None:
    value = {1: b"\x00\xff"}
    assert pubsubd.MSGPACK.decode(pubsubd.MSGPACK.encode(value)) == value


def test_a_value_that_cannot_be_packed_leaves_nothing_behind() -> None:
    with pytest.raises(TypeError):
        pubsubd.MSGPACK.encode({"x": object()})
    assert pubsubd.MSGPACK.encode(1) == b"\x01"


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_raw_takes_bytes_only(value: Any) -> None:
    assert pubsubd.RAW.encode(value) == b"x"
    with pytest.raises(TypeError):
        pubsubd.RAW.encode("x")


def test_receipts_are_a_sequence_over_runs() -> None:
    receipts = pubsubd.Receipts()
    for epoch, offset, count in (("e", 5, 1), ("e", 6, 1), ("f", 0, 2), ("f", 2, 1)):
        receipts.append("a", epoch, offset, count)
    assert len(receipts._firsts) == 2, "what follows in place is one run"
    assert [(r.epoch, r.offset) for r in receipts] == [
        ("e", 5),
        ("e", 6),
        ("f", 0),
        ("f", 1),
        ("f", 2),
    ]
    assert receipts[-1] == pubsubd.Receipt("a", "f", 2)
    assert [r.offset for r in receipts[1:3]] == [6, 0]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            receipts[outside]


class Reload:
    """A reload that ends when it is let."""

    def __init__(self) -> None:
        self.runs = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, expired: pubsubd.CursorExpired) -> None:
        self.runs += 1
        self.begun.set()
        await self.may_end.wait()


@async_test
async def test_callers_before_a_run_share_it() -> None:
    reload = Reload()
    reload.may_end.set()
    shared = pubsubd.single_flight(reload, jitter_s=0.0)
    await asyncio.gather(*(shared(EXPIRED) for _ in range(100)))
    assert reload.runs == 1


@async_test
async def test_callers_during_a_run_share_the_next_one() -> None:
    reload = Reload()
    shared = pubsubd.single_flight(reload, jitter_s=0.0)
    early = asyncio.ensure_future(shared(EXPIRED))
    await reload.begun.wait()
    late = [asyncio.ensure_future(shared(EXPIRED)) for _ in range(10)]
    await asyncio.sleep(0)
    assert reload.runs == 1
    reload.may_end.set()
    await early
    await asyncio.gather(*late)
    assert reload.runs == 2


@async_test
async def test_a_failed_reload_reaches_all_sharers_and_the_next_is_new() -> None:
    def fail(expired: pubsubd.CursorExpired) -> None:
        raise OSError("database away")

    shared = pubsubd.single_flight(fail, jitter_s=0.0)
    results = await asyncio.gather(shared(EXPIRED), shared(EXPIRED), return_exceptions=True)
    assert [type(r) for r in results] == [OSError, OSError]
    with pytest.raises(OSError, match="database away"):
        await shared(EXPIRED)


@async_test
async def test_one_who_gives_up_leaves_the_run_to_the_others() -> None:
    reload = Reload()
    shared = pubsubd.single_flight(reload, jitter_s=0.0)
    quitter, patient = (asyncio.ensure_future(shared(EXPIRED)) for _ in range(2))
    await reload.begun.wait()
    quitter.cancel()
    reload.may_end.set()
    await patient
    assert reload.runs == 1

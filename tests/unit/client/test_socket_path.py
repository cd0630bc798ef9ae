"""The path of the broker's socket is made absolute once: a process may change its folder afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.unit.client.fake_broker import FakeBroker, entry

import pubsubd
from pubsubd import control
from pubsubd.unix_address import ADDRESS_BYTES


def by_argument(name: str, monkeypatch: pytest.MonkeyPatch) -> pubsubd.Client:
    return pubsubd.connect(name)


def by_path(name: str, monkeypatch: pytest.MonkeyPatch) -> pubsubd.Client:
    return pubsubd.connect(Path(name))


def by_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> pubsubd.Client:
    monkeypatch.setenv("PUBSUBD_SOCKET", name)
    return pubsubd.connect()


WAYS = [by_argument, by_path, by_variable]
Connect = Callable[[str, pytest.MonkeyPatch], pubsubd.Client]


@async_test
@pytest.mark.parametrize("connect", WAYS)
@pytest.mark.parametrize("name", ["s", "~/s"])
async def test_a_relative_path_stands_when_the_process_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connect: Connect, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with FakeBroker(tmp_path) as broker, connect(name, monkeypatch) as client:
        assert client.socket == str(tmp_path / "s")
        async with client.subscribe("t") as before:
            os.chdir("/")
            monkeypatch.setenv("HOME", "/nonexistent")
            async with client.subscribe("t") as after:
                await broker.restart()
                assert (await client.publish("t", 1)).offset == 0
                await broker.until(lambda: len(broker.subscribes) == 4)
                for session in broker.sessions[2:]:
                    session.send(entry(0, "on"))
                assert [(await anext(s)).payload for s in (before, after)] == ["on", "on"]


@async_test
async def test_a_question_takes_the_same_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with FakeBroker(tmp_path):
        assert await control.query("~/s", "status") == {"asked": "status"}


@async_test
async def test_a_short_name_in_a_deep_folder_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * ADDRESS_BYTES)
    async with FakeBroker(tmp_path) as broker:
        deep.mkdir()
        (deep / "s").symlink_to(broker.path)
        monkeypatch.chdir(deep)
        async with pubsubd.connect("s") as client:
            assert len(client.socket) > ADDRESS_BYTES
            assert (await client.publish("t", 1)).offset == 0
    with pytest.raises(pubsubd.BrokerUnavailable):
        await pubsubd.connect("missing")


@pytest.mark.parametrize("wrong", ["", b"s", 5, "a\0b", ["s"]])
def test_what_is_no_path_is_refused_at_the_call(wrong: Any) -> None:
    with pytest.raises(pubsubd.InvalidArgument, match="socket"):
        pubsubd.connect(wrong)


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(pubsubd.InvalidArgument, match="absolute"):
        pubsubd.connect("s")
    assert pubsubd.connect("/run/s").socket == "/run/s"

"""A life with a history from peers is noted on a slow disk: meanwhile the loop goes on, and no client is served."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pubsubd_broker.broker import Broker
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.journal.whole_end import RecoveredEnd
from pubsubd_broker.core.links.peer_recovery import PeerRecovery
from pubsubd_broker.journal.life_file import read_life
from pubsubd_broker.journal.life_record import DiskRecord, life_beside
from pubsubd_broker.settings.values import Settings
from pubsubd_broker.trust.peer_trust import PeerTrust
from pubsubd_protocol.positions import Epoch

NO_PEER = ("127.0.0.1", 1)


class SlowRecord(DiskRecord):
    """A record whose disk answers when `gate` is open."""

    def __init__(self, socket: str, node: str) -> None:
        super().__init__(socket, node)
        self.gate = threading.Event()
        self.asked = threading.Event()

    def begin(self, life: Epoch, end: RecoveredEnd | None, missing: int | None) -> None:
        self.asked.set()
        if not self.gate.wait(10):
            raise TimeoutError("the loop waits for the disk, and nothing opens the gate")
        super().begin(life, end, missing)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    core = Config("a", recover_from_peers=True)
    return Settings(core, str(tmp_path / "socket"), peers=(NO_PEER,))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def recovered(settings: Settings) -> tuple[Broker, SlowRecord]:
    """A broker that knows what it goes on with, while its disk does not answer."""
    record = await asyncio.to_thread(SlowRecord, settings.socket, settings.node)
    broker = Broker(settings, PeerTrust(None, None), record=record)
    await broker.begin(None)
    assert isinstance(broker.node.recovery, PeerRecovery)
    broker.node.targets[0].recovers = True
    broker.tick()
    await until(record.asked.is_set)
    return broker, record


def test_a_broker_that_waits_for_the_disk_serves_no_client_yet(settings: Settings) -> None:
    async def run() -> None:
        broker, record = await recovered(settings)
        broker.tick()
        assert broker.node.recovery is not None
        assert read_life(None, life_beside(settings.socket)) is None
        record.gate.set()
        await until(lambda: broker.node.recovery is None)
        found = read_life(None, life_beside(settings.socket))
        assert found is not None
        assert found.witness is not None
        assert found.witness.epoch == broker.node.epoch

    asyncio.run(run())


def test_a_stop_waits_for_the_file_that_is_being_made(settings: Settings) -> None:
    """Else it would be made beside a socket that another broker may have by then."""

    async def run() -> None:
        broker, record = await recovered(settings)
        stopping = asyncio.create_task(broker.close_journal())
        await asyncio.sleep(0)
        assert not stopping.done()
        record.gate.set()
        await stopping
        assert read_life(None, life_beside(settings.socket)) is not None

    asyncio.run(run())

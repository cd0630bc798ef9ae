"""The system calls of a broker for a publish, counted by strace. Skipped without strace."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration.broker import PUBSUBD
from tests.integration.steps import StartBroker
from tests.integration.waiting import wait_until

import pubsubd

PUBLISHES = 200

MOST_PER_PUBLISH = 4
"""A read, a write for the receipt, one for the peer; acknowledgements and heartbeats now and then."""

CALLS = "read,write,readv,writev,sendto,recvfrom,sendmsg,recvmsg"


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], check=False).returncode == 0
    )


@pytest.mark.skipif(not can_trace(), reason="needs strace, and to be allowed to trace")
def test_a_publish_costs_a_read_and_a_write_to_each_side(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    traced = tmp_path / "calls"
    # -D: the broker itself is this process's child, so that signals reach it.
    strace = ("strace", "-D", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(traced))
    a = start_broker("a", command=(*strace, *PUBSUBD))
    b = start_broker("b", peers=[a.listen])
    wait_until(lambda: all(peer["connected"] for peer in b.status()["peers"]))

    async def publish() -> int:
        async with pubsubd.connect(a.socket) as client:
            await client.publish("t", "the first one")
            before = len(traced.read_bytes().splitlines())
            for number in range(PUBLISHES):
                await client.publish("t", number)
            return len(traced.read_bytes().splitlines()) - before

    calls = asyncio.run(publish())
    assert 2 * PUBLISHES < calls <= MOST_PER_PUBLISH * PUBLISHES

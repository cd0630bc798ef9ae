"""A copy of a process, or of a client, has an identity of its own: every receipt names a place of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from typing import Any, Final

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.commands import TIMEOUT_S, environment
from tests.integration.forking import CHILDREN, EACH
from tests.integration.steps import StartBroker, subscribed
from tests.integration.waiting import wait_until

import pubsubd

LOOPS: Final = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def run(what: str, broker: Broker, loop: str, program: str = "forking") -> Any:
    """The output of the program, which must end without an error."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.integration.{program}", what, str(broker.socket), loop],
        capture_output=True,
        timeout=2 * TIMEOUT_S,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return json.loads(done.stdout)


def all_of(processes: list[Any]) -> list[Any]:
    return list(itertools.chain(*processes))


def stored(broker: Broker) -> int:
    return int(broker.metric("pubsubd_ring_next_offset"))


def all_of_their_own(places: list[Any], broker: Broker) -> None:
    """As many messages are stored as receipts were given, each at the place of its receipt."""
    offsets = [offset for _, offset in places]
    assert sorted(offsets) == list(range(stored(broker)))


@LOOPS
@pytest.mark.parametrize("what", ["at_once", "one_after_another"])
def test_children_with_an_inherited_client_get_own_places(
    start_broker: StartBroker, what: str, loop: str
) -> None:
    broker = start_broker("a")
    places = all_of(run(what, broker, loop))
    assert len(places) == CHILDREN * EACH == stored(broker)
    all_of_their_own(places, broker)


@LOOPS
def test_children_forked_by_c_code_have_their_own_identity(
    start_broker: StartBroker, loop: str
) -> None:
    broker = start_broker("a")
    places = all_of(run("forked_by_c", broker, loop))
    assert len(places) == 1 + CHILDREN * EACH
    all_of_their_own(places, broker)


@LOOPS
def test_a_child_forked_by_c_code_does_not_use_its_parents(
    start_broker: StartBroker, loop: str
) -> None:
    broker = start_broker("a")
    seen = run("used_after_a_fork_by_c", broker, loop)
    assert set(seen["refused"]) == {"ClientClosed"}, seen["refused"]
    assert seen["told"] == [], "nothing happened to the parent's connection"
    by_parent = [each for each in seen["seen"] if each != "the child's"]
    assert by_parent == ["first", "second", "sent", "after"]
    assert len(seen["seen"]) == len(by_parent) + 2 * EACH == stored(broker)


@LOOPS
def test_a_child_connects_anew_and_the_parent_goes_on(start_broker: StartBroker, loop: str) -> None:
    broker = start_broker("a")
    seen = run("opened_in_the_parent", broker, loop)
    places = seen["places"] + all_of([child["places"] for child in seen["children"]])
    all_of_their_own(places, broker)
    assert seen["told"] == [], "nothing happened to the parent's connection"
    assert seen["seen"].count("seen by the child") == 2 * CHILDREN
    assert "wrong" not in seen["seen"], "what was refused has taken no effect"
    for child in seen["children"]:
        assert set(child["refused"]) == {"ClientClosed"}, child["refused"]
        assert child["seen"] in ("at once", "seen by the child", "the child's last")


@LOOPS
def test_a_client_handed_to_a_process_has_its_own_identity(
    start_broker: StartBroker, loop: str
) -> None:
    broker = start_broker("a")
    places = all_of(run("pickled", broker, loop))
    assert len(places) == 2 + 6 * EACH
    all_of_their_own(places, broker)


@pytest.mark.parametrize(("how", "loop"), [("fork", "uvloop"), ("forkserver", "asyncio")])
def test_workers_of_a_pool_publish_with_their_parents_client(
    start_broker: StartBroker, how: str, loop: str
) -> None:
    broker = start_broker("a")
    seen = run(how, broker, loop, "pools")
    places = all_of(seen["places"])
    assert len(places) == 2 + CHILDREN * EACH
    all_of_their_own(places, broker)
    assert seen["error"] == "/nowhere/s"


@LOOPS
def test_a_child_forked_in_a_thread_publishes_by_itself(
    start_broker: StartBroker, loop: str
) -> None:
    broker = start_broker("a")
    all_of_their_own(all_of(run("thread", broker, loop, "pools")["places"]), broker)


@LOOPS
def test_a_child_without_echo_reads_all_but_its_own(start_broker: StartBroker, loop: str) -> None:
    first, second, parent = run("without_echo", start_broker("a"), loop)
    assert first == second == ["another's", "the last"]
    assert parent == ["own", "another's", "own", "the last"] * 2


@LOOPS
def test_a_lock_held_during_a_fork_stops_no_child(start_broker: StartBroker, loop: str) -> None:
    broker = start_broker("a")
    all_of_their_own(all_of(run("locked", broker, loop)), broker)


@LOOPS
def test_a_dead_parent_is_gone_though_its_child_lives(start_broker: StartBroker, loop: str) -> None:
    broker = start_broker("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.forking", "killed", str(broker.socket), loop],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    with process.stdout as lines:
        child = int(json.loads(lines.readline()))
    try:
        assert process.wait(TIMEOUT_S) == -signal.SIGKILL

        async def holds_the_name() -> None:
            async with subscribed(broker, "t", name="held"):
                pass

        wait_until(lambda: not broker.metric("sessions"), what="the session is gone")
        asyncio.run(holds_the_name())
    finally:
        os.kill(child, signal.SIGKILL)


@async_test
async def test_two_clients_with_one_id_never_share_a_receipt(start_broker: StartBroker) -> None:
    """As on machines that were cloned while their clients were connected."""
    broker = start_broker("a")
    placed: dict[int, str] = {}
    unknown = 0
    async with subscribed(broker, "t") as subscription:
        async with pubsubd.connect(broker.socket) as one, pubsubd.connect(broker.socket) as other:
            await one.publish("t", "one")
            other._dialler.identity._id = one._dialler.identity._id
            await _reconnected(other)
            for n in range(20):
                for name, client in (("one", one), ("other", other)):
                    try:
                        receipt = await client.publish("t", f"{name} {n}")
                    except pubsubd.PublishUnknown:
                        unknown += 1
                    else:
                        assert receipt.offset not in placed
                        placed[receipt.offset] = f"{name} {n}"
        seen = {m.offset: m.payload for m in [await anext(subscription) for _ in placed]}
    # The replaced client takes an id of its own: from then on both are answered.
    assert unknown <= 2
    assert {offset: seen.get(offset, told) for offset, told in placed.items()} == placed


async def _reconnected(client: pubsubd.Client) -> None:
    publisher = client._opened
    assert publisher is not None
    assert publisher._connection is not None
    before = publisher._connection
    before.fail(pubsubd.BrokerUnavailable(client.socket, "cut by the test"))
    async with asyncio.timeout(TIMEOUT_S):
        while publisher._connection in (None, before):
            await asyncio.sleep(0.01)

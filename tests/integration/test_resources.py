"""Callers that take a broker's resources and give none back: the broker serves others, and gets the resources back."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Final, Literal

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.hostile import RawConnection
from tests.integration.proc import cpu_s, descriptors, memory_kib, steady_memory
from tests.integration.relay import Address
from tests.integration.steps import StartBroker, in_thread
from tests.integration.strangers import (
    ENDLESS_GREETING,
    ENDLESS_REQUEST,
    STAGES,
    SlowLoris,
    come,
    vanish,
)
from tests.integration.waiting import wait_until, wait_until_async

import pubsubd
from pubsubd import Client, Subscription

DEADLINE_S: Final = 1.5
"""Seconds for a greeting, and for a request over HTTP."""

SLOW_AT_ONCE: Final = 200
"""More than the admin HTTP server takes: it turns the others away at once."""

SLOW_KIB: Final = 16 * 1024
"""80 KiB for each of them, with all that the others do meanwhile."""

STRANGERS: Final = 1000
AT_ONCE: Final = 50
MOST_OF_ONE: Final = 800
"""Most connections of one user: fewer than all strangers, so that closed ones must not count any more."""

STRANGERS_KIB: Final = 1024
"""1 KiB for each of a further thousand; the first thousand has made the allocator's room."""

MOST_ROUNDS: Final = 4
"""Rounds until memory must stay.

On a busy machine more strangers are there at once than in the thousand before, and the allocator makes room once
more. A leak grows with each round.
"""

HELD: Final = 300
"""Messages in the ring: it is full long before memory is measured, even with slow strangers."""

PACE_S: Final = 0.005
"""Seconds between two messages of the others."""

FEW_DESCRIPTORS: Final = 64

MOST_PAUSES_PER_S: Final = 25
"""A pause lasts 50 ms."""

WATCHED_S: Final = 3.0
SPINNING: Final = 0.35
"""Share of a processor, with the others' messages in it.

A loop that finds the same connection again and again takes all of a processor.
"""

Door = Literal["unix", "tcp", "http"]


def door_of(broker: Broker, door: Door) -> Address:
    if door == "unix":
        return broker.socket
    host, _, port = (broker.listen if door == "tcp" else broker.http).rpartition(":")
    return host, int(port)


class Others:
    """An honest publisher on one broker, and readers on all, over connections that stay open all the time."""

    def __init__(self, client: Client, subscriptions: list[Subscription]) -> None:
        self.published = 0
        self._client = client
        self._subscriptions = subscriptions
        self._counts = [0] * len(subscriptions)
        self._done = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish())
            for at, subscription in enumerate(self._subscriptions):
                group.create_task(self._read(at, subscription))

    async def go_on(self, more: int = 20) -> None:
        """Return when `more` further messages have reached all readers."""
        goal = self.published + more
        await wait_until_async(lambda: min(self._counts) >= goal, what=f"{goal} messages")

    def end(self) -> None:
        self._done.set()

    async def _publish(self) -> None:
        while not self._done.is_set():
            await self._client.publish("others", self.published)
            self.published += 1
            # A steady load, and not all of a processor.
            await asyncio.sleep(PACE_S)
        await self._client.publish("others", None)

    async def _read(self, at: int, subscription: Subscription) -> None:
        """Raises at a gap."""
        async for message in subscription:
            if message.payload is None:
                assert self._counts[at] == self.published
                return
            assert message.payload == self._counts[at]
            self._counts[at] += 1


@contextlib.asynccontextmanager
async def others(*brokers: Broker) -> AsyncIterator[Others]:
    """Inside, every published message reaches all readers, once and in order, and no connection is cut."""
    async with contextlib.AsyncExitStack() as stack:
        lost: list[object] = []
        first, *_ = clients = [
            await stack.enter_async_context(pubsubd.connect(broker.socket, on_lost=lost.append))
            for broker in brokers
        ]
        subscriptions = [
            await stack.enter_async_context(client.subscribe("others")) for client in clients
        ]
        found = Others(first, subscriptions)
        running = asyncio.create_task(found.run())
        stack.callback(running.cancel)
        await found.go_on()
        yield found
        await found.go_on()
        found.end()
        await running
        assert not lost


@pytest.fixture
def pair(start_broker: StartBroker) -> tuple[Broker, Broker]:
    """a, and b that reads from it."""
    a = start_broker(
        "a",
        handshake_timeout=f"{DEADLINE_S}s",
        http_timeout=f"{DEADLINE_S}s",
        max_connections_per_uid=MOST_OF_ONE,
        max_connections_per_address=MOST_OF_ONE,
        ring_messages=HELD,
    )
    b = start_broker("b", peers=[a.listen])
    wait_until(b.ready)
    wait_until(lambda: holds(a)["connections"] == 1)
    return a, b


def holds(broker: Broker) -> dict[str, int]:
    """The broker's share of every resource that strangers can take."""
    status = broker.status()
    return {
        "descriptors": descriptors(broker.pid),
        "connections": status["connections"],
        "sessions": sum(session["connected"] for session in status["sessions"]),
        "names": len(status["sessions"]),
        "consumers": len(status["consumers"]),
        "tasks": status["tasks"],
    }


def least(broker: Broker) -> dict[str, int]:
    """The same, without a request or dial that was just under way."""
    looks = [holds(broker) for _ in range(30)]
    return {what: min(look[what] for look in looks) for what in looks[0]}


def given_back(broker: Broker, before: dict[str, int]) -> bool:
    now = holds(broker)
    return all(now[what] <= before[what] for what in before)


def no_errors(*brokers: Broker) -> bool:
    return not [
        line
        for broker in brokers
        for line in broker.logs
        if line["event"] is None or line.get("level") in ("error", "critical")
    ]


# Callers that stay slow


@pytest.mark.parametrize("door", ["unix", "tcp", "http"])
@async_test
async def test_slow_callers_end_by_the_deadline_and_harm_no_session(
    pair: tuple[Broker, Broker], door: Door
) -> None:
    a, b = pair
    before = least(a)
    async with others(a, b) as beside:
        with steady_memory(a.pid, SLOW_KIB):
            lasted_s = await in_thread(drip_until_all_have_ended, door_of(a, door), door)
        await beside.go_on()
    # Counted from the connection on, with any bytes: the last ones came a moment later, and notice at the next drip.
    assert DEADLINE_S < lasted_s < DEADLINE_S + 3
    what = "http_requests_refused_total" if door == "http" else "connections_refused_total"
    assert a.metric(what) == SLOW_AT_ONCE
    await in_thread(wait_until, lambda: given_back(a, before))
    assert no_errors(a, b)


def drip_until_all_have_ended(address: Address, door: Door) -> float:
    """Seconds from the first connection to the end of the last one."""
    text = ENDLESS_REQUEST if door == "http" else ENDLESS_GREETING
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        alive = [SlowLoris(address, text) for _ in range(SLOW_AT_ONCE)]
        for slow in alive:
            stack.callback(slow.close)

        def all_ended() -> bool:
            alive[:] = [slow for slow in alive if slow.drip()]
            return not alive

        wait_until(all_ended, what="the end of every slow caller")
        return time.monotonic() - began


# Callers that vanish

Way = Literal["closes", "resets", "is killed"]


# A killed process leaves something unread, which is what resets a Unix socket. Over TCP the kernel knows no third way.
@pytest.mark.parametrize(
    ("door", "way"),
    [("unix", "closes"), ("unix", "is killed"), ("tcp", "closes"), ("tcp", "resets")],
)
@async_test
async def test_1000_vanishing_callers_leave_nothing_behind(
    pair: tuple[Broker, Broker], door: Door, way: Way
) -> None:
    a, b = pair
    strangers = come_and_die if way == "is killed" else come_and_go
    address = door_of(a, door)
    before = least(a)
    async with others(a, b) as beside:
        await in_thread(strangers, address, way == "resets")
        await beside.go_on()
        with_others = await in_thread(least, a)
        grown_kib: list[int] = []
        while not grown_kib or grown_kib[-1] > STRANGERS_KIB:
            assert len(grown_kib) < MOST_ROUNDS, f"each thousand leaves more behind: {grown_kib}"
            first_kib = memory_kib(a.pid)
            await in_thread(strangers, address, way == "resets")
            await beside.go_on()
            await in_thread(wait_until, lambda: given_back(a, with_others))
            grown_kib.append(memory_kib(a.pid) - first_kib)
        assert a.metric("connections_refused_total", reason="too_many_of_one") == 0
    await in_thread(wait_until, lambda: given_back(a, before))
    assert no_errors(a, b)


def come_and_go(address: Address, reset: bool) -> None:
    for stage in STAGES:
        for _ in range(STRANGERS // len(STAGES) // AT_ONCE):
            callers = [come(address, stage) for _ in range(AT_ONCE)]
            for caller in callers:
                vanish(caller, reset=reset)


def come_and_die(address: Address, _reset: bool) -> None:
    text = address if isinstance(address, str) else "{}:{}".format(*address)
    for stage in STAGES:
        command = [sys.executable, "-m", "tests.integration.strangers"]
        count = STRANGERS // len(STAGES)
        with subprocess.Popen(
            [*command, stage, str(count), text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            process.kill()


# No descriptors left


def test_a_broker_with_few_descriptors_keeps_most_to_itself(start_broker: StartBroker) -> None:
    few = ("sh", "-c", f'ulimit -n {FEW_DESCRIPTORS}; exec "$@"', "few", *PUBSUBD)
    a = start_broker("a", command=few)
    line = a.wait_log("connections.limited")
    assert line["max_connections"] == FEW_DESCRIPTORS // 4
    with contextlib.ExitStack() as crowd:
        for _ in range(2 * FEW_DESCRIPTORS):
            crowd.enter_context(RawConnection(a.socket))
        # Further callers are turned away or closed, and there is room for health checks.
        wait_until(lambda: a.metric("connections_refused_total", reason="too_many_unheard") > 0)
        assert a.status()["connections"] <= FEW_DESCRIPTORS // 2
        # Nor did those that come all at once take what is left.
        assert a.metric("accept_pauses_total", listener="socket") == 0


@async_test
async def test_without_descriptors_a_broker_waits_and_recovers(start_broker: StartBroker) -> None:
    a = start_broker("a", command=PUBSUBD, handshake_timeout="1m", http_timeout="1m")
    b = start_broker("b", peers=[a.listen])
    wait_until(b.ready)
    # Later than it could provide for: other code in its process has taken them.
    resource.prlimit(a.pid, resource.RLIMIT_NOFILE, (FEW_DESCRIPTORS, FEW_DESCRIPTORS))
    before = least(a)
    async with others(a, b) as beside:
        with_others = await in_thread(least, a)
        with contextlib.ExitStack() as crowd:
            for door in ("unix", "tcp", "http") * FEW_DESCRIPTORS:
                crowd.enter_context(RawConnection(door_of(a, door)))
            for listener in ("socket", "peers"):
                await in_thread(lambda name: a.wait_log("accept.paused", listener=name), listener)
            assert descriptors(a.pid) >= FEW_DESCRIPTORS - 1
            began, used_s = time.monotonic(), cpu_s(a.pid)
            while time.monotonic() - began < WATCHED_S:
                await beside.go_on()
            share = (cpu_s(a.pid) - used_s) / (time.monotonic() - began)
            assert share < SPINNING
            for listener in ("socket", "peers"):
                assert len(said(a, "accept.paused", listener)) == 1
                assert not said(a, "accept.resumed", listener)
            mark = a.mark()
        for listener in ("socket", "peers"):
            await in_thread(
                lambda name: a.wait_log("accept.resumed", since=mark, listener=name), listener
            )
        await in_thread(wait_until, lambda: given_back(a, with_others))
        async with pubsubd.connect(a.socket) as client:
            await client.publish("afterwards", 1)
        with contextlib.closing(come(door_of(a, "tcp"), "after the greeting")):
            pass
        # Tried again now and then, at any speed of the machine, and logged once.
        exhausted_s = time.monotonic() - began
        for listener in ("socket", "peers"):
            pauses = a.metric("accept_pauses_total", listener=listener)
            assert 1 < pauses < 2 + MOST_PAUSES_PER_S * exhausted_s
        assert b.metric("peer_reconnects_total") == 0
    await in_thread(wait_until, lambda: given_back(a, before))
    assert no_errors(a, b)


def said(broker: Broker, event: str, listener: str) -> list[object]:
    return [line for line in broker.logs if line["event"] == event and line["listener"] == listener]

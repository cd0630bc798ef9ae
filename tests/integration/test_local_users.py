"""Local users: their rights to open the clients' socket, to connect, and to drop cursors."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.integration.another_user import error_as, pubsubd_as
from tests.integration.broker import Broker
from tests.integration.commands import ok
from tests.integration.hostile import RawConnection
from tests.integration.local_users import GROUP, OTHER_GROUP, outcome_for, without_a_secret
from tests.integration.steps import StartBroker, in_thread, within
from tests.integration.waiting import wait_until
from tests.other_users import OURS, STRANGER, acting_as, folder_for_all, needs_root

import pubsubd
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Ack, Attach, Attached
from pubsubd_protocol.positions import Position


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_all() as path:
        yield path


@pytest.fixture
def start_broker(start_broker: StartBroker) -> StartBroker:
    return without_a_secret(start_broker)


# Users that can open the socket.


@needs_root
@pytest.mark.parametrize(
    ("mode", "folder_mode", "stranger", "member"),
    [("0600", 0o700, False, False), ("0660", 0o710, False, True), ("0666", 0o711, True, True)],
)
def test_the_mode_decides_which_users_can_open_the_socket(
    folder: Path,
    start_broker: StartBroker,
    mode: str,
    folder_mode: int,
    stranger: bool,
    member: bool,
) -> None:
    a = start_broker("a", socket=str(folder / "new" / "s"), socket_mode=mode)
    status = os.stat(a.socket)
    assert stat.S_IMODE(status.st_mode) == int(mode, 8)
    assert stat.S_IMODE(os.stat(folder / "new").st_mode) == folder_mode
    for groups, gets_in in (([], stranger), ([status.st_gid], member)):
        error = outcome_for(a.socket, STRANGER, groups=groups)
        if gets_in:
            assert error is None
        else:
            assert isinstance(error, pubsubd.BrokerUnavailable)
            assert "Permission denied; it belongs to uid 0" in error.detail
    if not stranger:
        line = error_as(STRANGER, "publish", "t", "x", "--socket", a.socket, code=3)
        assert f"this process is uid {STRANGER}: run it as that user" in line


# Users that may connect, among those that can open the socket.


@needs_root
def test_a_user_is_allowed_by_its_uid_or_any_of_its_groups(
    folder: Path, start_broker: StartBroker
) -> None:
    a = start_broker(
        "a", socket=str(folder / "s"), socket_mode="0666", allow_uid=[OURS], allow_gid=[GROUP]
    )
    assert outcome_for(a.socket, OURS) is None
    assert outcome_for(a.socket, STRANGER, gid=GROUP) is None
    assert outcome_for(a.socket, STRANGER, groups=[OTHER_GROUP, GROUP]) is None
    # The broker's own user may always connect.
    assert outcome_for(a.socket, os.geteuid()) is None
    assert a.logged("connection.refused") == []

    for count, groups in enumerate(([], [OTHER_GROUP]), 1):
        mark = a.mark()
        error = outcome_for(a.socket, STRANGER, groups=groups)
        assert isinstance(error, pubsubd.ConnectionRefused)
        assert error.code == "not_allowed"
        assert not error.retriable
        assert error.detail == (
            f"uid {STRANGER} (gid {STRANGER}) may not connect: --allow-uid {STRANGER} would let it in"
        )
        assert a.metric("connections_refused_total", reason="not_allowed") == count
        assert a.wait_log("connection.refused", since=mark)["detail"] == error.detail


@needs_root
def test_every_command_tells_in_one_line_of_a_refused_user(
    folder: Path, start_broker: StartBroker
) -> None:
    a = start_broker("a", socket=str(folder / "s"), socket_mode="0666", allow_uid=[OURS])
    for command in (
        ["publish", "t", "x"],
        ["subscribe", "t"],
        ["status"],
    ):
        line = error_as(STRANGER, *command, "--socket", a.socket, code=1)
        assert line.endswith(f"--allow-uid {STRANGER} would let it in (not_allowed)")
    assert pubsubd_as(OURS, "publish", "t", "x", "--socket", a.socket).returncode == 0


@needs_root
@async_test
async def test_an_application_no_longer_allowed_is_told_so(
    folder: Path, start_broker: StartBroker
) -> None:
    a = start_broker("a", socket=str(folder / "s"), socket_mode="0666", allow_uid=[OURS])

    @contextlib.asynccontextmanager
    async def comes_back(allowed: int) -> AsyncIterator[None]:
        """The broker comes back with another rule; the application is `OURS` while it serves."""
        await in_thread(a.stop)
        a.options["allow_uid"] = [allowed]
        a.start(wait=False)
        with acting_as(OURS):
            await in_thread(a.wait_started)
            yield

    with acting_as(OURS):
        client = await pubsubd.connect(a.socket)
        subscription = await client.subscribe("t")
    try:
        async with comes_back(STRANGER):
            with pytest.raises(pubsubd.ConnectionRefused, match="may not connect") as caught:
                await within(anext(subscription), "the end of the subscription")
            assert caught.value.code == "not_allowed"
            # A publish is tried for its whole time, as a changed rule may let it in; then it gives the reason.
            with pytest.raises(pubsubd.BrokerUnavailable, match="may not connect"):
                await within(client.publish("t", "x", timeout=3), "the end of the publish")
        async with comes_back(OURS):
            await within(client.publish("t", "x", timeout=20), "the next publish")
    finally:
        await client.close()


# Users that may look after the broker.


@needs_root
def test_only_the_brokers_user_and_root_drop_cursors(
    folder: Path, start_broker: StartBroker
) -> None:
    a = start_broker("a", socket=str(folder / "s"), socket_mode="0666")
    consumer_comes_and_goes(a)
    drop = ["cursors", "drop", "old-node", "--socket", a.socket]
    line = error_as(STRANGER, *drop, code=1)
    assert "only the broker's own user and root may drop a cursor (not_allowed)" in line
    assert a.metric("connections_refused_total", reason="not_allowed") == 1
    shown = pubsubd_as(STRANGER, "cursors", "list", "--socket", a.socket)
    assert shown.returncode == 0
    assert b"old-node" in shown.stdout
    ok(*drop)
    assert a.status()["consumers"] == []


def consumer_comes_and_goes(broker: Broker) -> None:
    """`broker` keeps a cursor of the node old-node from now on."""
    host, _, port = broker.listen.rpartition(":")
    with RawConnection((host, int(port))) as raw:
        raw.greet("peer", name="old-node")
        raw.send(encode(Attach(Remembered(waiting=False))))
        attached = raw.frame()
        assert isinstance(attached, Attached)
        raw.send(encode(Ack(broker.node, Position(attached.view.epoch, attached.view.next))))
        wait_until(lambda: broker.metric("cursors") == 1, what="its cursor")
    wait_until(lambda: broker.metric("consumer_connected") == 0, what="its end")

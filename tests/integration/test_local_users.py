"""Local users: their rights to open the clients' socket, to connect, and to use topics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from tests.asynchronous import async_test
from tests.integration.another_user import error_as, pubsubd_as
from tests.integration.cluster import Broker, wait_until
from tests.integration.commands import error_of, ok
from tests.integration.hostile import EPOCH, RawConnection, publish
from tests.integration.steps import StartBroker, in_thread, payloads_to, subscribed, within
from tests.other_users import OURS, STRANGER, acting_as, folder_for_all, needs_root

import pubsubd
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Ack, Attach, Attached, Receipt, Refused, Rejected, Welcome
from pubsubd_protocol.positions import Position

GROUP: Final = 54_323
OTHER_GROUP: Final = 54_324


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_all() as path:
        yield path


@pytest.fixture
def start_broker(start_broker: StartBroker) -> StartBroker:
    """Without a secret: these tests are not about peers, so any peer may come."""

    def start(*names: str, **options: Any) -> Broker:
        return start_broker(*names, **{"insecure": True, **options})

    return start


def outcome_for(
    socket: str, uid: int, gid: int | None = None, groups: Sequence[int] = ()
) -> pubsubd.PubSubError | None:
    """The error that keeps this user's application from connecting; None if it connects."""

    async def connect() -> None:
        async with pubsubd.connect(socket) as client:
            await client.publish("t", uid)

    with acting_as(uid, gid, groups):
        try:
            asyncio.run(connect())
        except pubsubd.PubSubError as error:
            return error
    return None


def lines_of(broker: Broker, event: str) -> list[dict[str, Any]]:
    return [line for line in list(broker.logs) if line["event"] == event]


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
    assert lines_of(a, "connection.refused") == []

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


# The actions that users may take.

RULE: Final = "publish:orders.> publish:rooms.1 subscribe:orders.* subscribe:rooms.>"


@async_test
async def test_a_publish_without_a_rule_is_rejected_alone(start_broker: StartBroker) -> None:
    a = start_broker("a", topic_rule=[RULE])
    async with pubsubd.connect(a.socket) as client, subscribed(a, "rooms.>") as subscription:
        await client.publish("rooms.1", "first")
        with pytest.raises(pubsubd.PublishRejected) as caught:
            await client.publish("rooms.2", "never")
        assert caught.value.code == "not_allowed"
        assert not caught.value.retriable
        assert "this user may not publish on 'rooms.2': no --topic-rule allows it" in str(
            caught.value
        )
        await client.publish("orders.a.b", "not for us")
        await client.publish("rooms.1", "last")
        assert await payloads_to(subscription, "last") == ["first", "last"]
        assert client.state.value == "connected"
    assert a.metric("publishes_rejected_total", reason="not_allowed") == 1
    assert a.status()["ring"]["next_offset"] == 3
    assert lines_of(a, "connection.refused") == []


@async_test
async def test_a_rejected_message_keeps_no_other_out(start_broker: StartBroker) -> None:
    a = start_broker(
        "a", topic_rule=[RULE], max_topic_bytes=10, max_batch_topics=3, log_repeat="1m"
    )
    us = f"uid {os.geteuid()}"
    topics = [
        "orders.1",
        "other",
        "orders.2",
        "orders.too.long",
        "orders.3",
        "orders.4",
        "orders.5",
    ]
    async with pubsubd.connect(a.socket) as client, subscribed(a, "orders.*") as subscription:
        outcomes = await asyncio.gather(
            *(client.publish(topic, topic) for topic in topics), return_exceptions=True
        )
        refused = {topics[i]: o for i, o in enumerate(outcomes) if isinstance(o, BaseException)}
        assert list(refused) == ["other", "orders.too.long"]
        not_allowed, too_long = refused.values()
        assert isinstance(not_allowed, pubsubd.PublishRejected)
        assert (not_allowed.code, not_allowed.size) == ("not_allowed", None)
        assert isinstance(too_long, pubsubd.PublishRejected)
        assert (too_long.code, too_long.size, too_long.limit) == ("topic_too_long", 15, 10)
        # Nor does it where the application does not wait for the outcome, and the order stays.
        await client.send("rooms.1", "before it")
        await client.send("rooms.2", "never")
        await client.send("rooms.1", "after it")
        with pytest.raises(pubsubd.PublishRejected, match=r"on 'rooms\.2'") as caught:
            await client.flush()
        assert caught.value.failed == 1
        await subscription.add("rooms.1")
        await client.publish("orders.6", "last")
        expected = [topic for topic in topics if topic not in refused]
        assert await payloads_to(subscription, "last") == [*expected, "last"]
    # The broker has refused them, not the client: it has counted and logged them, once for each cause.
    await in_thread(lambda: a.wait_log("publish.rejected", code="topic_too_long"))
    assert [
        (line["code"], line["origin"], line["detail"]) for line in lines_of(a, "publish.rejected")
    ] == [
        ("not_allowed", us, "this user may not publish on 'other': no --topic-rule allows it"),
        ("topic_too_long", us, "a topic has 15 bytes, allowed are 10"),
    ]
    assert a.metric("publishes_rejected_total", reason="not_allowed") == 2
    assert a.metric("publishes_rejected_total", reason="topic_too_long") == 1
    assert a.metric("publishes_rejected_total", reason="too_many_topics") == 0


@async_test
async def test_a_subscription_without_a_rule_is_refused_at_once(start_broker: StartBroker) -> None:
    a = start_broker("a", topic_rule=[RULE])
    async with pubsubd.connect(a.socket) as client:
        # A single rule must allow a pattern as a whole; rules are not combined.
        for patterns in (["other"], [">"], ["orders.>"], ["rooms.1", "other"]):
            before = a.metric("connections_refused_total", reason="not_allowed")
            with pytest.raises(pubsubd.ConnectionRefused) as caught:
                await within(client.subscribe(*patterns)._open(), "a refusal")
            assert caught.value.code == "not_allowed"
            assert f"may not subscribe to {patterns[-1]!r}" in caught.value.detail
            assert not caught.value.retriable
            assert a.metric("connections_refused_total", reason="not_allowed") == before + 1
        async with client.subscribe("orders.*", "rooms.1.>") as subscription:
            await client.publish("orders.a", "allowed")
            assert await payloads_to(subscription, "allowed") == ["allowed"]


@async_test
async def test_an_added_pattern_without_a_rule_is_refused_alone(start_broker: StartBroker) -> None:
    a = start_broker("a", topic_rule=[RULE])
    async with (
        pubsubd.connect(a.socket) as client,
        client.subscribe("orders.*") as subscription,
    ):
        await subscription.add("rooms.1")
        await client.publish("rooms.1", "allowed")
        assert await payloads_to(subscription, "allowed") == ["allowed"]
        with pytest.raises(pubsubd.ConnectionRefused, match="'other'") as caught:
            await within(subscription.add("other"), "a refusal")
        assert caught.value.code == "not_allowed"
        # Messages published meanwhile are not lost, and the filter can be changed again.
        await client.publish("rooms.1", "behind it")
        await within(subscription.add("rooms.2"), "an answer")
        await client.publish("orders.a", "last")
        assert await payloads_to(subscription, "last") == ["behind it", "last"]
        assert a.metric("connections_refused_total", reason="not_allowed") == 1


@needs_root
def test_rules_hold_for_the_users_and_groups_they_name(
    folder: Path, start_broker: StartBroker
) -> None:
    rules = [
        f"uid:{OURS} publish:t",
        f"gid:{GROUP} subscribe:t",
        f"uid:{os.geteuid()} publish:> subscribe:>",
    ]
    a = start_broker("a", socket=str(folder / "s"), socket_mode="0666", topic_rule=rules)
    assert outcome_for(a.socket, OURS) is None
    for uid, groups in ((STRANGER, []), (STRANGER, [GROUP])):
        error = outcome_for(a.socket, uid, groups=groups)
        assert isinstance(error, pubsubd.PublishRejected)
        assert error.code == "not_allowed"
    read = ["subscribe", "t", "--start", "earliest", "--count", "1", "--socket", a.socket]
    assert "'t'" in error_as(OURS, *read, code=1)
    done = pubsubd_as(STRANGER, *read, groups=[OTHER_GROUP, GROUP])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"t {OURS}\n".encode()


def test_commands_tell_a_missing_rule_in_one_line(start_broker: StartBroker) -> None:
    a = start_broker("a", topic_rule=[RULE])
    line = error_of("publish", "other", "x", "--socket", a.socket, code=1)
    assert "this user may not publish on 'other': no --topic-rule allows it (not_allowed)" in line
    line = error_of("subscribe", "rooms.1", "other", "--socket", a.socket, code=1)
    assert "this user may not subscribe to 'other': no --topic-rule allows all of it" in line


def test_a_retry_gets_its_receipt_though_rules_have_changed(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = start_broker("a", journal=str(tmp_path / "journal"), fsync="always")
    with RawConnection(a.socket) as raw:
        welcome = raw.greet("publisher", life=EPOCH)
        assert isinstance(welcome, Welcome)
        raw.send(publish("t", sequence=1))
        accepted = raw.frame()
        assert isinstance(accepted, Receipt)
    a.options["topic_rule"] = ["publish:other"]
    a.restart()
    with RawConnection(a.socket) as raw:
        assert isinstance(raw.greet("publisher", life=EPOCH, spoke_to=welcome.life), Welcome)
        raw.send(publish("t", sequence=1, retry=True))
        assert raw.frame() == accepted
        raw.send(publish("t", sequence=2))
        rejected = raw.frame()
        assert isinstance(rejected, Rejected)
        assert rejected.code == "not_allowed"
    # A rejected batch stays rejected.
    with RawConnection(a.socket) as raw:
        again = raw.greet("publisher", life=EPOCH, spoke_to=welcome.life)
        assert isinstance(again, Welcome)
        raw.send(publish("t", sequence=2, retry=True))
        assert raw.frame() == rejected
    assert a.status()["ring"]["next_offset"] == accepted.first + 1


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


# The number of log lines.


def refused_as_peer(broker: Broker, times: int) -> None:
    """Connections to the wrong door, each refused for the same reason."""
    for _ in range(times):
        with RawConnection(broker.socket) as raw:
            answer = raw.greet("peer", name="b")
            assert isinstance(answer, Refused)
            assert answer.code == "role"


def test_50_refusals_of_one_origin_are_one_line_and_all_counted(start_broker: StartBroker) -> None:
    a = start_broker("a", log_repeat="1m")
    refused_as_peer(a, 50)
    assert a.metric("connections_refused_total", reason="role") == 50
    assert len(lines_of(a, "connection.refused")) == 1
    # Another cause is another line.
    with RawConnection(a.socket) as raw:
        raw.greet(lowest=7, highest=8)
    assert a.wait_log("connection.refused", code="version")
    assert len(lines_of(a, "connection.refused")) == 2
    assert lines_of(a, "log.repeated") == []


def test_the_number_of_repeats_is_logged_after_its_time(start_broker: StartBroker) -> None:
    a = start_broker("a", log_repeat="300ms")
    refused_as_peer(a, 50)

    def said() -> int:
        repeated = sum(line["times"] for line in lines_of(a, "log.repeated"))
        return int(repeated) + len(lines_of(a, "connection.refused"))

    wait_until(lambda: said() >= 50, what="the word that it was repeated")
    assert said() == 50
    line = a.wait_log("log.repeated")
    assert (line["of"], line["why"]) == ("connection.refused", "role")
    assert line["origin"] == f"uid {os.geteuid()}"
    # And that it happens again.
    mark = a.mark()

    def is_told_again() -> bool:
        refused_as_peer(a, 1)
        return any(line["event"] == "connection.refused" for line in a.logs[mark:])

    wait_until(is_told_again, what="another line")

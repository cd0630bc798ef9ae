"""Topic rules: the topics that a user may publish on and subscribe to."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import pytest
from tests.asynchronous import async_test
from tests.integration.another_user import error_as, pubsubd_as
from tests.integration.commands import error_of
from tests.integration.hostile import EPOCH, RawConnection, publish
from tests.integration.local_users import GROUP, OTHER_GROUP, outcome_for, without_a_secret
from tests.integration.steps import StartBroker, in_thread, payloads_to, subscribed, within
from tests.other_users import OURS, STRANGER, folder_for_all, needs_root

import pubsubd
from pubsubd_protocol.frames import Receipt, Rejected, Welcome


@pytest.fixture
def start_broker(start_broker: StartBroker) -> StartBroker:
    return without_a_secret(start_broker)


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
    assert a.logged("connection.refused") == []


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
        (line["code"], line["origin"], line["detail"]) for line in a.logged("publish.rejected")
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
def test_rules_hold_for_the_users_and_groups_they_name(start_broker: StartBroker) -> None:
    rules = [
        f"uid:{OURS} publish:t",
        f"gid:{GROUP} subscribe:t",
        f"uid:{os.geteuid()} publish:> subscribe:>",
    ]
    with folder_for_all() as folder:
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
        assert isinstance(raw.greet("publisher", life=EPOCH, spoke_to=welcome.epoch), Welcome)
        raw.send(publish("t", sequence=1, retry=True))
        assert raw.frame() == accepted
        raw.send(publish("t", sequence=2))
        rejected = raw.frame()
        assert isinstance(rejected, Rejected)
        assert rejected.code == "not_allowed"
    # A rejected batch stays rejected.
    with RawConnection(a.socket) as raw:
        again = raw.greet("publisher", life=EPOCH, spoke_to=welcome.epoch)
        assert isinstance(again, Welcome)
        raw.send(publish("t", sequence=2, retry=True))
        assert raw.frame() == rejected
    assert a.status()["ring"]["next_offset"] == accepted.first + 1

"""The blocking client against real brokers: threads, signals, forks, losses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests.integration.blocking import THREADS
from tests.integration.broker import Broker
from tests.integration.commands import TIMEOUT_S, environment
from tests.integration.forking import CHILDREN, EACH
from tests.integration.steps import StartBroker
from tests.integration.waiting import wait_until

import pubsubd
import pubsubd.sync
from pubsubd import (
    AlreadyIterating,
    Batch,
    BrokerUnavailable,
    ClientClosed,
    CursorExpired,
    EncodeError,
    InvalidArgument,
    InvalidTopic,
    Message,
    MessageTooLarge,
    NameInUse,
    NodeBack,
    NodeLost,
    PubSubError,
    Reason,
)
from pubsubd.sync import Client, Subscription

GET_S: Final = 30.0
"""Seconds for which a message that must come may take."""
SOON_S: Final = 0.05


@contextmanager
def opened(broker: Broker, *patterns: str, **options: Any) -> Iterator[tuple[Client, Subscription]]:
    with (
        pubsubd.sync.connect(broker.socket) as client,
        client.subscribe(*patterns or (">",), **options) as subscription,
    ):
        yield client, subscription


def payloads(subscription: Subscription, count: int) -> list[Any]:
    found = []
    for _ in range(count):
        message = subscription.get(timeout=GET_S)
        assert message is not None
        found.append(message.payload)
    return found


def outcome(call: Callable[[], object], results: list[object]) -> threading.Thread:
    """A thread that adds the result of `call`, or its error."""

    def run() -> None:
        try:
            results.append(call())
        except PubSubError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.fast
def test_publishing_and_reading_in_each_way(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    threads = threading.active_count()
    with opened(broker, "t.>") as (client, subscription):
        receipt = client.publish("t.a", {"n": 1}, timeout=GET_S)
        assert (receipt.node, receipt.offset) == ("a", 0) == (client.node, 0)
        message = subscription.get(timeout=GET_S)
        assert message is not None
        assert (message.topic, message.payload, message.offset) == ("t.a", {"n": 1}, 0)
        assert subscription.get(timeout=0) is None
        assert subscription.get(timeout=SOON_S) is None
        receipts = client.publish_many("t.b", [1, 2, 3])
        assert [each.offset for each in receipts] == [1, 2, 3]
        assert [each.offset for each in client.publish_many("t.b", iter([4, 5]))] == [4, 5]
        client.send("t.b", 6)
        client.flush()
        client.publish("other", "not for this subscription")
        client.publish("t.c", "last")
        assert payloads(subscription, 2) == [1, 2]
        event = next(subscription.events())
        assert isinstance(event, Message)
        assert event.payload == 3
        batches: list[Batch] = []
        while not batches or batches[-1].topics != ["t.c"]:
            batches.append(next(subscription.batches()))
        assert [payload for batch in batches for payload in batch.payloads()] == [4, 5, 6, "last"]
        assert subscription.position["a"][1] == 9
        assert threading.active_count() == threads
        assert "connected" in repr(client)
        assert "t.>" in repr(subscription)


@pytest.mark.fast
def test_a_client_connects_at_its_first_use(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    client = pubsubd.sync.connect(broker.socket)
    states = [client.state]
    client.publish("t", 1)
    states.append(client.state)
    assert states == [pubsubd.State.CONNECTING, pubsubd.State.CONNECTED]
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.publish("t", 1)
    with pytest.raises(ClientClosed):
        client.subscribe("t")
    with pytest.raises(BrokerUnavailable, match="pubsubd start"):
        pubsubd.sync.connect(f"{broker.socket}-nowhere").publish("t", 1)
    with pytest.raises(BrokerUnavailable), pubsubd.sync.connect(f"{broker.socket}-nowhere"):
        pass


@pytest.mark.fast
def test_wrong_arguments_raise_in_their_call(start_broker: StartBroker) -> None:
    broker = start_broker("a", max_message="1KiB")

    async def reload(expired: CursorExpired) -> None: ...

    async def no_list() -> Any:
        yield 1

    with opened(broker) as (client, subscription):
        with pytest.raises(InvalidTopic):
            client.publish("a.*", 1)
        with pytest.raises(InvalidTopic):
            client.publish(["not", "hashable"], 1)  # type: ignore[arg-type]
        with pytest.raises(MessageTooLarge):
            client.publish("a", b"x" * 2000)
        with pytest.raises(MessageTooLarge):
            client.publish_many("a", [b"", b"x" * 2000])
        with pytest.raises(EncodeError):
            client.send("a", object())
        with pytest.raises(EncodeError, match="payload 2") as caught:
            client.publish_many("a", iter([1, object()]))
        assert "payload 2" in str(caught.value.__notes__)
        with pytest.raises(InvalidArgument, match="coroutine"):
            client.subscribe("a", on_expired=reload)
        with pytest.raises(InvalidArgument, match="asynchronous"):
            client.publish_many("a", no_list())
        with pytest.raises(InvalidArgument):
            subscription.get(timeout=-1)
        with pytest.raises(pubsubd.PublishRejected, match="no node"):
            client.publish("a", 1, to="no node")
        assert client.publish("a", 1).offset == 1
        message = subscription.get(timeout=GET_S)
        assert message is not None
        with pytest.raises(InvalidArgument, match="manual"):
            subscription.ack(message)


def test_threads_share_a_client_and_its_batches(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    places: list[int] = []
    each = 200
    with pubsubd.sync.connect(broker.socket) as client:

        def publish() -> None:
            places.extend(client.publish("t", n).offset for n in range(each))

        threads = [threading.Thread(target=publish) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(places) == list(range(8 * each))
    # While one thread waits for an answer, the messages of the others collect.
    assert broker.metric("pubsubd_publish_seconds_count") < 8 * each


def test_a_restart_is_bridged_and_a_lost_memory_is_told(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    told: list[str] = []
    with (
        pubsubd.sync.connect(
            broker.socket,
            on_lost=lambda why: told.append("lost"),
            on_restored=lambda: told.append("restored"),
        ) as client,
        client.subscribe(">") as subscription,
    ):
        client.publish("t", "before")
        assert payloads(subscription, 1) == ["before"]
        broker.restart()
        client.publish("t", "after a clean restart")
        assert payloads(subscription, 1) == ["after a clean restart"]
        broker.restart(signal.SIGKILL)
        client.send("t", "after a crash")
        client.flush()
        event = next(subscription.events())
        assert isinstance(event, CursorExpired)
        assert event.reason is Reason.STATE_LOST
        client.publish("t", "behind the gap")
        assert payloads(subscription, 1) == ["behind the gap"]
        assert told == ["lost", "restored"] * 2


def test_a_silent_broker_ends_waits_in_time(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with opened(broker) as (client, subscription):
        broker.pause()
        with pytest.raises(pubsubd.PublishUnknown):
            client.publish("t", 1, timeout=SOON_S)
        events = subscription.events(status=True)
        lost = next(events)
        assert isinstance(lost, NodeLost)
        assert lost.node == "a"
        assert set(subscription.unreachable) == {"a"}
        broker.resume()
        assert next(events) == NodeBack("a")
        assert client.publish("t", 2).node == "a"


def test_gaps_are_told_in_their_place(start_broker: StartBroker) -> None:
    broker = start_broker("a", ring_messages=10)
    calls: list[CursorExpired] = []

    def fails_once(expired: CursorExpired) -> None:
        calls.append(expired)
        if len(calls) == 1:
            raise RuntimeError("no database")

    with pubsubd.sync.connect(broker.socket) as client:
        client.publish("t", "first")
        place = {"a": [client.publish("t", "second").epoch, 0]}
        for n in range(20):
            client.publish("t", n)
        with client.subscribe("t", position=place) as subscription:
            with pytest.raises(CursorExpired) as caught:
                subscription.get(timeout=GET_S)
            assert (caught.value.reason, caught.value.missed) == (Reason.OVERWRITTEN, 22)
            client.publish("t", "behind the gap")
            assert payloads(subscription, 1) == ["behind the gap"]
        with client.subscribe("t", position=place) as subscription:
            event = next(subscription.events())
            assert isinstance(event, CursorExpired)
            assert event.missed == 23
            assert subscription.position["a"][1] == 23
        with client.subscribe("t", position=place, on_expired=fails_once) as subscription:
            with pytest.raises(RuntimeError, match="no database"):
                subscription.get(timeout=GET_S)
            assert subscription.position == place
            client.publish("t", "behind the gap")
            assert payloads(subscription, 1) == ["behind the gap"]
            assert [each.missed for each in calls] == [23, 23]


def test_names_acknowledge_and_have_one_holder(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with pubsubd.sync.connect(broker.socket) as client:
        with client.subscribe("t", name="n") as subscription:
            client.publish_many("t", [0, 1, 2])
            assert payloads(subscription, 2) == [0, 1]
            with pytest.raises(NameInUse):
                client.subscribe("t", name="n")
            results: list[object] = []
            waiting = outcome(lambda: client.subscribe("t", name="n", wait=True), results)
        waiting.join()
        (standby,) = results
        assert isinstance(standby, Subscription)
        assert standby.resumed
        # The second was not acknowledged: no further one was asked for.
        assert payloads(standby, 2) == [1, 2]
        standby.close()
        with client.subscribe("t", name="m", start="earliest", ack="manual") as subscription:
            messages = [subscription.get(timeout=GET_S) for _ in range(3)]
            assert messages[0] is not None
            subscription.ack(messages[0])
        with client.subscribe("t", name="m", ack="manual") as subscription:
            assert payloads(subscription, 2) == [1, 2]


def test_the_filter_changes_while_another_thread_waits(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with opened(broker, "t") as (client, subscription):
        results: list[object] = []
        waiting = outcome(lambda: subscription.get(timeout=GET_S), results)
        assert subscription.add("u")["a"][1] == 0
        client.publish("u", "of the new pattern")
        waiting.join()
        assert isinstance(results[0], Message)
        assert results[0].topic == "u"
        assert subscription.remove("t")["a"][1] == 1
        assert subscription.patterns == ("u",)
        client.publish("t", "no longer wanted")
        client.publish("u", "wanted")
        assert payloads(subscription, 1) == ["wanted"]
        with pytest.raises(InvalidTopic):
            subscription.remove("u")


def test_another_thread_may_not_iterate_but_close(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with opened(broker) as (_client, subscription):
        results: list[object] = []
        waiting = outcome(lambda: subscription.get(timeout=GET_S), results)
        wait_until(lambda: subscription._iterated_in, what="the other thread's wait")
        with pytest.raises(AlreadyIterating):
            subscription.get(timeout=0)
        subscription.close()
        waiting.join()
        assert isinstance(results[0], ClientClosed)
        assert subscription.state is pubsubd.State.CLOSED
        with pytest.raises(ClientClosed):
            next(subscription)


def test_closing_gives_up_what_has_no_answer(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    client = pubsubd.sync.connect(broker.socket, close_timeout_s=SOON_S)
    client.publish("t", "accepted")
    broker.pause()
    results: list[object] = []
    waiting = outcome(lambda: client.publish("t", "unanswered", timeout=GET_S), results)
    wait_until(lambda: client._publisher()._service.served, what="the other thread's wait")
    client.close()
    waiting.join()
    assert isinstance(results[0], pubsubd.PublishUnknown)
    broker.resume()
    sent = pubsubd.sync.connect(broker.socket, close_timeout_s=SOON_S)
    sent.publish("t", "accepted")
    broker.pause()
    sent.send("t", "unanswered")
    with pytest.raises(pubsubd.PublishUnknown):
        sent.close()
    broker.resume()


@contextmanager
def program(broker: Broker, what: str) -> Iterator[subprocess.Popen[str]]:
    """The program, which must end without an error."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.blocking", what, str(broker.socket)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def told(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate(timeout=2 * TIMEOUT_S)
        pytest.fail(errors)
    return json.loads(line)


def _sleeps(process: int) -> bool:
    """Whether the process waits for something."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_signal_ends_a_wait_at_once_and_nothing_is_lost(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with (
        program(broker, "interrupted_wait") as process,
        pubsubd.sync.connect(broker.socket) as client,
    ):
        assert told(process) == "waits"
        os.kill(process.pid, signal.SIGINT)
        assert told(process) == "interrupted"
        client.publish("t", "after the signal")
        assert told(process) == "after the signal"


@pytest.mark.parametrize(
    ("what", "end"),
    [
        ("closed_by_a_handler", ["ClientClosed", 0]),
        ("used_by_a_handler", "from the handler"),
    ],
)
def test_a_handler_may_use_what_waits(start_broker: StartBroker, what: str, end: object) -> None:
    broker = start_broker("a")
    with program(broker, what) as process:
        assert told(process) == "waits"
        wait_until(lambda: _sleeps(process.pid), what="the program's wait")
        os.kill(process.pid, signal.SIGTERM)
        assert told(process) == end


def test_interruptions_at_random_lose_and_repeat_nothing(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with program(broker, "interrupted_at_random") as process:
        result = told(process)
    assert result["seen"] == list(range(len(result["seen"])))
    assert result["interrupted"] > 0


def test_interrupted_publishing_leaves_no_thread_waiting(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with program(broker, "interrupted_publishing") as process:
        result = told(process)
    offsets = [offset for _, offset in result["receipts"]]
    assert len(set(offsets)) == len(offsets)
    assert result["interrupted"] > 0


def test_forked_children_have_places_of_their_own(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    with program(broker, "forked") as process:
        result = told(process)
    places = [
        *result["parent"],
        *(each for child in result["children"] for each in child["places"]),
    ]
    offsets = [offset for _, offset in places]
    assert sorted(offsets) == list(range(len(offsets)))
    assert [child["refusal"] for child in result["children"]] == ["ClientClosed"] * (1 + CHILDREN)
    assert [child["first"] for child in result["children"]] == [0] * (1 + CHILDREN)
    assert result["seen"] == [True] * EACH
    assert len(result["parent"]) >= 2 * EACH + THREADS


@pytest.mark.fast
def test_it_is_loaded_when_it_is_asked_for() -> None:
    code = "import sys, pubsubd; before = 'pubsubd.sync' in sys.modules; pubsubd.sync.connect; print(before)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == "False\n"

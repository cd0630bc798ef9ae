"""The commands for messages and queries, each in a process of its own against real brokers."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import Running, environment, error_of, holds, ok, pubsubd
from tests.integration.steps import StartBroker
from tests.integration.waiting import wait_until

import pubsubd as sdk

MESSAGE = ["event", "node", "offset", "topic", "payload", "epoch", "time"]
CURSOR_EXPIRED = ["event", "node", "reason", "missed", "next", "epoch"]


def subscribed(broker: Broker, count: int = 1) -> None:
    """Return when `count` sessions are open."""
    holds(lambda: broker.metric("sessions") == count, f"{count} sessions")


def on(broker: Broker) -> tuple[str, str]:
    return "--socket", broker.socket


def payloads(text: str) -> list[Any]:
    return [json.loads(line)["payload"] for line in text.splitlines()]


def a_value(chance: random.Random, depth: int = 0) -> Any:
    """Any JSON value that a message can hold."""
    match chance.randrange(10 if depth < 4 else 7):
        case 0:
            return chance.choice(
                ["", "ü", "日本語", "🎉", "a\nb", '"\\', "\x00", "\u2028", "naïve"]
            )
        case 1:
            return chance.choice([0, -1, 2**53 + 1, 2**63, 2**64 - 1, -(2**63)])
        case 2:
            return chance.choice([0.1, -0.0, 1e300, 5e-324, 1.0, 123456789.123456789])
        case 3:
            return chance.choice([True, False, None])
        case 4:
            return chance.choice([[], {}, [[]], {"": ""}])
        case 5 | 6:
            return chance.randrange(-(10**6), 10**6)
        case 7 | 8:
            return [a_value(chance, depth + 1) for _ in range(chance.randrange(4))]
        case _:
            keys = ["", "id", "ключ", "a.b", "🎉"]
            return {chance.choice(keys): a_value(chance, depth + 1) for _ in range(3)}


def test_40_000_lines_come_out_unchanged_on_another_node(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    count = 40_000
    room = {"ring_messages": 200_000, "ring_bytes": "256MiB"}
    a = start_broker("a", **room)
    b = start_broker("b", peers=[a.listen], replica_messages=200_000, replica_bytes="256MiB")
    wait_until(b.ready)
    chance = random.Random(1)
    lines = [json.dumps(a_value(chance), ensure_ascii=i % 2 == 0) for i in range(count)]
    source, result = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(lines), encoding="utf-8")
    with result.open("wb") as out, source.open("rb") as into:
        reading = subprocess.Popen(
            [*PUBSUBD, "subscribe", "bulk.>", "--json", "--count", str(count), *on(b)],
            stdout=out,
            env=environment(),
        )
        try:
            subscribed(b)
            published = subprocess.run(
                [*PUBSUBD, "publish", "bulk.lines", "--stdin", "--json", *on(a)],
                stdin=into,
                env=environment(),
                timeout=90,
                check=False,
            )
            assert published.returncode == 0
            assert reading.wait(90) == 0
        finally:
            reading.kill()
            reading.wait()
    # Only a line feed ends a line; U+2028 and similar characters may stand in one.
    events = [json.loads(line) for line in result.read_bytes().rstrip(b"\n").split(b"\n")]
    assert [event["offset"] for event in events] == list(range(count))
    assert {(e["event"], e["node"], e["topic"]) for e in events} == {("message", "a", "bulk.lines")}
    # Compare as text: 1, 1.0 and true are equal in Python, and are different values.
    wanted = [json.dumps(json.loads(line)) for line in lines]
    assert [json.dumps(event["payload"]) for event in events] == wanted


def test_every_exit_code(start_broker: StartBroker, tmp_path: Path) -> None:
    a = start_broker("a")
    assert ok("publish", "t", "x", *on(a)) == ""
    assert "no node 'absent'" in error_of("publish", "t", "x", "--to", "absent", *on(a), code=1)
    assert "--help" in error_of("publish", "t", *on(a), code=2)
    assert "white space" in error_of("publish", "a b", "x", *on(a), code=2)
    assert ">" in error_of("subscribe", "a.>.b", *on(a), code=2)
    assert "no such option" in error_of("status", "--nonsense", code=2).lower()
    nowhere = str(tmp_path / "s")
    for command in (["publish", "t", "x"], ["subscribe", "t"], ["status"], ["cursors", "list"]):
        line = error_of(*command, "--socket", nowhere, code=3)
        assert nowhere in line
        assert "pubsubd start" in line
    for command in (
        ["publish", "a b", "x"],
        ["publish", "t", "x", "--to", "b b"],
        ["subscribe", ""],
    ):
        assert nowhere not in error_of(*command, "--socket", nowhere, code=2)
    assert "--timeout" in error_of("subscribe", "t", "--timeout", "50ms", *on(a), code=4)
    with Running("subscribe", "t", *on(a)) as reading:
        subscribed(a)
        assert reading.interrupt() == 130
        assert reading.errors == []


def test_a_stopped_broker_is_told_apart_from_a_missing_one(start_broker: StartBroker) -> None:
    a = start_broker("a")
    a.pause()
    try:
        assert "--timeout" in error_of("status", "--timeout", "100ms", *on(a), code=4)
        line = error_of("publish", "t", "x", *on(a), code=3)
        assert "a process listens there" in line
        assert "pubsubd start" not in line
    finally:
        a.resume()
    ok("status", "--timeout", "30s", *on(a))


def test_count_and_start_earliest_read_the_ring(start_broker: StartBroker) -> None:
    a = start_broker("a")
    ok("publish", "t.x", "one", "two", "three", *on(a))
    ok("publish", "u", "other", *on(a))
    earliest = ("--start", "earliest", "--timeout", "60s", *on(a))
    assert ok("subscribe", "t.*", *earliest, "--count", "2") == "t.x one\nt.x two\n"
    lines = ok("subscribe", ">", *earliest, "--json", "--count", "4").splitlines()
    for offset, line in enumerate(lines):
        event = json.loads(line)
        assert list(event) == MESSAGE
        assert (event["event"], event["node"], event["offset"]) == ("message", "a", offset)
        assert event["epoch"] == a.status()["epoch"]
    assert payloads("\n".join(lines)) == ["one", "two", "three", "other"]
    # --timeout is for the whole command: earlier messages are printed.
    done = pubsubd("subscribe", "u", *earliest, "--count", "2", "--timeout", "1s")
    assert (done.returncode, done.stdout) == (4, b"u other\n")


def test_no_echo_hides_no_message_of_another_command(start_broker: StartBroker) -> None:
    a = start_broker("a")
    with Running("subscribe", "t", "--no-echo", "--count", "1", *on(a)) as reading:
        subscribed(a)
        ok("publish", "t", "x", *on(a))
        assert reading.wait_lines(1) == ["t x"]
        assert reading.wait() == 0


def test_to_reaches_the_named_node_only(start_broker: StartBroker) -> None:
    a = start_broker("a")
    b = start_broker("b", peers=[a.listen])
    wait_until(b.ready)
    with Running("subscribe", ">", *on(a)) as at_a, Running("subscribe", ">", *on(b)) as at_b:
        subscribed(a)
        subscribed(b)
        ok("publish", "t", "for b", "--to", "b", *on(a))
        ok("publish", "t", "for all", *on(a))
        assert at_b.wait_lines(2) == ["t for b", "t for all"]
        assert at_a.wait_lines(1) == ["t for all"]


def test_a_name_goes_on_where_it_ended_and_has_one_holder(start_broker: StartBroker) -> None:
    a = start_broker("a")
    named = ("subscribe", "t", "--name", "projector", "--timeout", "60s", *on(a))
    ok("publish", "t", *"abcde", *on(a))
    assert ok(*named, "--start", "earliest", "--count", "2") == "t a\nt b\n"
    subscribed(a, 0)
    assert ok(*named, "--count", "2") == "t c\nt d\n"
    subscribed(a, 0)
    with Running(*named) as holder:
        assert holder.wait_lines(1) == ["t e"]
        line = error_of(*named, code=1)
        assert "projector" in line
        assert "in use" in line
        ok("publish", "t", "f", *on(a))
        assert holder.wait_lines(2) == ["t e", "t f"]


def test_a_gap_is_an_object_at_its_place(start_broker: StartBroker) -> None:
    a = start_broker("a", ring_messages=10)
    named = ("subscribe", ">", "--name", "n", *on(a))
    ok("publish", "t", "x", *on(a))
    ok(*named, "--start", "earliest", "--count", "1")
    ok("publish", "t", *"123456", *on(a))
    ok("publish", "t", *"78901", *on(a))
    with Running(*named, "--json") as reading:
        (gap,) = reading.wait_objects(1)
        epoch = a.status()["epoch"]
        assert list(gap) == CURSOR_EXPIRED
        assert list(gap.values()) == ["cursor_expired", "a", "overwritten", 11, 12, epoch]
        ok("publish", "t", "after", *on(a))
        _, after = reading.wait_objects(2)
        assert (after["offset"], after["payload"]) == (12, "after")
        assert reading.interrupt() == 130
        assert reading.errors == []
    # For people the gap is a sentence, apart from the messages.
    ok("publish", "t", *"123456", *on(a))
    ok("publish", "t", *"78901", *on(a))
    with Running(*named) as reading:
        holds(lambda: reading.errors, "the gap")
        assert "11 messages of node a are lost (overwritten)" in reading.errors[0]
        assert reading.lines == []


@async_test
async def test_bytes_come_as_text_or_base64(start_broker: StartBroker) -> None:
    a = start_broker("a")
    async with sdk.connect(a.socket) as client:
        await client.publish("t", b"\xff\x00")
        await client.publish("t", "ü".encode())
        await client.publish("t", {"nested": b"\xff"})
        await client.publish("t", b"\xc1", codec=sdk.RAW)  # No msgpack value begins with this byte.
    out = ok("subscribe", "t", "--json", "--start", "earliest", "--count", "4", *on(a))
    assert payloads(out) == [
        {"base64": "/wA="},
        "ü",
        {"nested": {"base64": "/w=="}},
        {"base64": "wQ=="},
    ]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"{broken", "line 3 is not JSON"),
        (b"NaN", "line 3 is not JSON: NaN"),
        (b'"\xff"', "line 3 is not UTF-8"),
        (str(2**64).encode(), "line 3 cannot be sent"),
    ],
)
def test_a_broken_line_is_named_and_earlier_ones_are_published(
    start_broker: StartBroker, bad: bytes, complaint: str
) -> None:
    a = start_broker("a")
    text = b'"one"\n"two"\n' + bad + b'\n"four"\n'
    line = error_of("publish", "t", "--stdin", "--json", *on(a), code=1, stdin=text)
    assert complaint in line
    out = ok("subscribe", "t", "--json", "--start", "earliest", "--count", "2", *on(a))
    assert payloads(out) == ["one", "two"]
    assert a.status()["ring"]["next_offset"] == 2


def test_lines_are_text_without_the_option_json(start_broker: StartBroker) -> None:
    a = start_broker("a")
    ok("publish", "t", "--stdin", *on(a), stdin=b'{"id": 1}\n\n\xc3\xbc')
    out = ok("subscribe", "t", "--json", "--start", "earliest", "--count", "3", *on(a))
    assert payloads(out) == ['{"id": 1}', "", "ü"]


def test_a_subscription_outlives_its_broker(start_broker: StartBroker) -> None:
    a = start_broker("a")
    with Running("subscribe", "t", "--json", *on(a)) as reading:
        subscribed(a)
        ok("publish", "t", "before", *on(a))
        reading.wait_lines(1)
        a.restart(signal.SIGKILL)
        subscribed(a)
        ok("publish", "t", "after", *on(a))
        before, gap, after = reading.wait_objects(3)
        assert before["payload"] == "before"
        assert list(gap) == CURSOR_EXPIRED
        assert (gap["reason"], gap["missed"], gap["next"]) == ("state_lost", None, 0)
        assert (after["payload"], after["offset"]) == ("after", 0)
        assert gap["epoch"] == after["epoch"] == a.status()["epoch"]
        assert reading.errors == []


def shape(value: Any) -> Any:
    """The keys, all the way down; a list stands for its first item."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value)


def test_status_is_the_same_as_over_http(start_broker: StartBroker) -> None:
    a = start_broker("a")
    b = start_broker("b", peers=[a.listen])
    wait_until(b.ready)
    with Running("subscribe", "t", *on(b)):
        subscribed(b)
        ok("publish", "t", "x", *on(a))
        for broker in (a, b):
            told = json.loads(ok("status", "--json", *on(broker)))
            assert told["node"] == broker.node
            assert told["addresses"]["socket"] == broker.socket
            over_http = broker.status()
            assert told.keys() == over_http.keys()
            assert [row.keys() for row in told["peers"]] == [r.keys() for r in over_http["peers"]]
            text = ok("status", *on(broker))
            assert broker.socket in text
        holds(lambda: b.status()["counters"]["messages_received"] == {"a": 1}, "the message at b")
        ring = json.loads(ok("status", "--json", *on(a)))["ring"]
        assert (ring["messages"], ring["oldest_offset"], ring["next_offset"]) == (1, 0, 1)


def test_cursors_are_listed_and_dropped(start_broker: StartBroker) -> None:
    a = start_broker("a")
    b = start_broker("b", peers=[a.listen])
    holds(lambda: a.metric("cursors") == 1, "the cursor of b")
    (row,) = json.loads(ok("cursors", "list", "--json", *on(a)))["cursors"]
    assert (row["consumer"], row["connected"], row["lag_messages"]) == ("b", True, 0)
    assert "b is connected" in error_of("cursors", "drop", "b", *on(a), code=1)
    assert "absent" in error_of("cursors", "drop", "absent", *on(a), code=1)
    b.stop()
    ok("publish", "t", "x", *on(a))
    holds(lambda: not a.status()["consumers"][0]["connected"], "the end of b")
    listed = ok("cursors", "list", *on(a)).splitlines()
    assert listed[0].split() == ["CONSUMER", "CONNECTED", "CURSOR", "LAG", "AWAY"]
    assert listed[1].split()[:4] == ["b", "no", "0", "1"]
    assert ok("cursors", "drop", "b", *on(a)) == ""
    assert json.loads(ok("cursors", "list", "--json", *on(a))) == {"cursors": []}
    assert a.metric("cursors_removed_total") == 1


def test_config_tells_where_each_setting_came_from(tmp_path: Path) -> None:
    file = tmp_path / "pubsubd.toml"
    file.write_text('ring-messages = 5\nheartbeat = "1s"\nring-bytes = "1MiB"\n')
    options = ("--config", str(file), "--ring-bytes", "2MiB")
    env = {"PUBSUBD_RING_MESSAGES": "7"}
    done = pubsubd("config", "show", "--json", *options, env=env)
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    wanted = {
        "ring-bytes": ("2MiB", "flag", "--ring-bytes"),
        "ring-messages": (7, "environment", "PUBSUBD_RING_MESSAGES"),
        "heartbeat": ("1s", "file", str(file)),
        "max-message": ("1MiB", "default", "default"),
    }
    for name, (value, origin, place) in wanted.items():
        assert shown[name] == {"value": value, "source": origin, "origin": place}
    # The output for people is a file that the command takes.
    again = tmp_path / "again.toml"
    again.write_bytes(pubsubd("config", "show", *options, env=env).stdout)
    assert ok("config", "check", "--config", str(again)) == "settings are good\n"
    file.write_text("ring-mesages = 5\n")
    assert "did you mean ring-messages" in error_of("config", "check", *options, code=2)
    assert "did you mean ring-messages" in error_of("start", *options, code=2)

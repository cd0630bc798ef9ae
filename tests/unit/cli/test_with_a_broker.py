"""The client commands against a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.integration.commands import TIMEOUT_S, environment
from tests.unit.cli.running import a_broker, command, objects, piped, pubsubd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with a_broker() as socket:
        yield socket


def seen(socket: str, pattern: str, count: int) -> list[object]:
    done = pubsubd(
        *("subscribe", pattern, "--json", "--start", "earliest", "--count", str(count)),
        *("--timeout", "30s", "--socket", socket),
    )
    assert done.returncode == 0, done.stderr.decode()
    return [event["payload"] for event in objects(done.stdout)]


def test_payloads_are_text_or_json_and_arrive_in_their_order(broker: str) -> None:
    for arguments in (["pay.a", "1", "two words", ""], ["pay.b", "--json", "1", '{"k": [null]}']):
        done = pubsubd("publish", *arguments, "--socket", broker)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert seen(broker, "pay.*", 5) == ["1", "two words", "", 1, {"k": [None]}]


def test_standard_input_is_a_message_per_line(broker: str) -> None:
    given = "".join(f"{number} ä\n" for number in range(20_000)).encode()
    assert pubsubd("publish", "in.t", "--stdin", "--socket", broker, given=given).returncode == 0
    assert seen(broker, "in.t", 20_000) == [f"{number} ä" for number in range(20_000)]


@pytest.mark.parametrize(
    ("bad", "saying"),
    [
        (b"not json", "line 3 is not JSON"),
        (b"NaN", "line 3 is not JSON: NaN"),
        (b'{"a": 1e400}', "line 3 is not JSON: 1e400"),
        (b'"\xff"', "line 3 is not UTF-8 at byte 1"),
        (b"1" * 30, "line 3 cannot be sent"),
        (rb'"\ud800"', "line 3 cannot be sent"),
        (b'"' + b"x" * (2 << 20) + b'"', "line 3 cannot be sent"),
    ],
    ids=["text", "nan", "beyond", "latin", "huge number", "surrogate", "too large"],
)
def test_a_bad_line_is_named_and_ends_the_sending(
    bad: bytes, saying: str, broker: str, request: pytest.FixtureRequest
) -> None:
    topic = f"bad.{request.node.callspec.id.replace(' ', '-')}"
    done = pubsubd(
        *("publish", topic, "--stdin", "--json", "--socket", broker),
        given=b'"before"\n\n' + bad + b'\n"after"\n',
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"pubsubd: {saying}".encode())
    counts = b"; 1 accepted, 0 unknown, 0 not published, nothing sent after line 1\n"
    assert done.stderr.endswith(counts)
    assert done.stderr.count(b"\n") == 1
    pubsubd("publish", topic, "end", "--socket", broker)
    assert seen(broker, topic, 2) == ["before", "end"]


def test_count_ends_with_0_and_timeout_with_4_after_what_came(broker: str) -> None:
    pubsubd("publish", "few.t", "one", "--socket", broker)
    options = ["few.t", "--start", "earliest", "--socket", broker]
    assert pubsubd("subscribe", *options, "--count", "1").stdout == b"few.t one\n"
    late = pubsubd("subscribe", *options, "--count", "2", "--timeout", "500ms")
    assert (late.returncode, late.stdout) == (4, b"few.t one\n")
    assert late.stderr == b"pubsubd: --timeout of 0.5 s has passed\n"


def test_a_name_goes_on_behind_what_was_printed(broker: str) -> None:
    pubsubd("publish", "named.t", *"abcd", "--socket", broker)
    options = ["named.t", "--name", "n", "--socket", broker, "--timeout", "30s"]
    first = pubsubd("subscribe", *options, "--start", "earliest", "--count", "1")
    second = pubsubd("subscribe", *options, "--count", "2")
    third = pubsubd("subscribe", *options, "--count", "1")
    assert [each.stdout for each in (first, second, third)] == [
        b"named.t a\n",
        b"named.t b\nnamed.t c\n",
        b"named.t d\n",
    ]


def test_a_name_in_use_is_said_so(broker: str) -> None:
    options = ["subscribe", "t", "--name", "taken", "--socket", broker]
    with subprocess.Popen(command(*options), stdout=subprocess.PIPE, env=environment()) as first:
        while not any(
            session["name"] == "taken"
            for session in json.loads(pubsubd("status", "--json", "--socket", broker).stdout)[
                "sessions"
            ]
        ):
            pass
        second = pubsubd(*options, "--timeout", "30s")
        assert second.returncode == 1
        assert b"'taken' is in use" in second.stderr
        first.send_signal(signal.SIGINT)
        assert first.wait(TIMEOUT_S) == 130


def test_an_interrupt_ends_it_with_130_and_says_nothing(broker: str) -> None:
    pubsubd("publish", "int.t", "ready", "--socket", broker)
    options = ["--start", "earliest", "--socket", broker]
    with piped("subscribe", "int.t", *options) as (process, output, _):
        # A single line comes at once, not when a buffer is full.
        assert output.readline() == b"int.t ready\n"
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, *rest) == (130, b"", b"")


def test_an_interrupt_ends_publish_while_it_waits_for_input(broker: str) -> None:
    with subprocess.Popen(
        command("publish", "wait.t", "--stdin", "--socket", broker),
        stdin=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\n")
        process.stdin.flush()
        assert seen(broker, "wait.t", 1) == ["first"]
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130


def test_the_end_of_the_outputs_reader_ends_the_command_quietly(broker: str) -> None:
    pubsubd("publish", "pipe.t", "x", "--socket", broker)
    options = ["--start", "earliest", "--socket", broker]
    with piped("subscribe", "pipe.t", *options) as (process, output, errors):
        assert output.readline() == b"pipe.t x\n"
        output.close()
        assert process.wait(TIMEOUT_S) == 0
        assert errors.read() == b""


def test_a_gap_is_a_json_object_or_a_line_on_standard_error() -> None:
    with a_broker(ring_messages=10) as socket:
        assert pubsubd("publish", "gap.t", "first", "--socket", socket).returncode == 0
        name = ["gap.t", "--name", "n", "--socket", socket, "--count", "1", "--timeout", "30s"]
        assert pubsubd("subscribe", *name, "--start", "earliest").stdout == b"gap.t first\n"
        for form, more in ((True, ["--json"]), (False, [])):
            for _ in range(3):  # No batch may be larger than the ring.
                assert pubsubd("publish", "gap.t", *"12345", "--socket", socket).returncode == 0
            with piped("subscribe", *name, *more) as (process, output, errors):
                told = output.readline() if form else errors.readline()
                pubsubd("publish", "gap.t", "after", "--socket", socket)
                rest, _ = process.communicate(timeout=TIMEOUT_S)
            if form:
                gap = json.loads(told)
                assert (gap["event"], gap["reason"]) == ("cursor_expired", "overwritten")
                assert gap["missed"] > 0
                assert json.loads(rest)["payload"] == "after"
            else:
                assert told.startswith(b"pubsubd: ")
                assert b"lost (overwritten)" in told
                assert rest == b"gap.t after\n"


def test_status_and_cursors_are_for_people_and_for_programs(broker: str) -> None:
    text = pubsubd("status", "--socket", broker)
    assert text.returncode == 0
    assert text.stdout.startswith(b"node    a  (version ")
    (status,) = objects(pubsubd("status", "--json", PUBSUBD_SOCKET=broker).stdout)
    assert (status["node"], status["ready"], status["addresses"]["socket"]) == ("a", True, broker)
    (cursors,) = objects(pubsubd("cursors", "list", "--json", "--socket", broker).stdout)
    assert cursors == {"cursors": []}
    dropped = pubsubd("cursors", "drop", "stranger", "--socket", broker)
    assert (dropped.returncode, dropped.stdout) == (1, b"")
    assert b"the cursor of stranger was not dropped" in dropped.stderr


def test_status_watch_goes_on_until_it_is_interrupted(broker: str) -> None:
    with subprocess.Popen(
        command("status", "--watch", "--json", "--socket", broker),
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        assert second["uptime_s"] > first["uptime_s"]
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["publish", "two words", "x"], 2),
        (["publish", "t", "x", "--to", "nowhere"], 1),
        (["publish", "t", "x", "--to", "no where"], 2),
        (["subscribe", "a.>.b"], 2),
        (["subscribe", ""], 2),
    ],
)
def test_what_is_refused_is_one_line_and_its_code(
    arguments: list[str], code: int, broker: str
) -> None:
    done = pubsubd(*arguments, "--socket", broker)
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"pubsubd: ")
    assert done.stderr.count(b"\n") == 1


def test_a_second_broker_at_the_socket_is_refused_with_2(broker: str) -> None:
    done = pubsubd("start", "--no-listen", "--no-http", "--socket", broker)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"a broker is running there" in done.stderr

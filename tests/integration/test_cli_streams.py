"""The commands with brokers that go away, with closed or full streams, and as process 1."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.commands import TIMEOUT_S, environment, holds, ok, pubsubd
from tests.integration.steps import StartBroker


def on(broker: Broker) -> tuple[str, str]:
    return "--socket", broker.socket


@contextlib.contextmanager
def running(
    *command: str, env: Mapping[str, str] | None = None, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended afterwards. `output`: the file of its standard output and error."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment(env)
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def feeding(
    broker: Broker, *options: str
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """`publish --stdin` whose input stays open."""
    return running(*PUBSUBD, "publish", "t", "--stdin", *options, *on(broker))


def feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit code and the one line of the process, while its input is still open."""
    assert process.stderr is not None
    code = process.wait(TIMEOUT_S)
    (line,) = process.stderr.read().decode().splitlines()
    return code, line


def stored(broker: Broker, count: int) -> None:
    holds(lambda: broker.status()["ring"]["next_offset"] == count, f"{count} messages")


@pytest.mark.parametrize(
    ("away", "fate", "count"),
    [
        (Broker.kill, "was not published", "1 accepted, 0 unknown, 3 not published"),
        (Broker.pause, "may be published or not", "1 accepted, 3 unknown, 0 not published"),
    ],
    ids=["gone", "hangs"],
)
def test_lines_not_accepted_end_publish_though_input_goes_on(
    start_broker: StartBroker, away: Callable[[Broker], None], fate: str, count: str
) -> None:
    a = start_broker("a")
    with feeding(a, "--timeout", "3s") as process:
        feed(process, b"one\n")
        stored(a, 1)
        away(a)
        feed(process, b"two\nthree\nfour\n")
        code, line = end_of(process)
    assert code == 4
    assert f"--timeout of 3 s has passed: line 2 of standard input {fate}" in line
    assert count in line
    assert "publish again from line 2 on" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_publish_with_130_after_its_read_lines(
    start_broker: StartBroker, number: signal.Signals
) -> None:
    a = start_broker("a")
    with feeding(a) as process:
        feed(process, b"one\n")
        stored(a, 1)
        a.pause()
        feed(process, b"two\n")
        process.send_signal(number)
        a.resume()
        assert process.wait(TIMEOUT_S) == 130
    # The line was read before the signal and is stored, or it was not read.
    assert a.status()["ring"]["next_offset"] in (1, 2)


@pytest.fixture(scope="module")
def with_a_message(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker for all tests that only look at how a command ends."""
    with Broker(tmp_path_factory.mktemp("broker"), "a") as broker:
        ok("publish", "t", "x", *on(broker))
        yield broker


def sh(script: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's redirections around `$PUBSUBD`."""
    return subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment({"PUBSUBD": " ".join(PUBSUBD), **more}),
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "code", "saying"),
    [
        ("subscribe t --start earliest {on} >&-", 1, "standard output"),
        ("subscribe t --start earliest {on} >/dev/full", 1, "No space left"),
        ("subscribe t --start earliest --json {on} >/dev/full", 1, "No space left"),
        ("status {on} >&-", 1, "standard output"),
        ("status --json {on} >/dev/full", 1, "No space left"),
        ("cursors list {on} >/dev/full", 1, "No space left"),
        ("config show >/dev/full", 1, "No space left"),
        ("--help >/dev/full", 1, "No space left"),
        ("publish t --stdin {on} <&-", 1, "standard input"),
        ("publish t x {on} <&- >&-", 0, ""),
        ("publish t x {on} 2>&-", 0, ""),
        ("publish 'a b' x {on} 2>&-", 2, ""),
        ("publish 'a b' x {on} 2>/dev/full", 2, ""),
        ("publish t x {on} <&- >&- 2>&-", 0, ""),
    ],
)
def test_a_closed_or_full_stream_is_one_line_or_harmless(
    with_a_message: Broker, text: str, code: int, saying: str
) -> None:
    line = text.format(on=f"--socket {with_a_message.socket}")
    done = sh(f"{' '.join(PUBSUBD)} {line}")
    assert done.returncode == code, done.stderr.decode()
    assert done.stderr.decode().count("\n") == (1 if saying else 0), done.stderr.decode()
    assert saying in done.stderr.decode()


def test_a_broker_without_any_standard_stream_serves_and_ends(start_broker: StartBroker) -> None:
    a = start_broker("a")
    path = a.socket + "2"
    start = f"exec {' '.join(PUBSUBD)} start --no-http --no-listen --socket {path}"
    with running("bash", "-c", f"{start} <&- >&- 2>&-") as process:
        holds(lambda: pubsubd("publish", "t", "x", "--socket", path).returncode == 0, "its answer")
        for descriptor in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{descriptor}") == os.devnull
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0


def test_an_unread_pipe_does_not_keep_subscribe_from_ending(start_broker: StartBroker) -> None:
    a = start_broker("a")
    ok("publish", "t", *(["x" * 60_000] * 2), *on(a))
    ok("publish", "t", *(["y" * 60_000] * 2), *on(a))
    with running(*PUBSUBD, "subscribe", "t", "--start", "earliest", *on(a)) as process:
        assert process.stdout is not None
        # The command has begun to write, and has more output than a pipe holds.
        assert os.read(process.stdout.fileno(), 1) == b"t"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 130


HOSTILE = "\x7f\x9b2J\x9d0;x\x07\u202eabc\u2066\u2028\u2029\u200b"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_no_payload_controls_a_terminal_in_any_encoding(
    start_broker: StartBroker, encoding: str
) -> None:
    a = start_broker("a")
    payload = HOSTILE + "ü€🎉"
    ok("publish", "t", payload, *on(a))
    env = {"PYTHONIOENCODING": encoding}
    read = ("subscribe", ">", "--start", "earliest", "--count", "1", *on(a))
    text = pubsubd(*read, env=env)
    assert (text.returncode, text.stderr) == (0, b"")
    (line,) = text.stdout.decode(encoding).splitlines()
    assert line.isprintable()
    assert r"\u009b2J" in line
    as_json = pubsubd(*read, "--json", env=env)
    assert as_json.returncode == 0
    assert as_json.stdout.decode(encoding).rstrip("\n").isprintable()
    assert json.loads(as_json.stdout)["payload"] == payload
    # A command's report of its arguments is text for a terminal, too.
    wrong = pubsubd("publish", "a b" + HOSTILE, "x", *on(a), env=env)
    assert wrong.returncode == 2
    (complaint,) = wrong.stderr.decode(encoding).splitlines()
    assert complaint.isprintable()


LOADED_FOR_EVER = """
import time
print("loading", flush=True)
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("command", "code"), [("status", 130), ("start", 0)])
def test_a_signal_while_loading_ends_the_command_silently(
    command: str, code: int, number: signal.Signals, tmp_path: Path
) -> None:
    # Replaces the first library that is slow to load. It loads for ever, and lets no exception pass, as a finaliser,
    # a weak reference's callback and parts of the import machinery do.
    (tmp_path / "click.py").write_text(LOADED_FOR_EVER)
    with running(*PUBSUBD, command, env={"PYTHONPATH": str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(number)
        assert process.communicate(timeout=TIMEOUT_S) == (b"", b"")
        assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "arguments", [["subscribe", "t"], ["publish", "t", "--stdin"], ["status", "--watch"]]
)
def test_as_process_1_a_command_ends_at_a_signal(
    start_broker: StartBroker, number: signal.Signals, arguments: list[str]
) -> None:
    a = start_broker("a")
    assert ended_as_process_1([*arguments, *on(a)], number) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_process_1_a_broker_ends_at_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    arguments = ["start", "--no-http", "--no-listen", "--socket", str(tmp_path / "s")]
    assert ended_as_process_1(arguments, number) == 0


def ended_as_process_1(arguments: list[str], number: signal.Signals) -> int:
    """The exit code of a command that is process 1 and gets a signal once it handles one.

    The kernel drops a signal to process 1 that has no handler for it.
    """
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare")
    command = ("unshare", "--pid", "--fork", "--kill-child", *PUBSUBD, *arguments)
    with running(*command, output=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        holds(lambda: children.read_text().strip(), "process 1")
        inner = int(children.read_text())

        def takes_signals() -> bool:
            # Python has a handler for SIGINT before the command runs; both are installed together.
            lines = Path(f"/proc/{inner}/status").read_text().splitlines()
            (caught,) = (line for line in lines if line.startswith("SigCgt"))
            return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

        holds(takes_signals, "its handlers")
        os.kill(inner, number)
        return process.wait(TIMEOUT_S)

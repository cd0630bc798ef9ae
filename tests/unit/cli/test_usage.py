"""Help, wrong usage, settings: the command without any broker."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.integration.commands import environment
from tests.unit.cli.running import pubsubd

from pubsubd_broker.settings.table import SETTINGS
from pubsubd_cli.client_options import is_like_the_socket
from pubsubd_cli.group import COMMANDS
from pubsubd_cli.group import pubsubd as group
from pubsubd_protocol import __version__
from pubsubd_protocol.build import BUILD

pytestmark = pytest.mark.slow

PATHS = [
    *([name] for name in COMMANDS),
    ["cursors", "list"],
    ["cursors", "drop"],
    ["config", "show"],
    ["config", "check"],
]


def found(path: list[str]) -> tuple[click.Command, click.Context]:
    at: click.Command = group
    context = click.Context(group, info_name="pubsubd")
    for name in path:
        assert isinstance(at, click.Group)
        inner = at.get_command(context, name)
        assert inner is not None
        at, context = inner, click.Context(inner, parent=context, info_name=name)
    return at, context


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_help_has_an_example_that_parses(path: list[str]) -> None:
    at, context = found(path)
    text = at.get_help(context)
    assert "Example" in text
    start = "pubsubd " + path[0]
    examples = [line.strip() for line in text.splitlines() if start in line and "Usage" not in line]
    assert examples
    for parameter in at.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            assert parameter.help, f"{parameter.name} has no help"


def test_help_and_version_come_from_the_process_too() -> None:
    for arguments in (["--help"], ["-h"], ["start", "-h"], ["cursors", "list", "--help"], []):
        done = pubsubd(*arguments)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"Usage: pubsubd")
    assert b"_PUBSUBD_COMPLETE=bash_source" in pubsubd("--help").stdout
    assert pubsubd("--version").stdout.decode() == f"pubsubd {__version__} ({BUILD})\n"


@pytest.mark.parametrize("name", ["config", "cursors"])
def test_a_group_without_its_command_prints_its_help(name: str) -> None:
    bare = pubsubd(name)
    assert (bare.returncode, bare.stdout) == (2, b"")
    assert bare.stderr == pubsubd(name, "--help").stdout
    assert bare.stderr.startswith(f"Usage: pubsubd {name} ".encode())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for_each_shell(shell: str) -> None:
    # click asks bash for its version before it writes for it, so bash must be there; the project's own checks need it, too.
    done = pubsubd(_PUBSUBD_COMPLETE=f"{shell}_source")
    assert done.returncode == 0
    assert b"pubsubd" in done.stdout


def test_start_has_an_option_for_each_setting_and_no_other() -> None:
    at, _ = found(["start"])
    options = {name for parameter in at.params for name in parameter.opts}
    expected = {"--config", *(f"--{setting.name}" for setting in SETTINGS)}
    assert options == expected | {"--no-listen", "--no-http", "--no-journal"}


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["strat"], "No such command 'strat'"),
        (["start", "--rin-bytes", "1"], "No such option"),
        (["start", "--ring-bytes"], "requires an argument"),
        (["start", "now"], "unexpected extra argument"),
        (["start", "--ring-messages", "0"], "ring-messages (from --ring-messages): 0 is out"),
        (["start", "--listen", "a:1", "--no-listen"], "--listen and --no-listen exclude"),
        (["start", "--config", "/nonexistent"], "cannot read /nonexistent"),
        (["config", "check", "--heartbeat", "9s"], "peer-timeout (from default): 6s is not longer"),
        (["publish"], "Missing argument 'TOPIC'"),
        (["publish", "t"], "give a payload, or --stdin"),
        (["publish", "t", "x", "--stdin"], "not both"),
        (["publish", "t", "--json", "{}", "{"], "payload 2 is not JSON"),
        (["publish", "t", "--json", "NaN"], "payload 1 is not JSON: NaN is not a JSON value"),
        (["publish", "t", "--json", '{"a":1e400}'], "payload 1 is not JSON: 1e400 is too large"),
        (["publish", "t", "--json", "[-1e999]"], "payload 1 is not JSON: -1e999 is too large"),
        (["publish", "two words", "x"], "no white space"),
        (["publish", "", "x"], "is empty"),
        (["publish", "two words", "--stdin"], "no white space"),
        (["publish", "t", "x", "--to", "no such"], "'no such' is not a node name"),
        (["publish", "t", "x", "--to", ""], "'' is not a node name"),
        (["subscribe", "t", "a.>.b"], "only be the last segment"),
        (["subscribe", ""], "is empty"),
        (["subscribe", "t", "--name", ""], "1 to 128 printable characters"),
        (["subscribe", "t", "--name", "n" * 200], "(200 characters)"),
        (["subscribe", "t", "--name", "a\tb"], "1 to 128 printable characters"),
        (["status", "--timeout", "0"], "it must be above 0"),
        (["cursors", "drop", "no such"], "'no such' is not a node name"),
        (["publish", "t", "x", "--timeout", "soon"], "'soon' is not a duration"),
        (["publish", "t", "x", "--timeout", "0"], "it must be above 0"),
        (["subscribe"], "Missing argument 'PATTERN...'"),
        (["subscribe", "t", "--start", "middle"], "'middle' is not one of"),
        (["subscribe", "t", "--count", "0"], "not in the range"),
        (["cursors", "drop"], "Missing argument 'NODE'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], saying: str) -> None:
    # No broker runs: the command finds wrong usage before it looks for one.
    done = pubsubd(*arguments, PUBSUBD_SOCKET="/nonexistent/s")
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert text.startswith("pubsubd: ")
    assert saying in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "t", "x"],
        ["publish", "t", "--stdin"],
        ["subscribe", "t"],
        ["status"],
        ["status", "--json"],
        ["cursors", "list"],
        ["cursors", "drop", "b"],
    ],
    ids=" ".join,
)
def test_without_a_broker_it_is_one_line_and_exit_code_3(
    arguments: list[str], tmp_path: Path
) -> None:
    done = pubsubd(*arguments, "--socket", str(tmp_path / "s"))
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"pubsubd start" in done.stderr


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """A socket on which no process answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        yield str(tmp_path / "s")


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "t", "x"],
        ["subscribe", "t"],
        ["status"],
        ["status", "--watch"],
        ["cursors", "list"],
        ["cursors", "drop", "b"],
    ],
    ids=" ".join,
)
def test_a_timeout_bounds_every_command_with_exit_code_4(arguments: list[str], silent: str) -> None:
    done = pubsubd(*arguments, "--socket", silent, "--timeout", "100ms")
    assert (done.returncode, done.stdout) == (4, b"")
    assert done.stderr == b"pubsubd: --timeout of 0.1 s has passed\n"


def test_a_broker_that_hangs_is_not_to_be_started_again(silent: str) -> None:
    done = pubsubd("publish", "t", "x", "--socket", silent)
    assert done.returncode == 3
    assert b"a process listens there" in done.stderr
    assert b"pubsubd start" not in done.stderr


def test_config_show_is_a_file_that_config_takes(tmp_path: Path) -> None:
    first = pubsubd("config", "show", "--peer", "[::1]:1", "--no-http", PUBSUBD_HEARTBEAT="1s")
    assert first.returncode == 0
    shown = tomllib.loads(first.stdout.decode())
    assert set(shown) == {setting.name for setting in SETTINGS}
    assert (shown["peer"], shown["http"], shown["heartbeat"]) == (["[::1]:1"], False, "1s")
    lines = {line.partition(" ")[0]: line for line in first.stdout.decode().splitlines()}
    assert lines["peer"].endswith("# --peer")
    assert lines["http"].endswith("# --no-http")
    assert lines["heartbeat"].endswith("# PUBSUBD_HEARTBEAT")
    assert lines["ring-bytes"].endswith("# default")
    path = tmp_path / "pubsubd.toml"
    path.write_bytes(first.stdout)
    second = pubsubd("config", "show", "--config", str(path))
    assert tomllib.loads(second.stdout.decode()) == shown


def test_config_show_json_has_value_source_and_origin_of_each() -> None:
    done = pubsubd("config", "show", "--json", "--ring-messages", "5")
    shown = json.loads(done.stdout)
    assert shown["ring-messages"] == {
        "value": 5,
        "source": "flag",
        "origin": "--ring-messages",
    }
    assert shown["ring-bytes"] == {"value": "64MiB", "source": "default", "origin": "default"}


@pytest.mark.parametrize("arguments", [["config", "check"], ["config", "show"], ["start"]])
def test_a_mistyped_variable_is_wrong_usage_wherever_settings_are_read(
    arguments: list[str],
) -> None:
    done = pubsubd(*arguments, PUBSUBD_RING_BITES="1")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == (
        b"pubsubd: PUBSUBD_RING_BITES (from environment): unknown setting; "
        b"did you mean PUBSUBD_RING_BYTES?\n"
    )


def test_config_check_reads_the_secret_and_the_certificates(tmp_path: Path) -> None:
    missing = pubsubd("config", "check", "--cluster-secret-file", "/nonexistent/secret")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert missing.stderr.startswith(b"pubsubd: secret file /nonexistent/secret: ")
    names = {name: str(tmp_path / name) for name in ("cert", "key", "ca")}
    files = [word for name, path in names.items() for word in (f"--tls-{name}", path)]
    assert pubsubd("config", "check", *files).returncode == 2
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    secret.chmod(0o600)
    assert pubsubd("config", "check", "--cluster-secret-file", str(secret)).returncode == 0


def test_config_check_passes_and_names_a_variable_without_a_setting() -> None:
    done = pubsubd("config", "check", "--json", PUBSUBD_IMAGE_TAG="1")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"ok": True})
    assert done.stderr == (
        b"pubsubd: PUBSUBD_IMAGE_TAG is not a setting and is ignored; "
        b"pubsubd config show lists all settings\n"
    )


@pytest.mark.parametrize("arguments", [["publish", "t", "x"], ["subscribe", "t"], ["status"]])
def test_a_client_command_does_not_load_the_broker(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys; from pubsubd_cli.run import run\n"
        "code = run(sys.argv[1:])\n"
        "heavy = ('pubsubd_broker', 'structlog', 'h11', 'prometheus_client', 'uvloop')\n"
        "assert not [name for name in heavy if name in sys.modules], sys.modules.keys()\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--socket", str(tmp_path / "s")],
        capture_output=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 3, done.stderr.decode()


CLIENT_COMMANDS = pytest.mark.parametrize(
    "arguments",
    [["publish", "t", "x"], ["subscribe", "t"], ["status"], ["cursors", "list"]],
    ids=" ".join,
)


@CLIENT_COMMANDS
@pytest.mark.parametrize("variable", ["PUBSUBD_SOKET", "PUBSUBD_SOCKETS", "PUBSUBD_socket"])
def test_a_mistyped_socket_variable_reaches_no_other_broker(
    arguments: list[str], variable: str
) -> None:
    done = pubsubd(*arguments, given=None, **{variable: "/nonexistent/s"})
    assert (done.returncode, done.stdout) == (2, b"")
    said = f"pubsubd: {variable} (from environment): unknown setting; did you mean PUBSUBD_SOCKET?"
    assert done.stderr.decode().splitlines() == [said]


@CLIENT_COMMANDS
def test_with_a_named_socket_a_similar_variable_does_not_matter(
    arguments: list[str], tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "s")
    by_option = pubsubd(*arguments, "--socket", nowhere, PUBSUBD_SOCKET_A="/a")
    by_variable = pubsubd(*arguments, PUBSUBD_SOCKET=nowhere, PUBSUBD_SOCKET_A="/a")
    for done in (by_option, by_variable):
        assert done.returncode == 3
        assert nowhere in done.stderr.decode()


def test_variables_of_other_settings_are_not_the_sockets() -> None:
    others = {setting.variable for setting in SETTINGS} - {"PUBSUBD_SOCKET"}
    assert [each for each in others if is_like_the_socket(each)] == []


@pytest.mark.parametrize("words", [["1MiB", "2MiB"], ["2MiB", "1MiB"]])
def test_of_an_option_that_stands_twice_the_last_one_counts(words: list[str]) -> None:
    given = [part for word in words for part in ("--ring-bytes", word)]
    shown = json.loads(pubsubd("config", "show", "--json", *given).stdout)
    assert shown["ring-bytes"]["value"] == words[-1]
    for command in (["publish", "t", "x"], ["status"]):
        done = pubsubd(*command, "--socket", "/nonexistent/1", "--socket", "/nonexistent/2")
        assert done.returncode == 3
        assert "/nonexistent/2" in done.stderr.decode()

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsubd_broker.core.config import Config
from pubsubd_broker.core.limits import Limits
from pubsubd_broker.settings.forms import node_name_of
from pubsubd_broker.settings.sources import (
    Resolved,
    SettingsError,
    resolve_settings,
    unknown_variables,
)
from pubsubd_broker.settings.table import SETTINGS
from pubsubd_broker.settings.values import Settings
from pubsubd_protocol.positions import is_node_name

Flags = Mapping[str, str | bool | tuple[str, ...] | None]


def resolved(
    flags: Flags | None = None, environment: Mapping[str, str] | None = None, **more: Any
) -> Resolved:
    given_more = {"host": "box", "uid": 1000, "terminal": False, "folder": "/here", **more}
    return resolve_settings(flags or {}, environment or {}, **given_more)


def in_file(tmp_path: Path, text: str) -> Flags:
    path = tmp_path / "pubsubd.toml"
    path.write_text(text)
    return {"config": str(path)}


def test_without_anything_it_is_a_single_node_on_defaults() -> None:
    found = resolved()
    assert found.settings == Settings(
        Config("box", log_repeat_ns=60_000_000_000),
        "/tmp/pubsubd-1000/pubsubd.sock",
        journal="/tmp/pubsubd-1000/pubsubd.sock.state/box",
        fsync="snapshot",
    )
    assert {origin.source for origin in found.origins.values()} == {"default"}
    assert set(found.origins) == {setting.name for setting in SETTINGS}


@pytest.mark.parametrize(
    ("flags", "environment", "folder"),
    [
        ({}, {"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/pubsubd/pubsubd.sock.state/box"),
        ({"socket": "/run/s", "node": "a"}, {}, "/run/s.state/a"),
        ({"fsync": "snapshot"}, {"PUBSUBD_SOCKET": "/run/s"}, "/run/s.state/box"),
    ],
)
def test_without_a_journal_a_clean_stop_is_kept_beside_the_socket(
    flags: Flags, environment: Mapping[str, str], folder: str
) -> None:
    settings = resolved(flags, environment).settings
    assert (settings.journal, settings.fsync) == (folder, "snapshot")


def test_a_journal_that_is_named_or_switched_off_has_another_default() -> None:
    for journal in ("/var/lib/pubsubd", False):
        settings = resolved({"journal": journal}).settings
        assert (settings.journal, settings.fsync) == (journal or None, "interval")


@pytest.mark.parametrize("fsync", ["off", "interval", "always"])
def test_another_fsync_needs_a_folder_that_is_meant_for_it(fsync: str) -> None:
    with pytest.raises(SettingsError, match=f"{fsync} needs a journal; .* with --journal DIR"):
        resolved({"fsync": fsync})


def test_peers_are_asked_only_where_a_crash_leaves_nothing_on_disk() -> None:
    asks: Flags = {"recover-from-peers": "yes"}
    assert resolved(asks).settings.core.recover_from_peers
    assert resolved({**asks, "journal": "/j", "fsync": "snapshot"}).settings.core.recover_from_peers
    with pytest.raises(SettingsError, match="cannot be combined"):
        resolved({**asks, "journal": "/j"})


def fields_of(part: str, kind: type[Settings] | type[Config] | type[Limits]) -> set[str]:
    return {part + field.name for field in dataclasses.fields(kind)}


def test_the_table_has_a_row_for_each_field() -> None:
    at_the_start = {"core.secret", "core.allowed_users", "core.topic_rules", "core.listens"}
    fields = {
        *fields_of("", Settings),
        *fields_of("core.", Config),
        *fields_of("core.limits.", Limits),
    }
    parts = {"core", "core.limits"}
    assert {setting.field for setting in SETTINGS} == fields - parts - at_the_start
    assert len({setting.field for setting in SETTINGS}) == len(SETTINGS)


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    flags = dict(
        in_file(tmp_path, "ring-messages = 1\nring-bytes = '2KiB'\nheartbeat = 0.5\nnode = 'f'")
    )
    flags |= {"ring-messages": "3"}
    variables = {"PUBSUBD_RING_MESSAGES": "2", "PUBSUBD_RING_BYTES": "1MiB"}
    found = resolved(flags, variables)
    core = found.settings.core
    assert (core.ring_messages, core.ring_bytes) == (3, 1 << 20)
    assert (core.heartbeat_ns, core.node, core.max_frame) == (500_000_000, "f", 16 << 20)
    assert [
        str(found.origins[name])
        for name in ("ring-messages", "ring-bytes", "heartbeat", "max-frame")
    ] == ["--ring-messages", "PUBSUBD_RING_BYTES", str(flags["config"]), "default"]
    assert found.origins["heartbeat"].source == "file"


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    path = str(in_file(tmp_path, "node = 'f'")["config"])
    assert resolved({}, {"PUBSUBD_CONFIG": path}).settings.node == "f"


def test_an_empty_variable_says_nothing() -> None:
    variables = {
        "PUBSUBD_PEER": "",
        "PUBSUBD_NODE": " ",
        "PUBSUBD_CONFIG": "",
        "PUBSUBD_SOCKET": "",
    }
    assert resolved({}, variables) == resolved()


def test_peers_come_as_repeated_flag_comma_list_or_array_each_once(tmp_path: Path) -> None:
    peers = (("a", 1), ("::1", 2))
    by_flag = resolved({"peer": ("a:1", "[::1]:2", "a:1")})
    by_variable = resolved({}, {"PUBSUBD_PEER": "a:1, [::1]:2,"})
    by_file = resolved(in_file(tmp_path, "peer = ['a:1', '[::1]:2']"))
    assert by_flag.settings.peers == by_variable.settings.peers == by_file.settings.peers == peers


@pytest.mark.parametrize("name", ["listen", "http"])
def test_it_can_be_switched_off_everywhere_and_on_again_by_a_flag(
    name: str, tmp_path: Path
) -> None:
    off = in_file(tmp_path, f"{name} = false")
    variables = {f"PUBSUBD_NO_{name.upper()}": "1"}
    assert getattr(resolved(off).settings, name) is None
    assert getattr(resolved({}, variables).settings, name) is None
    assert getattr(resolved({name: False}).settings, name) is None
    assert getattr(resolved({name: "[::1]:1"}, variables).settings, name) == ("::1", 1)
    assert getattr(resolved({}, {f"PUBSUBD_NO_{name.upper()}": "0"}).settings, name) is not None


@pytest.mark.parametrize("word", ["off", "0", "No", "false"])
@pytest.mark.parametrize("name", ["http", "journal", "listen"])
def test_a_word_that_means_no_is_refused_with_the_way_to_switch_off(
    name: str, word: str, tmp_path: Path
) -> None:
    upper = name.upper()
    with pytest.raises(SettingsError, match=rf"{name} \(from --{name}\): .* write --no-{name}"):
        resolved({name: word})
    with pytest.raises(SettingsError, match=f"write PUBSUBD_NO_{upper}=1"):
        resolved({}, {f"PUBSUBD_{upper}": word})
    with pytest.raises(SettingsError, match=f"write {name} = false"):
        resolved(in_file(tmp_path, f'{name} = "{word}"'))
    if name == "journal":
        assert resolved({"journal": f"./{word}"}).settings.journal is not None


def test_socket_and_log_follow_runtime_folder_and_terminal() -> None:
    found = resolved({}, {"XDG_RUNTIME_DIR": "/run/user/7"}, terminal=True).settings
    assert (found.socket, found.log_format) == ("/run/user/7/pubsubd/pubsubd.sock", "console")


@pytest.mark.parametrize(
    ("name", "text", "saying"),
    [
        ("node", "-a", "'-a' is not a node name; allowed: 1 to 64 of"),
        ("node", "a" * 65, "is not a node name"),
        ("node", "", "is not a node name"),
        ("socket", "/" + "s" * 107, "has 108 bytes; allowed: a path of 1 to 107 bytes"),
        ("socket", "/" + "é" * 54, "has 109 bytes"),
        ("socket", "", "is not a path"),
        ("listen", "7420", "is not an address; allowed: HOST:PORT"),
        ("listen", ":7420", "is not an address"),
        ("listen", "::1:7420", "an IPv6 host stands in brackets"),
        ("listen", "[::1:7420", "is not an address"),
        ("listen", "[nonsense]:1", "is not an IPv6 address"),
        ("listen", "[1:2]:1", "is not an IPv6 address"),
        ("listen", "a:65536", "port 65536 is out of range; allowed: HOST:PORT with a port of 0"),
        ("listen", "a:-1", "is not an address"),
        ("listen", "http://a:1", "is not an address"),
        ("peer", "a:1 b:2", "'a:1 b:2' is more than one address: give each by itself"),
        ("http", "a:1,b:1", "is more than one address"),
        ("ring-messages", "0", "0 is out of range; allowed: a whole number from 1"),
        ("ring-messages", "-1", "is not a whole number"),
        ("ring-messages", "1.5", "is not a whole number"),
        ("ring-bytes", "0", "0 is out of range; allowed: a size of 1B or more"),
        ("ring-bytes", "1MB", "'1MB' is not a size"),
        ("max-frame", "4GiB", "is out of range; allowed: a size of 1KiB to"),
        ("heartbeat", "0", "is out of range; allowed: a duration of 10ms or more"),
        ("heartbeat", "soon", "'soon' is not a duration"),
        ("socket-mode", "0700", "'0700' is not one of them; allowed: 0600 (its own user), 0660"),
        ("socket-mode", "rw", "is not one of them"),
        ("max-batch", "65536", "is out of range; allowed: a whole number from 1 to 65535"),
        ("max-producers", "1024", "is out of range; allowed: a whole number from 1 to 1023"),
        ("max-topic-bytes", "256", "is out of range; allowed: a whole number from 1 to 255"),
        ("cluster", "blue green", "is not a node name"),
        ("log-format", "xml", "'xml' is not one of them; allowed: console or json"),
        ("log-level", "loud", "allowed: debug or info or warning or error"),
    ],
)
def test_an_invalid_value_is_refused_with_name_origin_and_choices(
    name: str, text: str, saying: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved({name: text})
    assert str(caught.value).startswith(f"{name} (from --{name}): ")
    assert saying in str(caught.value)
    assert "\n" not in str(caught.value)
    variable = f"PUBSUBD_{name.replace('-', '_').upper()}"
    if text:
        with pytest.raises(SettingsError, match=rf"{name} \(from {variable}\)"):
            resolved({}, {variable: text})


def test_a_peer_needs_a_port_that_can_be_dialled() -> None:
    with pytest.raises(SettingsError, match=r"peer \(from --peer\): port 0 .* 1 to 65535"):
        resolved({"peer": ("a:1", "b:0")})
    assert resolved({"listen": "localhost:0"}).settings.listen == ("localhost", 0)


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("ring-mesages = 1", "did you mean ring-messages?"),
        ("ring_messages = 1", "did you mean ring-messages?"),
        ("peers = []", "did you mean peer?"),
        ("no-listen = true", "write listen = false"),
        ("zebra = 1", "unknown setting; pubsubd config show lists all"),
        ("config = 'x'", "unknown setting"),
        ("ring-messages = '5'", "text is the wrong type"),
        ("ring-messages = 1.0", "a number is the wrong type"),
        ("ring-messages = true", "true or false is the wrong type"),
        ("ring-bytes = 1.5", "a number is the wrong type"),
        ("ring-bytes = [1]", "a list is the wrong type"),
        ("heartbeat = nan", "is not a duration"),
        ("listen = true", "true or false is the wrong type; allowed: HOST:PORT"),
        ("listen = 7420", "or false"),
        ("node = false", "true or false is the wrong type"),
        ("peer = 'a:1'", "text is the wrong type; allowed: a list of HOST:PORT"),
        ("peer = [1]", "a number is the wrong type"),
        ("RING_BYTE = 1", "did you mean ring-bytes?"),
        ("ringbytes = 1", "did you mean ring-bytes?"),
        ("[ring]\nmessages = 1", "at the top of the file; did you mean ring-messages?"),
        ("ring.bytes = 1", "at the top of the file; did you mean ring-bytes?"),
        ("[pubsubd]\nnode = 'a'", "at the top of the file; did you mean node?"),
        ("[[peer]]\nhost = 'a'", "a table is the wrong type; allowed: a list of HOST:PORT"),
        ("[zebra]", "unknown table"),
        ("ring-bytes = '64MB'", "'64MB' is not a size; allowed: a size of"),
        ("ring-bytes = '64 M'", "'64 M' is not a size"),
        ("ring-bytes = -1", "'-1' is not a size"),
        ("pace = '5 sec'", "'5 sec' is not a duration"),
        ("[node]\nname = 'a'", "a table is the wrong type"),
        ("node = 2020-01-01", "a date or time is the wrong type"),
        ("node =", "is not TOML"),
        ("node = 'a'\nnode = 'b'", "(at line 2, column 11): \"node = 'b'\""),
        ("# x\nnode = a", "(at line 2, column 8): 'node = a'"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, saying: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved(in_file(tmp_path, text))
    assert saying in str(caught.value)
    assert "pubsubd.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match=r"config \(from --config\): cannot read .*none.toml"):
        resolved({"config": missing})
    with pytest.raises(SettingsError, match=r"config \(from PUBSUBD_CONFIG\)"):
        resolved({}, {"PUBSUBD_CONFIG": str(tmp_path)})
    (tmp_path / "latin.toml").write_bytes(b"node = '\xe9'")
    with pytest.raises(SettingsError, match=r"is not TOML: byte 0xe9 in line 1 is not UTF-8"):
        resolved({"config": str(tmp_path / "latin.toml")})


@pytest.mark.parametrize(
    ("flags", "saying"),
    [
        ({"heartbeat": "6s"}, "6s is not longer than heartbeat 6s (from --heartbeat)"),
        ({"peer-timeout": "1s"}, "1s is not longer than heartbeat 2s (from default)"),
        ({"max-message": "16MiB"}, "16MiB does not fit in max-frame 16MiB (from default)"),
        ({"max-frame": "1MiB"}, "1MiB does not fit in max-frame 1MiB (from --max-frame)"),
        ({"ring-bytes": "1KiB", "max-message": "2KiB"}, "1KiB cannot hold one message"),
        ({"http": "127.0.0.1:7420"}, "127.0.0.1:7420 is the address of listen, too (from default)"),
    ],
)
def test_values_that_contradict_each_other_are_refused(flags: Flags, saying: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved(flags)
    assert saying in str(caught.value)
    assert "allowed: " in str(caught.value)


def test_a_small_ring_beside_the_default_limit_of_messages_is_fine() -> None:
    assert resolved({"ring-bytes": "4KiB"}).settings.core.ring_bytes == 4096


def test_the_default_socket_obeys_the_limit_too() -> None:
    with pytest.raises(SettingsError, match=r"socket \(from XDG_RUNTIME_DIR\): .* bytes"):
        resolved({}, {"XDG_RUNTIME_DIR": "/" + "x" * 100})


def test_a_switch_variable_is_yes_or_no_and_excludes_the_other() -> None:
    with pytest.raises(SettingsError, match=r"listen \(from PUBSUBD_NO_LISTEN\): 'maybe'"):
        resolved({}, {"PUBSUBD_NO_LISTEN": "maybe"})
    with pytest.raises(SettingsError, match="PUBSUBD_LISTEN is set as well"):
        resolved({}, {"PUBSUBD_NO_LISTEN": "1", "PUBSUBD_LISTEN": "a:1"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("PUBSUBD_RING_BYTE", "PUBSUBD_RING_BYTES"),
        ("PUBSUBD_RING_MESAGES", "PUBSUBD_RING_MESSAGES"),
        ("PUBSUBD_RINGBYTES", "PUBSUBD_RING_BYTES"),
        ("PUBSUBD_ring-bytes", "PUBSUBD_RING_BYTES"),
        ("PUBSUBD_PEERS", "PUBSUBD_PEER"),
        ("PUBSUBD_NO_HTP", "PUBSUBD_NO_HTTP"),
        ("PUBSUBD_CONFG", "PUBSUBD_CONFIG"),
        ("PUBSUBD_CLUSTER_SECRETFILE", "PUBSUBD_CLUSTER_SECRET_FILE"),
    ],
)
def test_a_mistyped_variable_is_refused_with_the_one_that_was_meant(
    variable: str, meant: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved({}, {variable: "1"})
    assert str(caught.value) == (
        f"{variable} (from environment): unknown setting; did you mean {meant}?"
    )


def test_unknown_variables_are_told_except_those_of_a_service() -> None:
    of_a_service = [
        "PUBSUBD_SERVICE_HOST",
        "PUBSUBD_SERVICE_PORT",
        "PUBSUBD_SERVICE_PORT_HTTP",
        "PUBSUBD_PORT",
        "PUBSUBD_PORT_7420_TCP",
        "PUBSUBD_PORT_7420_TCP_ADDR",
        "PUBSUBD_METRICS_SERVICE_HOST",
    ]
    others = ["PUBSUBD_IMAGE_TAG", "PUBSUBD_VERSION", "PUBSUBD_URL"]
    known = ["PUBSUBD_NODE", "PUBSUBD_NO_HTTP", "PUBSUBD_CONFIG", "HOME", "_PUBSUBD_COMPLETE"]
    assert unknown_variables([*of_a_service, *others, *known]) == dict.fromkeys(others)
    assert resolved({}, dict.fromkeys(others, "x")).ignored == tuple(others)


def test_no_setting_is_taken_for_a_typing_error_of_another() -> None:
    assert unknown_variables([setting.variable for setting in SETTINGS]) == {}


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pubsubd.toml"
    path.write_bytes(b"\xef\xbb\xbfnode = 'a'\r\nring-messages = 7\r\n")
    settings = resolved({"config": str(path)}).settings
    assert (settings.node, settings.core.ring_messages) == ("a", 7)
    path.write_bytes(b"\xef\xbb\xbfnode = \n")
    with pytest.raises(SettingsError, match=r"line 1, column 8\): 'node ='"):
        resolved({"config": str(path)})
    path.write_bytes("node = 'a'".encode("utf-16"))
    with pytest.raises(SettingsError, match=r"is UTF-16; allowed: a TOML file in UTF-8"):
        resolved({"config": str(path)})


@pytest.mark.parametrize("where", ["flag", "environment", "file"])
@pytest.mark.parametrize(
    "name", ["socket", "journal", "cluster-secret-file", "tls-cert", "tls-key", "tls-ca"]
)
def test_a_tilde_is_the_home_folder_wherever_a_path_is_taken(
    where: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tls = ("tls-cert", "tls-key", "tls-ca")
    given = {each: f"~/{each}" for each in (tls if name in tls else [name])}
    flags: Flags
    match where:
        case "flag":
            flags, environment = dict(given), {}
        case "environment":
            flags = {}
            environment = {
                f"PUBSUBD_{each.replace('-', '_').upper()}": path for each, path in given.items()
            }
        case _:
            lines = [f'{each} = "{path}"' for each, path in given.items()]
            (tmp_path / "pubsubd.toml").write_text("\n".join(lines))
            flags, environment = {}, {"PUBSUBD_CONFIG": "~/pubsubd.toml"}
    found = resolved(flags, environment).settings
    assert getattr(found, name.replace("-", "_")) == str(tmp_path / name)


def test_a_tilde_in_the_runtime_folder_is_the_home_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = resolved({}, {"XDG_RUNTIME_DIR": "~/run"}).settings
    assert found.socket == str(tmp_path / "run/pubsubd/pubsubd.sock")


def test_the_folder_of_an_unknown_user_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"journal \(from --journal\): .* an unknown user"):
        resolved({"journal": "~no-such-user/x"})
    assert resolved({"journal": "./~x"}).settings.journal == "/here/./~x"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-1.example.com", "web-1.example.com"),
        ("-_.", "node"),
        ("", "node"),
        ("my host", "my-host"),
        ("a" * 63 + ".b", "a" * 63),
    ],
)
def test_the_default_node_name_is_the_host_name_as_far_as_it_can_be(host: str, name: str) -> None:
    assert node_name_of(host) == name


@settings(deadline=None)
@given(st.text())
def test_the_default_name_is_valid_on_any_host(host: str) -> None:
    assert is_node_name(node_name_of(host))


def test_every_setting_is_shown_as_the_file_would_have_it(tmp_path: Path) -> None:
    flags: Flags = {
        "listen": "[::1]:1",
        "http": False,
        "peer": ("a:1", "b:2"),
        "heartbeat": "250ms",
        "ring-bytes": "1234567",
        "max-message": "1KiB",
        "socket-mode": "0660",
        "allow-uid": ("0", "1001"),
        "topic-rule": ("uid:1001 publish:orders.> subscribe:room:42 subscribe:x.*",),
        "cluster-secret-file": "/run/secrets/pubsubd",
    }
    found = resolved(flags).settings
    shown = {each.name: each.show(each.value(found)) for each in SETTINGS}
    lines = []
    for name, value in shown.items():
        lines.append(f"{name} = {str(value).lower() if value is False else repr(value)}")
    assert tomllib.loads("\n".join(lines)) == shown
    assert resolved(in_file(tmp_path, "\n".join(lines))).settings == found


@pytest.mark.parametrize(
    ("rule", "saying"),
    [
        ("uid:1001", "'uid:1001' allows nothing; allowed: uid:ID gid:ID publish:PATTERN"),
        ("uid:bob publish:>", "'bob' is not a whole number"),
        ("publish", "'publish' is not a part of a rule"),
        ("read:x", "'read:x' is not a part of a rule"),
        ("publish:a.>.b", "'>' stands for the rest of a topic"),
    ],
)
def test_a_rule_for_topics_says_what_is_wrong_with_it(rule: str, saying: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved({"topic-rule": (rule,)})
    assert saying in str(caught.value)


@pytest.mark.parametrize("listen", ["0.0.0.0:7420", "[::]:7420", "10.0.0.1:7420", "box:7420"])
def test_a_broker_open_to_other_machines_has_to_know_its_peers(listen: str) -> None:
    with pytest.raises(SettingsError, match=r"listen \(from --listen\): .*--cluster-secret-file"):
        resolved({"listen": listen})
    tls = {"tls-cert": "c", "tls-key": "k", "tls-ca": "a"}
    for known in ({"cluster-secret-file": "s"}, tls, {"insecure": "yes"}):
        assert resolved({"listen": listen, **known}).settings.listen is not None


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1"])
def test_a_broker_with_local_peers_only_need_not_know_them(listen: str) -> None:
    assert resolved({"listen": listen}).settings.listen is not None


@pytest.mark.parametrize(
    ("name", "value"), [("allow-uid", "1"), ("allow-gid", "1"), ("topic-rule", "publish:t")]
)
def test_a_broker_closed_to_local_users_has_to_know_its_peers(name: str, value: str) -> None:
    with pytest.raises(
        SettingsError,
        match=rf"{name} \(from --{name}\): does not keep out users .* 127\.0\.0\.1:7420",
    ):
        resolved({name: (value,)})
    tls = {"tls-cert": "c", "tls-key": "k", "tls-ca": "a"}
    ways_out: list[Flags] = [
        {"cluster-secret-file": "s"},
        {**tls},
        {"insecure": "yes"},
        {"listen": False},
    ]
    for way_out in ways_out:
        resolved({name: (value,), **way_out})


@pytest.mark.parametrize("missing", ["tls-cert", "tls-key", "tls-ca"])
def test_tls_needs_all_of_its_files(missing: str) -> None:
    given = {name: "f" for name in ("tls-cert", "tls-key", "tls-ca") if name != missing}
    with pytest.raises(SettingsError, match=rf"{missing} \(from default\): is missing beside tls-"):
        resolved(given)


PATHS = ("socket", "journal", "cluster-secret-file", "tls-cert", "tls-key", "tls-ca")


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_every_relative_path_stands_where_the_broker_was_started(
    tmp_path: Path, source: str
) -> None:
    # Behind a link `..` leads elsewhere than the text says: the path is not simplified.
    written = {name: f"to/../{name}" for name in PATHS}
    match source:
        case "flag":
            found = resolved(written)
        case "environment":
            found = resolved(
                {}, {f"PUBSUBD_{k.upper().replace('-', '_')}": v for k, v in written.items()}
            )
        case _:
            text = "".join(f'{name} = "{path}"\n' for name, path in written.items())
            found = resolved(in_file(tmp_path, text))
    for setting in SETTINGS:
        if setting.name in PATHS:
            value = setting.value(found.settings)
            assert value == f"/here/to/../{setting.name}"
    assert {setting.name for setting in SETTINGS if setting.form.is_path} == set(PATHS)


def test_files_beside_a_relative_socket_have_absolute_paths() -> None:
    assert resolved({"socket": "s"}).settings.journal == "/here/s.state/box"
    found = resolved({}, {"XDG_RUNTIME_DIR": "run"}).settings
    assert found.socket == "/here/run/pubsubd/pubsubd.sock"


def test_a_relative_socket_has_to_fit_with_its_whole_folder() -> None:
    with pytest.raises(SettingsError, match=r"socket \(from --socket\): '/xxx.*/s' has 108 bytes"):
        resolved({"socket": "s"}, folder="/" + "x" * 105)
    assert len(resolved({"socket": "s"}, folder="/" + "x" * 104).settings.socket) == 107


def test_a_relative_path_in_a_folder_that_is_gone_is_refused() -> None:
    says = r"journal \(from PUBSUBD_JOURNAL\): 'j' is relative, and the working folder is gone"
    with pytest.raises(SettingsError, match=says):
        resolved({}, {"PUBSUBD_JOURNAL": "j"}, folder=None)
    assert resolved({"journal": "/j"}, folder=None).settings.journal == "/j"

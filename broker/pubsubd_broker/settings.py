"""One table of settings. Command line options, `PUBSUBD_*` variables, TOML keys and `config show` come from it.

A value is taken from the first of: flag, environment, file, default; where it came from is remembered.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from pubsubd_broker.core.dialling import Address
from pubsubd_broker.setting_forms import (
    COUNT,
    FOLDER,
    LISTEN,
    MAX_FRAME_BYTES,
    NODE,
    PEER,
    SOCKET,
    SWITCH,
    Form,
    choice,
    duration,
    node_name_of,
    size,
)
from pubsubd_broker.settings_rules import FRAME_OVERHEAD_BYTES, Refuse, check_together
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.socket_path import default_socket_path

ENVIRONMENT_PREFIX = "PUBSUBD_"

Source = Literal["flag", "environment", "file", "default"]


class SettingsError(PubSubError, ValueError):
    """A setting that can't be used. The text names it, where it came from, and what is allowed."""

    def __init__(self, setting: str, origin: str, problem: str) -> None:
        super().__init__(f"{setting} (from {origin}): {problem}")
        self.setting = setting
        self.origin = origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a broker runs on."""

    node: str
    socket: str
    listen: Address | None = ("127.0.0.1", 7420)
    peers: tuple[Address, ...] = ()
    ring_messages: int = 100_000
    ring_bytes: int = 64 << 20
    replica_messages: int = 100_000
    replica_bytes: int = 16 << 20
    pace_s: float = 0.25
    journal: str | None = None
    fsync: Literal["off", "snapshot", "interval", "always"] = "interval"
    fsync_interval_s: float = 0.05
    recover_from_peers: bool = False
    cursor_ttl_s: float = 86_400.0
    heartbeat_s: float = 2.0
    peer_timeout_s: float = 6.0
    max_message: int = 1 << 20
    max_frame: int = 16 << 20
    http: Address | None = ("127.0.0.1", 9420)
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: which kind of place, and its name there."""

    source: Source
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings in force, and the origin of each by its option name."""

    settings: Settings
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `name` is the option and the TOML key, `field` the field of `Settings`."""

    name: str
    field: str
    form: Form
    help: str
    repeatable: bool = False
    switch_off: str | None = None
    """What `--no-NAME` means; None if the setting can't be switched off."""

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace("-", "_").upper()

    @property
    def off_variable(self) -> str:
        return f"{ENVIRONMENT_PREFIX}NO_{self.name.replace('-', '_').upper()}"

    @property
    def allowed(self) -> str:
        return self.form.allowed

    def show(self, value: Any) -> Any:
        """The value as it stands in TOML: `false` for one that is off, a list for a repeatable one."""
        if self.repeatable:
            return [self.form.show(each) for each in value]
        if value is None:
            return False
        return self.form.show(value)


SETTINGS: Final = (
    Setting(
        "node", "node", NODE, "Name of this node, unique in its cluster. Default: the host name."
    ),
    Setting("socket", "socket", SOCKET, "The clients' Unix socket."),
    Setting(
        "listen",
        "listen",
        LISTEN,
        "Where peers connect; port 0 picks a free one.",
        switch_off="Take no peers: a single node, or one that only reads from its peers.",
    ),
    Setting("peer", "peers", PEER, "A broker to read from; may be repeated.", repeatable=True),
    Setting("ring-messages", "ring_messages", COUNT, "How many messages the ring holds."),
    Setting("ring-bytes", "ring_bytes", size(1), "How many bytes the ring holds."),
    Setting("replica-messages", "replica_messages", COUNT, "Messages kept of each peer."),
    Setting("replica-bytes", "replica_bytes", size(1), "Bytes kept of each peer."),
    Setting(
        "pace",
        "pace_s",
        duration(0.0),
        "How long publishers wait, each time, for a reader that is about to be overrun; 0: never.",
    ),
    Setting(
        "journal",
        "journal",
        FOLDER,
        "Keep the stream in this folder, so that a restart is not a loss. Default: none.",
        switch_off="Keep nothing on disk.",
    ),
    Setting(
        "fsync",
        "fsync",
        choice("off", "snapshot", "interval", "always"),
        "When the journal survives the machine: off: as the system likes; snapshot: written at a clean stop "
        "only; interval: every --fsync-interval; always: before anybody is told of it.",
    ),
    Setting(
        "fsync-interval",
        "fsync_interval_s",
        duration(0.001),
        "What --fsync interval may lose at the most when the machine dies.",
    ),
    Setting(
        "recover-from-peers",
        "recover_from_peers",
        SWITCH,
        "After a restart without a journal, begin with what peers still hold of this node's stream.",
    ),
    Setting(
        "cursor-ttl",
        "cursor_ttl_s",
        duration(0.0),
        "How long the cursor of a consumer that is away is kept after it has expired.",
    ),
    Setting("heartbeat", "heartbeat_s", duration(0.01), "Time between heartbeats to a peer."),
    Setting(
        "peer-timeout", "peer_timeout_s", duration(0.01), "A peer silent for so long is cut off."
    ),
    Setting("max-message", "max_message", size(1, MAX_FRAME_BYTES), "The largest payload."),
    Setting(
        "max-frame",
        "max_frame",
        size(FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES),
        "The largest frame, thus the largest batch.",
    ),
    Setting(
        "http",
        "http",
        LISTEN,
        "Metrics, health and status over HTTP.",
        switch_off="No HTTP.",
    ),
    Setting(
        "log-format",
        "log_format",
        choice("console", "json"),
        "Form of the log. Default: console on a terminal, else json.",
    ),
    Setting(
        "log-level",
        "log_level",
        choice("debug", "info", "warning", "error"),
        "The least level that is logged.",
    ),
)

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"", "0", "false", "no", "off"})


def resolve(
    flags: Mapping[str, str | bool | tuple[str, ...] | None],
    environment: Mapping[str, str],
    *,
    host: str,
    uid: int,
    terminal: bool,
) -> Resolved:
    """The settings in force. Reads the file that `config` or `PUBSUBD_CONFIG` names, nothing else.

    `flags`: by option name what stood on the command line as text; False for one that was switched
    off, a tuple for a repeatable one, None or () for what did not stand there. `host`, `uid` and
    `terminal` (is the log read on one?) make the defaults. Raises `SettingsError`.
    """
    values: dict[str, Any] = {
        "node": node_name_of(host),
        "socket": default_socket_path(_without(environment, "PUBSUBD_SOCKET"), uid),
        "log_format": "console" if terminal else "json",
    }
    default = Origin("default", "default")
    origins = {setting.name: default for setting in SETTINGS}
    for layer in (
        _from_file(flags, environment),
        _from_environment(environment),
        _from_flags(flags),
    ):
        for name, (value, origin) in layer.items():
            values[_BY_NAME[name].field] = value
            origins[name] = origin
    settings = Settings(**values)
    resolved = Resolved(settings, origins)
    _check_defaults(resolved)
    check_together(settings, origins, _refuse_in(resolved))
    return resolved


def suspicious_variables(environment: Iterable[str]) -> dict[str, str]:
    """`PUBSUBD_*` variables that nobody reads but that look like one that is: name -> what was likely meant.

    Others are none of our business: Kubernetes sets `PUBSUBD_SERVICE_HOST` for a service of our name.
    """
    known = {_CONFIG_VARIABLE}
    for setting in SETTINGS:
        known.add(setting.variable)
        if setting.switch_off is not None:
            known.add(setting.off_variable)
    suspicious = {}
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.85)
            if near:
                suspicious[name] = near[0]
    return suspicious


Layer = dict[str, tuple[Any, Origin]]


def _without(environment: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key != name}


def _from_flags(flags: Mapping[str, str | bool | tuple[str, ...] | None]) -> Layer:
    layer: Layer = {}
    for setting in SETTINGS:
        raw = flags.get(setting.name)
        if raw is None or raw == ():
            continue
        origin = Origin("flag", f"--{setting.name}")
        if raw is False:
            layer[setting.name] = None, Origin("flag", f"--no-{setting.name}")
        elif isinstance(raw, tuple):
            layer[setting.name] = _read_all(setting, origin, raw), origin
        else:
            layer[setting.name] = _read(setting, origin, str(raw)), origin
    return layer


def _from_environment(environment: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for setting in SETTINGS:
        # An empty variable counts as none: `PUBSUBD_PEER=` is how a compose file says nothing.
        text = environment.get(setting.variable, "").strip()
        origin = Origin("environment", setting.variable)
        if text and setting.repeatable:
            parts = [part.strip() for part in text.split(",") if part.strip()]
            layer[setting.name] = _read_all(setting, origin, parts), origin
        elif text:
            layer[setting.name] = _read(setting, origin, text), origin
        if setting.switch_off is None:
            continue
        switch = environment.get(setting.off_variable, "").strip().lower()
        if switch in _NO:
            continue
        if switch not in _YES:
            raise SettingsError(
                setting.name,
                setting.off_variable,
                f"{switch!r} is neither yes nor no; allowed: 1 or 0",
            )
        if text:
            raise SettingsError(
                setting.name,
                setting.off_variable,
                f"{setting.variable} is set as well; allowed: one of the two",
            )
        layer[setting.name] = None, Origin("environment", setting.off_variable)
    return layer


def _from_file(
    flags: Mapping[str, str | bool | tuple[str, ...] | None], environment: Mapping[str, str]
) -> Layer:
    path, named_by = flags.get("config"), "--config"
    if path is None:
        path, named_by = environment.get(_CONFIG_VARIABLE) or None, _CONFIG_VARIABLE
    if path is None:
        return {}
    try:
        with open(str(path), "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(
            "config",
            named_by,
            f"can't read {path}: {error.strerror}; allowed: a TOML file that can be read",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("config", named_by, f"{path} is no TOML: {_one_line(error)}") from error
    layer: Layer = {}
    for key, value in table.items():
        origin = Origin("file", str(path))
        setting = _BY_NAME.get(key)
        if setting is None:
            raise SettingsError(key, str(path), f"there is no such setting; {_nearest(key)}")
        layer[key] = _read_toml(setting, origin, value), origin
    return layer


def _read_toml(setting: Setting, origin: Origin, value: object) -> Any:
    if value is False and setting.switch_off is not None:
        return None
    if setting.repeatable:
        if not isinstance(value, list):
            raise _wrong_type(setting, origin, value)
        for each in value:
            if not isinstance(each, str):
                raise _wrong_type(setting, origin, each)
        return _read_all(setting, origin, value)
    if bool not in setting.form.toml and isinstance(value, bool):
        raise _wrong_type(setting, origin, value)
    if not isinstance(value, setting.form.toml):
        raise _wrong_type(setting, origin, value)
    return _read(setting, origin, str(value))


def _wrong_type(setting: Setting, origin: Origin, value: object) -> SettingsError:
    written = {str: "text", bool: "true or false", int: "a number", float: "a number"}
    found = written.get(type(value), "a list" if isinstance(value, list) else "a table")
    allowed = f"a list of {setting.allowed}" if setting.repeatable else setting.allowed
    if setting.switch_off is not None:
        allowed += ", or false"
    return SettingsError(
        setting.name, origin.name, f"{found} is the wrong type; allowed: {allowed}"
    )


def _read_all(setting: Setting, origin: Origin, texts: Iterable[str]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(_read(setting, origin, text) for text in texts))


def _read(setting: Setting, origin: Origin, text: str) -> Any:
    try:
        return setting.form.read(text)
    except ValueError as error:
        raise SettingsError(
            setting.name, origin.name, f"{error}; allowed: {setting.allowed}"
        ) from error


def _nearest(key: str) -> str:
    if key.startswith("no-") and key[3:] in _BY_NAME and _BY_NAME[key[3:]].switch_off is not None:
        return f"write {key[3:]} = false"
    near = difflib.get_close_matches(key.replace("_", "-").lower(), _BY_NAME, 1, 0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"allowed: {', '.join(_BY_NAME)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_defaults(resolved: Resolved) -> None:
    """A default made from the environment (the socket's path) obeys the same rules as a written one."""
    for setting in SETTINGS:
        origin = resolved.origins[setting.name]
        if setting.name == "socket" and origin.source == "default":
            _read(setting, Origin("default", "XDG_RUNTIME_DIR"), resolved.settings.socket)


def _refuse_in(resolved: Resolved) -> Refuse:
    def refuse(name: str, problem: str) -> NoReturn:
        raise SettingsError(name, resolved.origins[name].name, problem)

    return refuse

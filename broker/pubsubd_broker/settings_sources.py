"""Where the value of each setting comes from: the first of flag, environment, file, default. That is remembered."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from pubsubd_broker.setting_forms import NO, YES, node_name_of
from pubsubd_broker.settings import ENVIRONMENT_PREFIX, SETTINGS, Setting, Settings
from pubsubd_broker.settings_rules import Refuse, check_together
from pubsubd_broker.snapshot_place import folder_beside
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.socket_path import default_socket_path

Source = Literal["flag", "environment", "file", "default"]


class SettingsError(PubSubError, ValueError):
    """A setting that can't be used. The text names it, where it came from, and what is allowed."""

    def __init__(self, setting: str, origin: str, problem: str) -> None:
        super().__init__(f"{setting} (from {origin}): {problem}")
        self.setting = setting
        self.origin = origin


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


_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"


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
    if origins["journal"] is default:
        values["journal"] = folder_beside(values["socket"], values["node"])
        values.setdefault("fsync", "snapshot")
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
        if not switch or switch in NO:
            continue
        if switch not in YES:
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
    if value is False and setting.may_be_off:
        return None
    if setting.repeatable:
        if not isinstance(value, list):
            raise _wrong_type(setting, origin, value)
        for each in value:
            if not isinstance(each, setting.form.toml) or isinstance(each, bool):
                raise _wrong_type(setting, origin, each)
        return _read_all(setting, origin, map(str, value))
    if bool not in setting.form.toml and isinstance(value, bool):
        raise _wrong_type(setting, origin, value)
    if not isinstance(value, setting.form.toml):
        raise _wrong_type(setting, origin, value)
    return _read(setting, origin, str(value))


def _wrong_type(setting: Setting, origin: Origin, value: object) -> SettingsError:
    written = {str: "text", bool: "true or false", int: "a number", float: "a number"}
    found = written.get(type(value), "a list" if isinstance(value, list) else "a table")
    allowed = f"a list of {setting.allowed}" if setting.repeatable else setting.allowed
    if setting.may_be_off:
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

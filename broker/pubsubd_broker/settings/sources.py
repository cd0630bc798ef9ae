"""Sources of settings: each value comes from the first of flag, environment, file, default, with its origin."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from pubsubd_broker.settings.forms import NO, YES, expanded_path, node_name_of
from pubsubd_broker.settings.likely_names import likely_name
from pubsubd_broker.settings.origin import Origin
from pubsubd_broker.settings.row import ENVIRONMENT_PREFIX, Setting
from pubsubd_broker.settings.rules import RefuseSetting, check_together
from pubsubd_broker.settings.snapshot_place import folder_beside
from pubsubd_broker.settings.table import DEFAULTS, SETTINGS
from pubsubd_broker.settings.toml_file import read_table
from pubsubd_broker.settings.values import Settings, settings_of
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.socket_path import default_socket_path


class SettingsError(PubSubError, ValueError):
    """A setting that cannot be used. The text names it, where it came from, and what is allowed."""

    def __init__(self, setting: str, origin: str, problem: str) -> None:
        super().__init__(f"{setting} (from {origin}): {problem}")
        self.setting = setting
        self.origin = origin


@dataclass(frozen=True, slots=True)
class Resolved:
    """The settings in force, and the origin of each by its option name."""

    settings: Settings
    origins: Mapping[str, Origin]
    ignored: tuple[str, ...] = ()
    """`PUBSUBD_*` variables that are not settings, and not like one."""


_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
_OF_A_SERVICE: Final = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""Endings of the variables by which Kubernetes and Docker tell a container of a service."""


def resolve_settings(
    flags: Mapping[str, str | bool | tuple[str, ...] | None],
    environment: Mapping[str, str],
    *,
    host: str,
    uid: int,
    terminal: bool,
    folder: str | None,
) -> Resolved:
    """The settings in force. Reads the file that `config` or `PUBSUBD_CONFIG` names, nothing else.

    `flags`: by option name what stood on the command line as text; False for one that was switched
    off, a tuple for a repeatable one, None or () for what did not stand there. `host`, `uid` and
    `terminal` (is the log read on one?) make the defaults. `folder`: the working one, None if it is gone; relative
    paths are made absolute with it, here and nowhere else. Raises `SettingsError`.
    """
    unknown = unknown_variables(environment)
    for variable, meant in unknown.items():
        if meant is not None:
            raise SettingsError(variable, "environment", f"unknown setting; did you mean {meant}?")
    values: dict[str, Any] = {
        **DEFAULTS,
        "core.node": node_name_of(host),
        "socket": expanded_path(default_socket_path(_without(environment, "PUBSUBD_SOCKET"), uid)),
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
    for setting in SETTINGS:
        if setting.form.is_path and values.get(setting.field) is not None:
            found = _absolute(setting, origins[setting.name], values[setting.field], folder)
            values[setting.field] = found
    if origins["journal"] is default:
        values["journal"] = folder_beside(values["socket"], values["core.node"])
        values.setdefault("fsync", "snapshot")
    settings = settings_of(values)
    resolved = Resolved(settings, origins, tuple(unknown))
    check_together(settings, origins, _refuse_in(resolved))
    return resolved


def unknown_variables(environment: Iterable[str]) -> dict[str, str | None]:
    """`PUBSUBD_*` variables that are not settings: name -> the setting's variable that was likely meant.

    Those are left out that Kubernetes and Docker set for a service of our name, as `PUBSUBD_SERVICE_HOST`.
    """
    known = {_CONFIG_VARIABLE}
    for setting in SETTINGS:
        known.add(setting.variable)
        if setting.switch_off is not None:
            known.add(setting.off_variable)
    # Compared without what all have in common, which would make any two alike.
    endings = {name.removeprefix(ENVIRONMENT_PREFIX): name for name in known}
    unknown: dict[str, str | None] = {}
    for name in environment:
        ending = name.removeprefix(ENVIRONMENT_PREFIX)
        if ending == name or name in known or _OF_A_SERVICE.fullmatch(ending):
            continue
        meant = likely_name(ending, endings)
        unknown[name] = None if meant is None else endings[meant]
    return unknown


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
        table = read_table(expanded_path(str(path)))
    except ValueError as error:
        raise SettingsError("config", named_by, str(error)) from error
    layer: Layer = {}
    for key, value in table.items():
        origin = Origin("file", str(path))
        setting = _BY_NAME.get(key)
        if setting is None:
            raise SettingsError(key, str(path), _no_such(key, value))
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
    written: dict[type, str] = {
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    written |= {list: "a list", dict: "a table"}
    found = written.get(type(value), "a date or time")
    allowed = f"a list of {setting.allowed}" if setting.repeatable else setting.allowed
    if setting.may_be_off:
        allowed += ", or false"
    return SettingsError(
        setting.name, origin.name, f"{found} is the wrong type; allowed: {allowed}"
    )


def _read_all(setting: Setting, origin: Origin, texts: Iterable[str]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(_read(setting, origin, text) for text in texts))


def _read(setting: Setting, origin: Origin, text: str) -> Any:
    if setting.switch_off is not None and text.strip().lower() in NO:
        off = {
            "environment": f"{setting.off_variable}=1",
            "file": f"{setting.name} = false",
            "flag": f"--no-{setting.name}",
        }
        problem = f"{text!r} switches nothing off; write {off[origin.source]}"
        if setting.form.is_path:
            problem += f", or ./{text} for a folder of that name"
        raise SettingsError(setting.name, origin.name, problem)
    try:
        return setting.form.read(text)
    except ValueError as error:
        raise SettingsError(
            setting.name, origin.name, f"{error}; allowed: {setting.allowed}"
        ) from error


def _absolute(setting: Setting, origin: Origin, path: str, folder: str | None) -> str:
    """`path` in `folder`, not simplified: behind a link `..` leads elsewhere than the text says."""
    if origin.source == "default":
        # The path of the socket is made from the environment, and obeys the same rules as a written one.
        origin = Origin("default", "XDG_RUNTIME_DIR")
    if folder is None and not os.path.isabs(path):
        raise SettingsError(
            setting.name,
            origin.name,
            f"{path!r} is relative, and the working folder is gone; allowed: an absolute path",
        )
    whole: str = _read(setting, origin, os.path.join(folder or "", path))
    return whole


def _no_such(key: str, value: object) -> str:
    if isinstance(value, dict):
        inner = next(iter(value), "")
        meant = likely_name(f"{key}-{inner}", _BY_NAME) or likely_name(inner, _BY_NAME)
        hint = f"; did you mean {meant}?" if meant is not None else ""
        return f"unknown table: each setting is a key at the top of the file{hint}"
    if key.startswith("no-") and key[3:] in _BY_NAME and _BY_NAME[key[3:]].switch_off is not None:
        return f"unknown setting; write {key[3:]} = false"
    meant = likely_name(key, _BY_NAME, near=0.6)
    if meant is not None:
        return f"unknown setting; did you mean {meant}?"
    return "unknown setting; pubsubd config show lists all"


def _refuse_in(resolved: Resolved) -> RefuseSetting:
    def refuse(name: str, problem: str) -> NoReturn:
        raise SettingsError(name, resolved.origins[name].name, problem)

    return refuse

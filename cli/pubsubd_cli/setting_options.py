"""The broker's settings as click options, made from the table of settings."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pubsubd_broker.settings.forms import SWITCH
from pubsubd_broker.settings.row import Setting
from pubsubd_broker.settings.sources import Resolved, SettingsError, resolve_settings
from pubsubd_broker.settings.table import DEFAULTS, SETTINGS
from pubsubd_broker.settings.values import settings_of
from pubsubd_cli.exit_codes import USAGE, CommandError

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

_DEFAULTS = settings_of({**DEFAULTS, "core.node": "", "socket": ""})
_SAYS_YES: dict[str, Any] = {"is_flag": False, "flag_value": "yes"}
"""Arguments of an option whose value may be left out."""

_COMPUTED = frozenset(
    {
        "node",
        "socket",
        "log-format",
        "journal",
        "fsync",
        "cluster-secret-file",
        "tls-cert",
        "tls-key",
        "tls-ca",
    }
)


def setting_options(command: _Decorated) -> _Decorated:
    """Add `--config` and an option for each setting. The command passes them on to `resolved`."""
    for setting in reversed(SETTINGS):
        if setting.switch_off is not None:
            command = click.option(
                f"--no-{setting.name}", is_flag=True, default=False, help=setting.switch_off
            )(command)
        command = click.option(
            f"--{setting.name}",
            metavar=setting.form.metavar,
            multiple=setting.repeatable,
            help=_help(setting),
            **(_SAYS_YES if setting.form is SWITCH else {}),
        )(command)
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(),
        help="Settings in TOML, under the names of these options.",
    )(command)


def resolved(options: dict[str, Any]) -> Resolved:
    """The settings in force under these options. Raises `CommandError`."""
    flags: dict[str, str | bool | tuple[str, ...] | None] = {"config": options["config"]}
    for setting in SETTINGS:
        value = options[setting.name.replace("-", "_")]
        if setting.switch_off is not None and options[f"no_{setting.name.replace('-', '_')}"]:
            if value is not None:
                raise CommandError(
                    f"--{setting.name} and --no-{setting.name} exclude each other: give only one",
                    USAGE,
                )
            value = False
        flags[setting.name] = value
    try:
        return resolve_settings(
            flags,
            os.environ,
            host=socket.gethostname(),
            uid=os.getuid(),
            terminal=sys.stderr.isatty(),
            folder=_working_folder(),
        )
    except SettingsError as error:
        raise CommandError(str(error), USAGE) from error


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _help(setting: Setting) -> str:
    if setting.name in _COMPUTED or setting.repeatable:
        return setting.help
    shown = setting.show(setting.value(_DEFAULTS))
    return f"{setting.help} Default: {'no' if shown is False else shown}."

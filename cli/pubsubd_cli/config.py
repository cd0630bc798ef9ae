"""`pubsubd config`: the settings in force, and the source of each."""

from __future__ import annotations

import json
from typing import Any

import click

from pubsubd_broker.settings.sources import Resolved
from pubsubd_broker.settings.table import SETTINGS
from pubsubd_cli.exit_codes import USAGE, CommandError
from pubsubd_cli.setting_options import resolved, setting_options
from pubsubd_cli.standard_streams import complain, say
from pubsubd_protocol.errors import PubSubError


@click.group(
    short_help="Show or check the settings.",
    epilog="""\b
Examples:
  pubsubd config show > pubsubd.toml
  pubsubd config check --config /etc/pubsubd/pubsubd.toml
""",
)
def config() -> None:
    """Show or check the settings that `pubsubd start` would use with the same options."""


@config.command(
    epilog="""\b
Examples:
  pubsubd config show
  pubsubd config show --config pubsubd.toml --ring-bytes 1GiB --json
"""
)
@click.option("--json", "as_json", is_flag=True, help="JSON: value and source of each setting.")
@setting_options
def show(as_json: bool, **options: Any) -> None:
    """Print each setting and its source, as a file for --config."""
    settings = resolved(options)
    _warn(settings)
    if as_json:
        say(json.dumps(_as_json(settings)))
    else:
        say(_as_toml(settings))


@config.command(
    epilog="""\b
Examples:
  pubsubd config check --config /etc/pubsubd/pubsubd.toml
  PUBSUBD_RING_BYTES=1GiB pubsubd config check --json
"""
)
@click.option("--json", "as_json", is_flag=True, help='JSON: {"ok": true}.')
@setting_options
def check(as_json: bool, **options: Any) -> None:
    """Check the settings, and the secret and certificates that they name. Exit code 0: valid; 2: invalid.

    Run it as the broker's user: that user must be able to read the files, and others must not. Only `pubsubd start`
    checks the socket, the addresses and the journal.
    """
    settings = resolved(options)
    _warn(settings)
    # Imported here, because invalid settings do not need TLS.
    from pubsubd_broker.trust.peer_trust import load_peer_trust

    try:
        load_peer_trust(settings.settings)
    except PubSubError as error:
        raise CommandError(str(error), USAGE) from error
    say(json.dumps({"ok": True}) if as_json else "settings are good")


def _as_json(settings: Resolved) -> dict[str, dict[str, Any]]:
    return {
        setting.name: {
            "value": setting.show(setting.value(settings.settings)),
            "source": settings.origins[setting.name].source,
            "origin": settings.origins[setting.name].name,
        }
        for setting in SETTINGS
    }


def _as_toml(settings: Resolved) -> str:
    lines = []
    for name, row in _as_json(settings).items():
        # JSON strings, numbers, lists of them and false are valid TOML, too.
        written = f"{name} = {json.dumps(row['value'], ensure_ascii=False)}"
        lines.append(f"{written:<45} # {row['origin']}")
    return "\n".join(lines)


def _warn(settings: Resolved) -> None:
    for name in settings.ignored:
        complain(f"{name} is not a setting and is ignored; pubsubd config show lists all settings")

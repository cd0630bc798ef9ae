"""`pubsubd start`: run a broker in the foreground."""

from __future__ import annotations

from typing import Any

import click

from pubsubd_broker.settings.sources import Resolved
from pubsubd_cli.exit_codes import USAGE, CommandError
from pubsubd_cli.setting_options import resolved, setting_options
from pubsubd_protocol.errors import PubSubError


@click.command(
    short_help="Run a broker in the foreground.",
    epilog="""\b
Examples:
  pubsubd start
  pubsubd start --node b --listen 127.0.0.1:7421 --peer 127.0.0.1:7420 --no-http
  pubsubd start --config /etc/pubsubd/pubsubd.toml --log-level debug

\b
Every option is also a variable (--ring-bytes: PUBSUBD_RING_BYTES) and a key of the file (ring-bytes).
Order: option, variable, file, default. Sizes take KiB, MiB, GiB; durations ms, s, m, h.
""",
)
@setting_options
def start(**options: Any) -> int:
    """Run a broker in the foreground.

    Without any option it is a single node on sensible defaults. SIGTERM or SIGINT let it finish
    what it has accepted and end. A second one ends it without waiting for readers, and keeps what
    was accepted all the same; a third one ends it within two seconds, whatever is lost then.
    """
    found = resolved(options)
    # Only now: `start --help` and wrong settings need none of the broker.
    from pubsubd_broker.daemon import run

    if found.ignored:
        _warn(found)
    try:
        return run(found.settings)
    except PubSubError as error:
        # It could not have its socket or an address: another setting is needed.
        raise CommandError(str(error), USAGE) from error


def _warn(found: Resolved) -> None:
    """Warns in the log, and in its form: its reader may be a program."""
    import structlog

    from pubsubd_broker.logs.setup import configure_logging

    configure_logging(found.settings.log_format, found.settings.log_level)
    structlog.get_logger("pubsubd").warning("settings.ignored", variables=list(found.ignored))

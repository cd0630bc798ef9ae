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
Each option is also an environment variable (--ring-bytes: PUBSUBD_RING_BYTES) and a key of the file
(ring-bytes). Order: option, variable, file, default. Sizes take KiB, MiB, GiB; durations ms, s, m, h.
""",
)
@setting_options
def start(**options: Any) -> int:
    """Run a broker in the foreground.

    Without options it runs a single node on its defaults. At SIGTERM or SIGINT the broker hands accepted
    messages to connected readers, keeps its stream, and ends. A second signal ends it without waiting for
    readers; it still keeps its stream. A third signal ends it within 2 seconds and may lose messages.
    """
    found = resolved(options)
    # Imported here, because `start --help` and invalid settings do not need the broker.
    from pubsubd_broker.daemon import run_broker

    if found.ignored:
        _warn(found)
    try:
        return run_broker(found.settings)
    except PubSubError as error:
        # The broker could not use its socket or an address: a setting must change.
        raise CommandError(str(error), USAGE) from error


def _warn(found: Resolved) -> None:
    """Warn in the log's own format, because a program may read it."""
    import structlog

    from pubsubd_broker.logs.setup import configure_logging

    configure_logging(found.settings.log_format, found.settings.log_level)
    structlog.get_logger("pubsubd").warning("settings.ignored", variables=list(found.ignored))

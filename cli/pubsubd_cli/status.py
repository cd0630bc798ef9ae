"""`pubsubd status`: what the running broker says of itself."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from pubsubd_cli.client_options import run_client, socket_option, timeout_option
from pubsubd_cli.tables import status_text

WATCH_EVERY_S = 1.0

_CLEAR = "\x1b[H\x1b[2J"


@click.command(
    short_help="Show what the broker is doing.",
    epilog="""\b
Examples:
  pubsubd status
  pubsubd status --watch
  pubsubd status --json | jq .ring
""",
)
@click.option("--watch", is_flag=True, help="Again every second, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON, the same as /status.json.")
@socket_option
@timeout_option
def status(watch: bool, as_json: bool, socket: str, timeout: float | None) -> None:
    """Show this node, its ring, its peers, its consumers with their lag, its sessions."""
    run_client(_show(socket, watch, as_json), timeout)


async def _show(socket: str, watch: bool, as_json: bool) -> None:
    import pubsubd.control

    while True:
        report = await pubsubd.control.query(socket, "status")
        if as_json:
            click.echo(json.dumps(report))
        else:
            if watch and sys.stdout.isatty():
                click.echo(_CLEAR, nl=False)
            click.echo(status_text(report))
        if not watch:
            return
        await asyncio.sleep(WATCH_EVERY_S)

"""`pubsubd status`: shows the state of the running broker."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from pubsubd_cli.client_options import run_client, socket_option, timeout_option
from pubsubd_cli.output import Output
from pubsubd_cli.standard_streams import output_encoding
from pubsubd_cli.tables import status_text

WATCH_EVERY_S = 1.0

_CLEAR = "\x1b[H\x1b[2J"


@click.command(
    short_help="Show the state of the broker.",
    epilog="""\b
Examples:
  pubsubd status
  pubsubd status --watch
  pubsubd status --json | jq .ring
""",
)
@click.option("--watch", is_flag=True, help="Repeat every second, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON, as in /status.json.")
@socket_option
@timeout_option
def status(watch: bool, as_json: bool, socket: str, timeout: float | None) -> None:
    """Show this node, its ring, its peers, its consumers with their lag, and its sessions."""
    run_client(_show(socket, watch, as_json), timeout)


async def _show(socket: str, watch: bool, as_json: bool) -> None:
    import pubsubd.control

    output = Output()
    clear = _CLEAR.encode() if watch and not as_json and sys.stdout.isatty() else b""
    while True:
        report = await pubsubd.control.query(socket, "status")
        await output.write(clear)
        await output.say(json.dumps(report) if as_json else status_text(report, output_encoding()))
        if not watch:
            return
        await asyncio.sleep(WATCH_EVERY_S)

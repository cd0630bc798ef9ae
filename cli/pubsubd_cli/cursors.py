"""`pubsubd cursors`: consumers that this node remembers, and how to forget one."""

from __future__ import annotations

import json
from typing import Any

import click

from pubsubd_cli.client_options import read_node, run_client, socket_option, timeout_option
from pubsubd_cli.exit_codes import CommandError
from pubsubd_cli.standard_streams import output_encoding, say
from pubsubd_cli.tables import consumers_table


@click.group(
    short_help="List or drop the cursors of consumers.",
    epilog="""\b
Examples:
  pubsubd cursors list
  pubsubd cursors drop old-node
""",
)
def cursors() -> None:
    """The cursors that this node keeps for its consumers."""


@cursors.command(
    "list",
    epilog="""\b
Examples:
  pubsubd cursors list
  pubsubd cursors list --json | jq '.cursors[] | select(.connected | not)'
""",
)
@click.option("--json", "as_json", is_flag=True, help='A line of JSON: {"cursors": [...]}.')
@socket_option
@timeout_option
def list_cursors(as_json: bool, socket: str, timeout: float | None) -> None:
    """List consumers, where each stands, and how far behind it is."""
    report = run_client(_query(socket, "cursors"), timeout)
    say(json.dumps(report) if as_json else consumers_table(report["cursors"], output_encoding()))


@cursors.command(
    epilog="""\b
Example:
  pubsubd cursors drop old-node
"""
)
@click.argument("node", callback=read_node)
@socket_option
@timeout_option
def drop(node: str, socket: str, timeout: float | None) -> None:
    """Forget the cursor of NODE, which will not come back."""
    report = run_client(_query(socket, "drop_cursor", node), timeout)
    if not report["dropped"]:
        why = report.get("error", "there is none; see pubsubd cursors list")
        raise CommandError(f"no cursor of {node} was dropped: {why}")


async def _query(socket: str, what: str, argument: str | None = None) -> Any:
    import pubsubd.control

    return await pubsubd.control.query(socket, what, argument)

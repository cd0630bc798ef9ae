"""`pubsubd cursors`: list the consumers that this node remembers, or forget one."""

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
    """List or drop the cursors that this node keeps for its consumers."""


@cursors.command(
    "list",
    epilog="""\b
Examples:
  pubsubd cursors list
  pubsubd cursors list --json | jq '.cursors[] | select(.connected | not)'
""",
)
@click.option("--json", "as_json", is_flag=True, help='Print a line of JSON: {"cursors": [...]}.')
@socket_option
@timeout_option
def list_cursors(as_json: bool, socket: str, timeout: float | None) -> None:
    """List the consumers, each with its cursor and its lag."""
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
    """Forget the cursor of NODE. Use it for a node that will not come back."""
    report = run_client(_query(socket, "drop_cursor", node), timeout)
    if not report["dropped"]:
        why = report.get("error", "it does not exist; see pubsubd cursors list")
        raise CommandError(f"the cursor of {node} was not dropped: {why}")


async def _query(socket: str, what: str, argument: str | None = None) -> Any:
    import pubsubd.control

    return await pubsubd.control.query(socket, what, argument)

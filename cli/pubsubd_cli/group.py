"""The click group `pubsubd`: loads the module of the given command."""

from __future__ import annotations

import importlib
from typing import Final

import click

from pubsubd_protocol import __version__
from pubsubd_protocol.build import BUILD

COMMANDS: Final = ("start", "publish", "subscribe", "status", "cursors", "config")
"""Commands in the order of `--help`. Each has a module of its name, loaded on use."""

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group that imports only the module of the given command: `publish` never imports the broker."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"pubsubd_cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  pubsubd start                                  run a single node on its defaults
  pubsubd subscribe 'orders.>'                   print messages, a line each
  pubsubd publish orders.created '{"id": 1}' --json

\b
Completion for bash (zsh and fish: zsh_source, fish_source):
  eval "$(_PUBSUBD_COMPLETE=bash_source pubsubd)"

\b
Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 no broker at the socket,
4 --timeout passed, 130 interrupted (SIGINT or SIGTERM). If the reader of the output ends, as `head`
does, the exit code is 0.
""",
)
@click.version_option(__version__, prog_name="pubsubd", message=f"%(prog)s %(version)s ({BUILD})")
@click.pass_context
def pubsubd(context: click.Context) -> None:
    """Publish and read events between applications on several machines, without a silent gap."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())

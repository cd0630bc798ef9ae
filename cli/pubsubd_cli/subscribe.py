"""`pubsubd subscribe`: prints a line per message, and each gap at its place."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from pubsubd_cli.client_options import (
    checking_usage,
    run_client,
    socket_option,
    timeout_option,
)
from pubsubd_cli.output import Output
from pubsubd_cli.standard_streams import STDERR, OutputFailed, output_encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pubsubd


@click.command(
    short_help="Print published messages.",
    epilog="""\b
Examples:
  pubsubd subscribe 'orders.>'
  pubsubd subscribe 'rooms.*.joined' --json | jq .payload
  pubsubd subscribe '>' --start earliest --count 10 --timeout 5s
  pubsubd subscribe 'orders.>' --name projector --json

\b
In a pattern, * stands for one segment and a last > for one or more. Where messages are lost, the
command prints a line on standard error, or with --json an object {"event":"cursor_expired",...}.
It escapes control characters. It exits with 0 when the reader of its output ends, as in `| head`.
""",
)
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object per event, gaps included."
)
@click.option(
    "--name",
    metavar="NAME",
    help="Go on where the subscription of this name ended. One connection may use a name at a time.",
)
@click.option(
    "--start",
    type=click.Choice(["latest", "earliest"]),
    default="latest",
    show_default=True,
    help="earliest: begin with the oldest messages that the rings still hold.",
)
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after N messages.")
@click.option("--no-echo", is_flag=True, help="Leave out messages that this client published.")
@socket_option
@timeout_option
def subscribe(
    patterns: tuple[str, ...],
    as_json: bool,
    name: str | None,
    start: str,
    count: int | None,
    no_echo: bool,
    socket: str,
    timeout: float | None,
) -> None:
    """Print the messages whose topics match any PATTERN, a line per message."""
    options: dict[str, Any] = {"start": start, "echo": not no_echo}
    if name is not None:
        # Acknowledge a message when it is printed: with --count, the command never asks for the next one.
        options |= {"name": name, "ack": "manual"}
    run_client(_print_events(socket, patterns, options, as_json, count), timeout)


async def _print_events(
    socket: str,
    patterns: tuple[str, ...],
    options: dict[str, Any],
    as_json: bool,
    count: int | None,
) -> None:
    import pubsubd

    client = pubsubd.connect(socket, close_timeout_s=0)
    with checking_usage():
        subscription = client.subscribe(*patterns, **options)
    async with client, subscription:
        output = Output()
        printer = _Printer(subscription, as_json, count, "name" in options, output)
        await output.while_read(printer.run())


class _Printer:
    """Prints events, with one write per batch: small writes at a low rate, large ones under load."""

    def __init__(
        self,
        subscription: pubsubd.Subscription,
        as_json: bool,
        count: int | None,
        acknowledge: bool,
        output: Output,
    ) -> None:
        from pubsubd_cli.json_lines import expired_line, message_line, text_line

        self._line = message_line if as_json else text_line
        self._gap_line = expired_line if as_json else None
        self._left = count
        self._acknowledge = acknowledge
        self._subscription = subscription
        self._output = output
        self._errors = Output(STDERR)
        self._encoding = output_encoding()

    async def run(self) -> None:
        """Print events up to the last message of `--count`. Raises `OutputFailed`."""
        from pubsubd import CursorExpired

        while True:
            try:
                async for batch in self._subscription.batches():
                    if await self._messages(batch):
                        return
                return
            except CursorExpired as gap:
                # Iterating again goes on after the gap.
                await self._gap(gap)

    async def _messages(self, batch: Sequence[pubsubd.Message]) -> bool:
        """Print a batch. Returns whether it held the last message of `--count`."""
        if self._left is not None:
            batch = batch[: self._left]
            self._left -= len(batch)
        line, encoding = self._line, self._encoding
        await self._output.write(b"".join([line(each, encoding) for each in batch]))
        if self._acknowledge:
            for message in {message.node: message for message in batch}.values():
                await self._subscription.ack(message)
        return self._left == 0

    async def _gap(self, gap: pubsubd.CursorExpired) -> None:
        if self._gap_line is not None:
            await self._output.write(self._gap_line(gap, self._encoding))
            return
        with contextlib.suppress(OutputFailed):
            await self._errors.say(f"pubsubd: {gap}")

"""`pubsubd publish`: messages from the command line or from standard input."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import click

from pubsubd_cli.client_options import (
    checking_usage,
    read_duration,
    read_node,
    run_client,
    socket_option,
)
from pubsubd_cli.exit_codes import CommandError
from pubsubd_cli.standard_streams import STDIN
from pubsubd_protocol.topics import check_publishable


class BadPayload(Exception):
    """A payload cannot be sent; the text says why."""


@click.command(
    short_help="Publish messages.",
    epilog="""\b
Examples:
  pubsubd publish orders.created 'hello'
  pubsubd publish orders.created --json '{"id": 1}' '{"id": 2}'
  tail -f app.jsonl | pubsubd publish app.events --stdin --json
  pubsubd publish cache.clear all --to node-b

\b
The command prints nothing. Exit code 0 means that the broker accepted every message. At the first message
that it did not accept, the command ends, with a line that names that message and the counts.
""",
)
@click.argument("topic")
@click.argument("payloads", metavar="[PAYLOAD]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Payloads are JSON. Default: text.")
@click.option(
    "--stdin", "from_stdin", is_flag=True, help="Publish each line of standard input as a message."
)
@click.option(
    "--to", metavar="NODE", callback=read_node, help="Only sessions on this node get the messages."
)
@socket_option
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=read_duration,
    help="Longest wait until a message is accepted; then exit code 4. Default: 10s.",
)
def publish(
    topic: str,
    payloads: tuple[str, ...],
    as_json: bool,
    from_stdin: bool,
    to: str | None,
    socket: str,
    timeout: float | None,
) -> None:
    """Publish each PAYLOAD as one message under TOPIC, and wait until all are accepted."""
    if from_stdin and payloads:
        raise click.UsageError("give payloads or --stdin, not both")
    if not from_stdin and not payloads:
        raise click.UsageError("give a payload, or --stdin to read a message per line")
    with checking_usage():
        check_publishable(topic)
    values: list[tuple[int, Any]] = []
    for number, text in enumerate(payloads, 1):
        try:
            values.append((number, _json(text) if as_json else text))
        except BadPayload as problem:
            raise click.UsageError(f"payload {number} {problem}") from None
    # Imported here, because a usage error does not need the client.
    from pubsubd_cli.sending import Sending

    what = "line {} of standard input" if from_stdin else "payload {}"
    sending = Sending(socket, topic, to, what, timeout)
    given = _lines(as_json) if from_stdin else _at_once(values)
    run_client(sending.run(given), interrupts=(sending.interrupt, sending.hurry))


async def _at_once(values: list[tuple[int, Any]]) -> AsyncIterator[tuple[int, Any]]:
    for each in values:
        yield each


async def _lines(as_json: bool) -> AsyncIterator[tuple[int, Any]]:
    """Line number and message for each line of standard input. Raises `CommandError`."""
    from pubsubd_cli.input_lines import read_lines

    number = 0
    async for lines in read_lines(STDIN):
        for line in lines:
            number += 1
            if as_json and not line.strip():
                continue
            try:
                text = _utf8(line)
                yield number, _json(text) if as_json else text
            except BadPayload as problem:
                raise CommandError(f"line {number} {problem}") from None


def _utf8(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise BadPayload(f"is not UTF-8 at byte {error.start}") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BadPayload(f"is not JSON: {error}") from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON value")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is too large for a float")
    return number

"""`pubsubd publish`: messages from the command line or from standard input."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pubsubd_cli.client_options import (
    checking_usage,
    read_node,
    run_client,
    socket_option,
    timeout_option,
)
from pubsubd_cli.exit_codes import CommandError
from pubsubd_protocol.topics import check_publishable

if TYPE_CHECKING:
    import pubsubd


class BadPayload(Exception):
    """A payload that can't be sent; says why."""


@click.command(
    short_help="Publish messages.",
    epilog="""\b
Examples:
  pubsubd publish orders.created 'hello'
  pubsubd publish orders.created --json '{"id": 1}' '{"id": 2}'
  tail -f app.jsonl | pubsubd publish app.events --stdin --json
  pubsubd publish cache.clear all --to node-b

\b
Nothing is printed; exit code 0 means that every message was accepted.
""",
)
@click.argument("topic")
@click.argument("payloads", metavar="[PAYLOAD]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Each payload is JSON; default: text.")
@click.option("--stdin", "from_stdin", is_flag=True, help="A message per line of standard input.")
@click.option(
    "--to", metavar="NODE", callback=read_node, help="For the sessions of this node only."
)
@socket_option
@timeout_option
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
        raise click.UsageError("give a payload, or --stdin for a message per line")
    with checking_usage():
        check_publishable(topic)
    values = []
    for number, text in enumerate(payloads, 1):
        try:
            values.append(_json(text) if as_json else text)
        except BadPayload as problem:
            raise click.UsageError(f"payload {number} {problem}") from None
    if from_stdin:
        run_client(_publish_lines(socket, topic, to, as_json), timeout)
    else:
        run_client(_publish_values(socket, topic, to, values), timeout)


async def _publish_values(socket: str, topic: str, to: str | None, values: list[Any]) -> None:
    import pubsubd

    # What counts is flushed; when that was broken off, nobody wants to wait on.
    async with pubsubd.connect(socket, close_timeout_s=0) as client:
        for number, value in enumerate(values, 1):
            try:
                await _send(client, topic, value, to)
            except BadPayload as problem:
                await _flush_and_fail(client, f"payload {number} {problem}")
        await client.flush()


async def _publish_lines(socket: str, topic: str, to: str | None, as_json: bool) -> None:
    import pubsubd

    async with pubsubd.connect(socket, close_timeout_s=0) as client:
        async for number, line in _numbered(sys.stdin.fileno()):
            if as_json and not line.strip():
                continue
            try:
                text = _utf8(line)
                await _send(client, topic, _json(text) if as_json else text, to)
            except BadPayload as problem:
                await _flush_and_fail(client, f"line {number} {problem}; nothing after it was sent")
        await client.flush()


async def _numbered(descriptor: int) -> AsyncIterator[tuple[int, bytes]]:
    from pubsubd_cli.input_lines import read_lines

    number = 0
    async for lines in read_lines(descriptor):
        for line in lines:
            number += 1
            yield number, line


async def _send(client: pubsubd.Client, topic: str, value: Any, to: str | None) -> None:
    from pubsubd import InvalidTopic

    try:
        await client.send(topic, value, to=to)
    except InvalidTopic:
        raise
    except (ValueError, OverflowError) as error:
        # Too large; or one of JSON's values that msgpack has not: integers beyond 64 bits, half a
        # surrogate pair, a thousand lists in each other.
        raise BadPayload(f"can't be sent: {error}") from error


async def _flush_and_fail(client: pubsubd.Client, text: str) -> NoReturn:
    """What came before the bad one is still accepted, or said to have failed."""
    await client.flush()
    raise CommandError(text)


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
    raise ValueError(f"{word} is no JSON value")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is larger than a float can be")
    return number

"""Options, errors and exit codes of the commands that talk to a broker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import click

from pubsubd_cli import signals
from pubsubd_cli.exit_codes import FAILED, NO_BROKER, TIMED_OUT, USAGE, CommandError, Interrupted
from pubsubd_protocol.errors import PubSubError
from pubsubd_protocol.positions import MAX_NODE_NAME, is_node_name
from pubsubd_protocol.socket_path import default_socket_path

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
Result = TypeVar("Result")


def read_duration(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> float | None:
    """The value of a duration option (`10s`, `250ms`, `5m`, or seconds), in seconds."""
    if text is None:
        return None
    # Imported only if a duration was given: client commands do not load the broker.
    from pubsubd_broker.settings.sizes import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        problem = f"{error}; allowed: 250ms, 10s, 5m, 1h or seconds"
        raise click.BadParameter(problem, context, parameter) from error
    if seconds <= 0:
        raise click.BadParameter("it must be above 0", context, parameter)
    return seconds


SOCKET_VARIABLE: Final = "PUBSUBD_SOCKET"
"""The only environment variable that client commands read."""


def is_like_the_socket(variable: str) -> bool:
    """Whether `variable` is probably a typing error for `SOCKET_VARIABLE`."""
    prefix, _, ending = SOCKET_VARIABLE.partition("_")
    begin, _, found = variable.partition("_")
    if begin != prefix or found == ending:
        return False
    # Imported only if such a variable is set: client commands do not load the broker.
    from pubsubd_broker.settings.likely_names import likely_name

    return likely_name(found, [ending]) is not None


def _default_socket() -> str:
    """The socket without `--socket`. Raises `CommandError` if a variable looks like a misspelt `PUBSUBD_SOCKET`."""
    if not os.environ.get(SOCKET_VARIABLE):
        for variable in filter(is_like_the_socket, os.environ):
            raise CommandError(
                f"{variable} (from environment): unknown setting; did you mean {SOCKET_VARIABLE}?",
                USAGE,
            )
    return default_socket_path(os.environ, os.getuid())


def socket_option(command: _Decorated) -> _Decorated:
    """Add `--socket`. The command gets a path: the given one, or the default."""
    return click.option(
        "--socket",
        metavar="PATH",
        default=_default_socket,
        help="The broker's socket. Default: $PUBSUBD_SOCKET, else the broker's default.",
    )(command)


def timeout_option(command: _Decorated) -> _Decorated:
    """Add `--timeout`. The command gets seconds, or None."""
    return click.option(
        "--timeout",
        metavar="DURATION",
        callback=read_duration,
        help="Give up after this time with exit code 4.",
    )(command)


def read_node(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    """The value of an option or argument that takes a node name."""
    if name is not None and not is_node_name(name):
        raise click.BadParameter(
            f"{name!r} is not a node name: 1 to {MAX_NODE_NAME} of A-Z a-z 0-9 . _ -, "
            "first and last a letter or digit",
            context,
            parameter,
        )
    return name


@contextmanager
def checking_usage() -> Iterator[None]:
    """Turn a `ValueError` of the SDK about an argument into a usage error."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error


def run_client(
    work: Coroutine[Any, Any, Result],
    timeout_s: float | None = None,
    interrupts: Sequence[asyncio.Event] = (),
) -> Result:
    """Run `work` and return its result. An error of the SDK becomes a `CommandError` with its exit code.

    SIGINT or SIGTERM cancels `work`. If `interrupts` are given, each signal sets the next of them instead. A further
    signal ends the process at once.
    """
    import pubsubd

    asked = False

    async def within_timeout() -> Result:
        nonlocal asked
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        asks: list[Callable[[], object]] = [event.set for event in interrupts]
        with signals.SignalTelling(
            *[partial(loop.call_soon_threadsafe, ask) for ask in asks or [task.cancel]]
        ) as telling:
            try:
                async with asyncio.timeout(timeout_s) as scope:
                    try:
                        return await work
                    except TimeoutError as error:
                        if scope.expired():
                            raise
                        raise CommandError(f"no answer in time: {error}") from error
            finally:
                asked = telling.told > 0 and not interrupts

    try:
        result = asyncio.run(within_timeout())
    except TimeoutError:
        raise CommandError(f"--timeout of {timeout_s:g} s has passed", TIMED_OUT) from None
    except asyncio.CancelledError:
        if not asked:
            raise
        raise Interrupted from None
    except pubsubd.PubSubError as error:
        raise command_error(error) from error
    if asked:
        # The signal came after the end of `work`; what follows may take long, so end here.
        raise Interrupted
    return result


def command_error(error: PubSubError, text: str | None = None) -> CommandError:
    """The `CommandError` for an error of the SDK, with the error's text or with `text`."""
    import pubsubd

    match error:
        case pubsubd.BrokerUnavailable():
            code = NO_BROKER
        case pubsubd.InvalidTopic() | pubsubd.InvalidPosition():
            code = USAGE
        case _:
            code = FAILED
    return CommandError(str(error) if text is None else text, code)

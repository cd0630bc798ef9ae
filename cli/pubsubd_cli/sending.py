"""Publishes messages from an input that may be endless. Ends at the first message that is not accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pubsubd
from pubsubd.pipeline import Fate, Pipeline
from pubsubd_cli.client_options import command_error
from pubsubd_cli.exit_codes import INTERRUPTED, TIMED_OUT, CommandError, Interrupted

PATIENCE_S: Final = 10.0
"""Default of `--timeout`, for each message."""

SEND_FLUSH_S: Final = 5.0
"""Seconds for which an interrupted command waits for the answers due."""


class Sending:
    """A run of `pubsubd publish`. `what`: format that names a message by its number, as `line {}`.

    `timeout_s`: the longest time for which the broker may let a message wait. Time without input does not count.
    """

    def __init__(
        self, socket: str, topic: str, to: str | None, what: str, timeout_s: float | None
    ) -> None:
        self.interrupt = asyncio.Event()
        """Set by the caller: stop reading, and wait up to `SEND_FLUSH_S` for the answers due."""
        self.hurry = asyncio.Event()
        """Set by the caller after `interrupt`: stop waiting for answers."""
        self._socket = socket
        self._topic = topic
        self._to = to
        self._what = what
        self._timeout_s = timeout_s
        self._last = 0

    async def run(self, given: AsyncIterator[tuple[int, Any]]) -> None:
        """Publish all messages of `given`. Raises `CommandError`, `Interrupted`, or an error of the SDK."""
        patience_s = PATIENCE_S if self._timeout_s is None else self._timeout_s
        # This method waits for the answers itself. Messages without an answer when the client closes are counted.
        client = pubsubd.connect(self._socket, publish_timeout_s=patience_s, close_timeout_s=0)
        await self._open(client)
        async with client:
            pipeline = Pipeline.of(client)
            feeding = asyncio.ensure_future(self._feed(pipeline, given))
            stopping = asyncio.ensure_future(self.interrupt.wait())
            try:
                either: list[asyncio.Future[Any]] = [feeding, pipeline.failed, stopping]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                # A signal after the last acceptance changes nothing.
                interrupted = self.interrupt.is_set() and not feeding.done()
                if interrupted and not pipeline.failed.done():
                    await _cancelled(feeding)
                    await _within(SEND_FLUSH_S, pipeline, self.hurry)
            finally:
                await _cancelled(feeding, stopping)
        if interrupted:
            if pipeline.first_failure is None:
                raise Interrupted
            raise CommandError(f"interrupted: {self._count(pipeline)}", INTERRUPTED)
        if pipeline.first_failure is not None:
            raise self._failure(pipeline, *pipeline.first_failure)
        feeding.result()

    async def _open(self, client: pubsubd.Client) -> None:
        """Connect within the time-out. Raises `CommandError`, `Interrupted`, or an error of the SDK."""
        opening = asyncio.ensure_future(client.__aenter__())
        stopping = asyncio.ensure_future(self.interrupt.wait())
        try:
            either: list[asyncio.Future[Any]] = [opening, stopping]
            await asyncio.wait(either, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            elif self.interrupt.is_set():
                raise Interrupted
            else:
                raise self._late()
        finally:
            await _cancelled(opening, stopping)

    async def _feed(self, pipeline: Pipeline, given: AsyncIterator[tuple[int, Any]]) -> None:
        try:
            async for number, value in given:
                await self._send(pipeline, number, value)
                self._last = number
        except CommandError as bad:
            # Wait for the outcome of the messages before the bad one.
            await pipeline.settled()
            raise CommandError(f"{bad}; {self._count(pipeline)}", bad.code) from bad
        await pipeline.settled()

    async def _send(self, pipeline: Pipeline, number: int, value: Any) -> None:
        try:
            payload = pubsubd.MSGPACK.encode(value)
            await pipeline.send(number, self._topic, payload, self._to)
        except pubsubd.InvalidTopic:
            raise
        except (ValueError, OverflowError, pubsubd.MessageTooLarge) as error:
            # The value is too large, or msgpack cannot hold it: integers beyond 64 bits, half a surrogate pair,
            # or 1,000 nested lists.
            which = self._what.format(number).partition(" of ")[0]
            raise CommandError(f"{which} cannot be sent: {error}") from error

    def _failure(self, pipeline: Pipeline, number: int, error: pubsubd.PubSubError) -> CommandError:
        text = str(error)
        if self._last > 1:
            unknown = isinstance(error, pubsubd.PublishUnknown)
            fate = "may be published or not" if unknown else "was not published"
            first = self._what.format(number)
            text = (
                f"{first} {fate}: {error}; {self._count(pipeline)}; "
                f"to go on, publish again from {first.partition(' of ')[0]} on"
            )
        match error:
            case pubsubd.BrokerUnavailable() | pubsubd.PublishUnknown() if (
                self._timeout_s is not None and error.timeout_s is not None
            ):
                return self._late(text)
            case _:
                return command_error(error, text)

    def _late(self, text: str = "") -> CommandError:
        more = f": {text}" if text else ""
        return CommandError(f"--timeout of {self._timeout_s:g} s has passed{more}", TIMED_OUT)

    def _count(self, pipeline: Pipeline) -> str:
        accepted, unknown, refused = map(pipeline.count, Fate)
        last = self._what.format(self._last).partition(" of ")[0]
        rest = f"nothing sent after {last}" if self._last else "nothing sent"
        return f"{accepted} accepted, {unknown} unknown, {refused} not published, {rest}"


async def _within(timeout_s: float, pipeline: Pipeline, hurry: asyncio.Event) -> None:
    settling = asyncio.ensure_future(pipeline.settled())
    hurrying = asyncio.ensure_future(hurry.wait())
    either: list[asyncio.Future[Any]] = [settling, hurrying, pipeline.failed]
    try:
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancelled(settling, hurrying)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    running = {task for task in tasks if not task.done()}
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)

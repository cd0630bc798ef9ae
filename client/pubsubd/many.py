"""The work of one `publish_many`: publishes payloads as they come, and collects the receipts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Collection, Iterable
from typing import Any, Final

from pubsubd.codecs import Codec
from pubsubd.encoding import all_encoded, encoded
from pubsubd.errors import EncodeError
from pubsubd.failures import of_many
from pubsubd.pipeline import Fate, Pipeline
from pubsubd.publisher import Publisher
from pubsubd.receipts import Receipts
from pubsubd_protocol.errors import PubSubError

SLICE_S: Final = 0.005
"""Seconds for which the input may hold the event loop, or one payload; then other tasks get a turn."""


class Many:
    """The messages of one call, all on one topic. It holds unanswered messages, bounded by the window, and receipts."""

    def __init__(
        self, publisher: Publisher, codec: Codec, topic: str, to: str | None, timeout_s: float
    ) -> None:
        self._codec = codec
        self._topic = topic
        self._to = to
        self._placed = Receipts()
        self._pipeline = Pipeline(publisher, timeout_s, self._placed)
        self._loop = asyncio.get_running_loop()
        self._taken = 0

    async def publish(self, payloads: Iterable[Any] | AsyncIterable[Any]) -> Receipts:
        """Publish all, and wait until all are accepted. Raises the first failure as soon as it is known.

        A collection is encoded before anything is published. An iterator is taken payload by payload. An error of the
        iterator is raised here, once the messages before it have an outcome.
        """
        together = [*payloads] if isinstance(payloads, Collection) else []
        raws = all_encoded(self._codec, self._topic, together)
        # Called even without payloads, to check topic and node before an iterator is touched.
        self._pipeline.put_together(self._topic, raws, self._to)
        self._taken = len(raws)
        broke = None if isinstance(payloads, Collection) else await self._fed(payloads)
        await self._pipeline.decided()
        if self._pipeline.first_failure is not None:
            raise self._failure(*self._pipeline.first_failure) from broke
        if broke is not None:
            raise broke
        return self._placed

    async def _fed(self, payloads: Iterable[Any] | AsyncIterable[Any]) -> BaseException | None:
        """Publish the input up to its end or to the first failure. Returns the exception of the input, or None."""
        # A task of its own, because the next payload may never come, and a failure must not wait for it.
        feeding = asyncio.create_task(self._feed(payloads), name="pubsubd publish_many")
        try:
            await asyncio.wait(
                [feeding, self._pipeline.failed], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if not feeding.done():
                feeding.cancel()
                await asyncio.wait([feeding])
        if feeding.cancelled():
            return None if self._pipeline.failed.done() else asyncio.CancelledError()
        return feeding.exception()

    async def _feed(self, payloads: Iterable[Any] | AsyncIterable[Any]) -> None:
        failed = self._pipeline.failed
        began = self._loop.time()
        if isinstance(payloads, AsyncIterable):
            async for payload in payloads:
                began = await self._take(payload, began)
                if failed.done():
                    return
        else:
            for payload in payloads:
                began = await self._take(payload, began)
                if failed.done():
                    return

    async def _take(self, payload: Any, began: float) -> float:
        """Publish one payload. Returns the time at which the present turn of the event loop began."""
        self._taken += 1
        try:
            raw = encoded(self._codec, self._topic, payload)
        except EncodeError as error:
            error.add_note(f"this is payload {self._taken}; the payloads before it are published")
            raise
        await self._pipeline.send(self._taken, self._topic, raw, self._to)
        if self._loop.time() - began < SLICE_S:
            return began
        await asyncio.sleep(0)
        return self._loop.time()

    def _failure(self, number: int, error: PubSubError) -> PubSubError:
        accepted, unknown, refused = map(self._pipeline.count, Fate)
        return of_many(
            error, number, accepted=accepted, failed=unknown + refused, taken=self._taken
        )

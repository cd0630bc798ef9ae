"""Pipelined publishing: many messages under way, and their outcomes as they come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from pubsubd.batching import BatchFailed, OutgoingBatch, Placed
from pubsubd.errors import PublishUnknown
from pubsubd.publisher import Publisher
from pubsubd.receipts import Receipts
from pubsubd_protocol.errors import PubSubError


class OpenClient(Protocol):
    """The part of an open client that a pipeline uses."""

    _publish_timeout_s: float

    @property
    def _publisher(self) -> Publisher: ...


class Fate(Enum):
    """Outcome of a message."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Pipeline:
    """Numbers messages, counts outcomes, and reports the first failure at once.

    `failed` is done as soon as a message was not accepted. The pipeline holds one record for each unanswered batch,
    and the window bounds those. `placed` gets the receipts, in order.
    """

    def __init__(
        self, publisher: Publisher, timeout_s: float, placed: Receipts | None = None
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.first_failure: tuple[int, PubSubError] | None = None
        """The number of the first message that was not accepted, and its error."""
        self._publisher = publisher
        self._timeout_s = timeout_s
        self._placed = placed
        self._fates: Counter[Fate] = Counter()
        self._unsettled = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._decided = asyncio.Event()
        self._decided.set()
        self._last: _Part | None = None

    @classmethod
    def of(cls, client: OpenClient) -> Pipeline:
        """A pipeline over the connection of an open client, with the client's time-out."""
        return cls(client._publisher, client._publish_timeout_s)

    async def send(self, number: int, topic: str, payload: bytes, to: str | None) -> None:
        """Publish a message; wait only while the window is full. Raises `InvalidTopic`, `MessageTooLarge`.

        `number` must be higher than the numbers before.
        """
        outbox = self._publisher.outbox
        if outbox.full:
            await self._publisher.room()
        sealed = outbox.sealed
        outgoing = self._publisher.accumulator.put(topic, payload, to, self._timeout_s)
        part = self._last
        at = outgoing.count - 1
        if part is None or part.outgoing is not outgoing or part.at + part.count != at:
            part = self._last = self._watch(outgoing, number, at)
        self._waits_for(part, 1)
        if outbox.sealed != sealed:
            self._publisher.pump()
            # One turn of the event loop for each batch, so that outcomes and received messages come in between.
            await asyncio.sleep(0)

    def put_together(self, topic: str, payloads: Sequence[bytes], to: str | None) -> None:
        """Publish all payloads at once, numbered from 1, even if the window is full. Raises like `send`."""
        number = 1
        for outgoing, at, count in self._publisher.accumulator.put_many(
            topic, payloads, to, self._timeout_s
        ):
            self._waits_for(self._watch(outgoing, number, at), count)
            number += count

    def count(self, fate: Fate) -> int:
        """The number of messages with this outcome."""
        return self._fates[fate]

    async def settled(self) -> None:
        """Wait until all messages have an outcome."""
        await self._settled.wait()

    async def decided(self) -> None:
        """Wait until all messages have an outcome, or one has failed."""
        await self._decided.wait()

    def _watch(self, outgoing: OutgoingBatch, number: int, at: int) -> _Part:
        part = _Part(self, outgoing, number, at)
        outgoing.watchers.append(part)
        return part

    def _waits_for(self, part: _Part, count: int) -> None:
        """Count `count` more messages of a batch that has no outcome yet."""
        part.count += count
        part.outgoing.watched += count
        self._unsettled += count
        self._settled.clear()
        if not self.failed.done():
            self._decided.clear()

    def ended(self, part: _Part) -> None:
        """Count the outcome of a batch. Called by its part."""
        outcome = part.outgoing.outcome
        assert outcome is not None
        match outcome:
            case Placed():
                fate = Fate.ACCEPTED
                if self._placed is not None:
                    first = outcome.first + part.at
                    self._placed.append(outcome.node, outcome.epoch, first, part.count)
            case BatchFailed():
                error = outcome.error()
                fate = Fate.UNKNOWN if isinstance(error, PublishUnknown) else Fate.REFUSED
                if self.first_failure is None or part.first < self.first_failure[0]:
                    self.first_failure = part.first, error
                if not self.failed.done():
                    self.failed.set_result(None)
                self._decided.set()
        self._fates[fate] += part.count
        self._unsettled -= part.count
        if not self._unsettled:
            self._settled.set()
            self._decided.set()


class _Part:
    """Messages of a pipeline that follow one another in one batch. It watches that batch, like a future."""

    __slots__ = ("at", "count", "first", "outgoing", "pipeline")

    def __init__(self, pipeline: Pipeline, outgoing: OutgoingBatch, first: int, at: int) -> None:
        self.pipeline = pipeline
        self.outgoing = outgoing
        self.first = first
        """The number of the part's first message in the pipeline."""
        self.at = at
        """The place of that message in the batch."""
        self.count = 0

    def done(self) -> bool:
        return False

    def set_result(self, result: None, /) -> None:
        self.pipeline.ended(self)

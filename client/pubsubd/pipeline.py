"""Messages that are sent without end, and their outcomes as they come."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

from pubsubd.batching import Failed, Outgoing, Placed
from pubsubd.errors import PublishUnknown
from pubsubd_protocol.errors import PubSubError

if TYPE_CHECKING:
    from pubsubd.client import Client
    from pubsubd.publisher import Publisher


class Fate(Enum):
    """What became of a message."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Pipeline:
    """Numbers what it sends, counts the outcomes, and tells of the first failure at once.

    `failed` is done when something was not accepted, also while no further message comes. It holds as many
    records as there are unanswered batches, which the window bounds.
    """

    def __init__(self, publisher: Publisher, timeout_s: float) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.first_failure: tuple[int, PubSubError] | None = None
        """The number of the first message that was not accepted, and why."""
        self._publisher = publisher
        self._timeout_s = timeout_s
        self._fates: Counter[Fate] = Counter()
        self._unsettled = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._last: _Part | None = None

    @classmethod
    def of(cls, client: Client) -> Pipeline:
        """One over the connection of an opened client, with its time-out."""
        return cls(client._publisher, client._publish_timeout_s)

    async def send(self, number: int, topic: str, payload: bytes, to: str | None) -> None:
        """Returns at once while the window has room. Numbers rise. Raises `InvalidTopic`, `MessageTooLarge`."""
        outbox = self._publisher.outbox
        if outbox.full:
            await self._publisher.room()
        sealed = outbox.sealed
        outgoing = self._publisher.put(topic, payload, to, self._timeout_s)
        part = self._last
        if part is None or part.outgoing is not outgoing:
            part = self._last = _Part(self, outgoing, number)
            outgoing.watchers.append(part)
        part.count += 1
        outgoing.watched += 1
        self._unsettled += 1
        self._settled.clear()
        if outbox.sealed != sealed:
            self._publisher.pump()
            # One turn for each batch: outcomes and what is read come in between.
            await asyncio.sleep(0)

    def count(self, fate: Fate) -> int:
        """How many messages have had this outcome."""
        return self._fates[fate]

    async def settled(self) -> None:
        """Returns when all that was sent has an outcome."""
        await self._settled.wait()

    def ended(self, part: _Part) -> None:
        """A batch has its outcome. Called by its part."""
        outcome = part.outgoing.outcome
        assert outcome is not None
        match outcome:
            case Placed():
                fate = Fate.ACCEPTED
            case Failed():
                error = outcome.error()
                fate = Fate.UNKNOWN if isinstance(error, PublishUnknown) else Fate.REFUSED
                if self.first_failure is None or part.first < self.first_failure[0]:
                    self.first_failure = part.first, error
                if not self.failed.done():
                    self.failed.set_result(None)
        self._fates[fate] += part.count
        self._unsettled -= part.count
        if not self._unsettled:
            self._settled.set()


class _Part:
    """The messages of a pipeline in one batch; watches that batch, as a future would."""

    __slots__ = ("count", "first", "outgoing", "pipeline")

    def __init__(self, pipeline: Pipeline, outgoing: Outgoing, first: int) -> None:
        self.pipeline = pipeline
        self.outgoing = outgoing
        self.first = first
        self.count = 0

    def done(self) -> bool:
        return False

    def set_result(self, result: None, /) -> None:
        self.pipeline.ended(self)

"""Intake of publishes: validates each batch, and places it in the node's stream or rejects it with a reason."""

from __future__ import annotations

from collections.abc import Callable

from pubsubd_broker.core.access.permissions import Rights
from pubsubd_broker.core.access.validation import rejection_of
from pubsubd_broker.core.limits import Limits, Now
from pubsubd_broker.core.log.pacing import Appender
from pubsubd_broker.core.streams.publishers import PublishAnswer, PublisherRecord, Publishers
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.positions import Epoch


class Intake:
    """Accepts batches until the node stops or its journal fails."""

    __slots__ = (
        "_knows",
        "_limits",
        "_publishers",
        "_stream",
        "closed",
        "draining",
        "epoch",
        "failure",
    )

    def __init__(
        self,
        epoch: Epoch,
        stream: Stream,
        publishers: Publishers,
        limits: Limits,
        knows: Callable[[str], bool],
    ) -> None:
        """`epoch`: of this life. `knows`: whether this node knows a node of that name, to which a batch may be directed."""
        self.epoch = epoch
        self._stream = stream
        self._publishers = publishers
        self._limits = limits
        self._knows = knows
        self.draining = False
        """Whether the node stops."""
        self.failure: str | None = None
        """The reason for which the node accepts no more, if its journal has failed."""
        self.closed: tuple[str, str] | None = None
        """Code and detail with which every publisher is refused; None while the intake is open."""

    def drain(self) -> None:
        """Accepts no more: the node stops."""
        self.draining = True
        # A refusal, not a rejection: the publisher tries the batch again with the next life.
        self.closed = "draining", f"{self._stream.node} is stopping"

    def fail(self, reason: str) -> str:
        """Accepts no more: the journal has failed. Returns the sentence for publishers."""
        self.failure = f"the journal failed: {reason}"
        if not self.draining:
            self.closed = "journal_failed", self.failure
        return self.failure

    @property
    def settled(self) -> bool:
        """Whether readers can see every placed batch, or never will."""
        return self._stream.settled or self.failure is not None

    def connect(self, publisher_id: bytes, spoke_to: bytes | None, user: str) -> PublisherRecord:
        """The record of a publisher that connects. `spoke_to`: the epoch of the life that answered the publisher last."""
        return self._publishers.connect(
            publisher_id,
            same_life=spoke_to == self.epoch,
            other_life=spoke_to not in (None, self.epoch),
            user=user,
        )

    def disconnect(self, publisher_id: bytes, appender: Appender) -> None:
        """The connection `appender` of a publisher is gone."""
        self._stream.forget(appender)
        self._publishers.disconnect(publisher_id)

    def publish(
        self,
        batch: Batch,
        publisher: PublisherRecord,
        publisher_id: bytes,
        rights: Rights,
        now: Now,
        appender: Appender,
    ) -> PublishAnswer | None:
        """Answers one batch of a publisher. None: the batch has to wait, and `appender` retries.

        Raises `ProtocolError` for a batch that contradicts itself, or an earlier answer to its publisher id.
        """
        rejection = rejection_of(batch, self._limits, rights, self._stream.node, self._knows)
        return self._stream.publish(
            batch, publisher, publisher_id, now, appender, rejection=rejection
        )

    @property
    def waits_for_disk(self) -> bool:
        """Whether a batch may have to wait for the disk."""
        return self._stream.durability is not None and self.failure is None

    def hold(self, appender: Appender) -> None:
        """Has `appender` retry when the disk is done with its present work."""
        if self._stream.durability is not None:
            self._stream.durability.hold(appender)

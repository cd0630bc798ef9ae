"""The messages of one `publish_many` of a blocking client: their receipts, or the first failure. Pure."""

from __future__ import annotations

from collections import deque

from pubsubd.batching import BatchFailed, OutgoingBatch, Placed
from pubsubd.errors import PublishUnknown
from pubsubd.failures import of_many
from pubsubd.outbox import Outbox
from pubsubd.receipts import Receipts
from pubsubd_protocol.errors import PubSubError

BROKEN_OFF = "the handler of a signal raised in the middle of a call of this client"

Together = tuple[OutgoingBatch, int, int]
"""Messages of one batch: the batch, the number of the first in it, their count."""


class SharedMany:
    """The messages of one call: those that are unanswered, in order, and the receipts of the others."""

    def __init__(self, outbox: Outbox) -> None:
        self.receipts = Receipts()
        self.taken = 0
        self.failure: PubSubError | None = None
        self._outbox = outbox
        self._runs: deque[Together] = deque()

    def add(self, runs: list[Together]) -> None:
        for run in runs:
            self.taken += run[2]
            self._runs.append(run)

    def settle(self, outbox: Outbox) -> None:
        """Collect the receipts of the first messages, up to one that is unanswered or failed."""
        while self._runs and self.failure is None:
            outgoing, at, count = self._runs[0]
            outcome = outgoing.outcome
            if isinstance(outcome, Placed):
                self.receipts.append(outcome.node, outcome.epoch, outcome.first + at, count)
                self._runs.popleft()
            elif self.failing(outbox):
                self.failure = self._failed(outbox)
            else:
                return

    def failing(self, outbox: Outbox) -> bool:
        """Whether a message is known not to be accepted. `outbox`: the publisher's present one."""
        return outbox is not self._outbox or any(
            isinstance(outgoing.outcome, BatchFailed) for outgoing, _, _ in self._runs
        )

    def decided(self, outbox: Outbox) -> bool:
        """Whether all are accepted, or one is known to have failed."""
        self.settle(outbox)
        return not self._runs or self.failure is not None

    def _failed(self, outbox: Outbox) -> PubSubError:
        number, accepted, failed = len(self.receipts) + 1, len(self.receipts), 0
        first: tuple[int, PubSubError] | None = None
        for outgoing, _, count in self._runs:
            outcome = outgoing.outcome
            if isinstance(outcome, Placed):
                accepted += count
            elif isinstance(outcome, BatchFailed) or outbox is not self._outbox:
                failed += count
                if first is None:
                    error = (
                        outcome.error()
                        if isinstance(outcome, BatchFailed)
                        else PublishUnknown(BROKEN_OFF)
                    )
                    first = number, error
            number += count
        assert first is not None
        return of_many(first[1], first[0], accepted=accepted, failed=failed, taken=self.taken)

"""Failures of messages whose outcome no caller awaits: they wait for the next `send`, `flush` or `close`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pubsubd.batching import BatchFailed, OutgoingBatch
from pubsubd.errors import BrokerUnavailable, PublishRejected, PublishUnknown
from pubsubd_protocol.errors import PubSubError


class Failures:
    """The first failure, and the number of messages that failed, until a caller takes them."""

    __slots__ = ("_count", "first")

    def __init__(self) -> None:
        self.first: BatchFailed | None = None
        self._count = 0

    def note(self, outgoing: OutgoingBatch) -> None:
        """Count the messages of a batch that has its outcome."""
        failed = unwatched_failure(outgoing)
        if failed is not None:
            self.first = self.first or failed
            self._count += outgoing.count - outgoing.watched

    def note_unknown(self, failed: BatchFailed) -> None:
        """Note a failure of messages whose number is not known, at least one."""
        self.first = self.first or failed
        self._count = max(1, self._count)

    def take(self) -> PubSubError | None:
        """The error for a caller, who thereby knows of all failures so far."""
        failure, count = self.first, self._count
        self.first, self._count = None, 0
        return None if failure is None else _counting(failure, count)


def failure_of(batches: Iterable[OutgoingBatch]) -> PubSubError | None:
    """The first failure in these batches, as `Failures` would give it."""
    failures = Failures()
    for outgoing in batches:
        failures.note(outgoing)
    return failures.take()


def of_many(
    error: PubSubError, number: int, *, accepted: int, failed: int, taken: int
) -> PubSubError:
    """`error` of payload `number`, the first that failed, with the figures of its whole `publish_many`."""
    if isinstance(error, (BrokerUnavailable, PublishRejected, PublishUnknown)):
        error.failed = failed
    error.add_note(f"payload {number} is the first that failed; {accepted} of {taken} are accepted")
    return error


def unwatched_failure(outgoing: OutgoingBatch) -> BatchFailed | None:
    """The failure of a batch, if it has messages whose outcome no caller awaits."""
    outcome = outgoing.outcome
    if isinstance(outcome, BatchFailed) and outgoing.count > outgoing.watched:
        return outcome
    return None


def _counting(failure: BatchFailed, failed: int) -> PubSubError:
    error = failure.error()
    if isinstance(error, (BrokerUnavailable, PublishRejected, PublishUnknown)):
        error.failed = failed
    error.add_note(f"{failed} of the messages that were sent failed; this is the first reason")
    return error

"""Observer of a node's decisions: for a simulation that compares them with a model, and for tests that count."""

from __future__ import annotations

from collections.abc import Collection

from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.links.peer_recovery import RecoveryEnd
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import Claim, Expired, Verdict
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Position, StreamView


class Observer:
    """Hears of each decision when the node makes it. The methods do nothing: override those of interest.

    An observer never changes the node. A broker runs without an observer.
    """

    def peers_answered(self, recovered: Recovered | None, ends: Collection[RecoveryEnd]) -> None:
        """The node has chosen the history that its stream goes on with, from those of the peers behind `ends`."""

    def stream_began(self, stream: Stream, recovered: Recovered | None) -> None:
        """The node's own stream is ready for its first publish. `recovered`: the history that it goes on with."""

    def published(self, entry: Entry) -> None:
        """The node accepted a batch: the newest entry of its own stream."""

    def consumer_attached(self, claim: Claim, registered: Position | None, answer: Verdict) -> None:
        """A consumer presented `claim`. `registered`: the cursor that the node kept for it until then."""

    def consumer_overrun(self, expired: Expired) -> None:
        """The cursor of a consumer expired while its link was up."""

    def registration_expired(self, producer: str, view: StreamView) -> None:
        """The node's own cursor in `producer`'s stream expired. Its replica gets the gap marker after this."""

    def producer_met(self, producer: str) -> None:
        """The node has attached to `producer` for the first time in this life."""

"""Observer of a node: a simulation that compares it with a model, or a test that counts, hears its decisions here."""

from __future__ import annotations

from collections.abc import Collection

from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.links.peer_recovery import RecoveryEnd
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import Answer, Claim, Expired
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Position, StreamView


class Observer:
    """Hears what a node does, in the moment it does it. Every method does nothing: override what is of interest.

    An observer only looks. A broker runs without one.
    """

    def peers_answered(self, recovered: Recovered | None, ends: Collection[RecoveryEnd]) -> None:
        """The node has chosen what its stream goes on with, of what the peers behind `ends` hold."""

    def stream_began(self, stream: Stream, recovered: Recovered | None) -> None:
        """The node's own stream is ready for its first publish. `recovered`: what it goes on with."""

    def published(self, entry: Entry) -> None:
        """A batch was accepted: it is the newest entry of the node's own stream."""

    def consumer_attached(self, claim: Claim, registered: Position | None, answer: Answer) -> None:
        """A consumer presented `claim`. `registered`: the cursor that the node kept for it until then."""

    def consumer_overrun(self, expired: Expired) -> None:
        """The cursor of a consumer expired while its link was up."""

    def registration_expired(self, producer: str, view: StreamView) -> None:
        """The node's own cursor in `producer`'s stream expired. Its replica gets the gap marker after this."""

    def producer_met(self, producer: str) -> None:
        """The node has attached to `producer` for the first time in this life."""

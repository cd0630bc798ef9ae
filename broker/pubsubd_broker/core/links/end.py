"""An end: the part of a connection that knows what the frames mean, once both sides have greeted."""

from __future__ import annotations

from typing import Protocol

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.frames import Frame, Heartbeat


class End(Protocol):
    """One of a publisher, a session, a command, a consumer, a producer, or a peer that is asked for a stream."""

    @property
    def role(self) -> str: ...

    @property
    def settled(self) -> bool:
        """Whether it has said, or been answered, what it is there for: until then a deadline runs."""

    @property
    def longest_frame(self) -> int:
        """Bytes of the longest frame that may come in, without its prefix."""

    def received(self, frame: Frame, now: Now) -> bool:
        """Takes one frame. False if it has to wait: then it is brought again when `Connection.retry` is called.

        Raises `ProtocolError` if it may not come now.
        """

    def pull(self, out: Outgoing, now: Now) -> bool:
        """Writes what there is, up to the budget. Returns whether there is more."""

    @property
    def beats(self) -> bool:
        """Whether the other end is known to send heartbeats: only then its silence means something."""

    def heartbeat(self) -> Heartbeat | None:
        """The sign of life of a silent link; None where none is needed."""

    def tick(self, now: Now) -> None:
        """Time has passed."""

    @property
    def has_last_words(self) -> bool:
        """Whether the other end, after its own last word, still waits for `farewell`."""

    def farewell(self, now: Now) -> None:
        """Sends the last words: this node, or the other end, is about to go."""

    def lost(self, now: Now) -> None:
        """The connection is gone."""

"""Parts of a connection, as it sees them: the handshake, then the end that knows what its frames mean; and its side."""

from __future__ import annotations

from typing import Final, Protocol

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.frames import Frame, Heartbeat, Refused

ALIVE: Final = Heartbeat()
"""The sign of life of an end that has nothing else to say."""


class LinkEnd(Protocol):
    """For a publisher, a session, a command, a consumer, a producer, or a peer that is asked for a stream."""

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


class Handshake(Protocol):
    """The first frames of a connection: who the other end is, and what it is there for."""

    @property
    def trusted(self) -> bool:
        """Whether the other end has shown who it is, as far as the settings ask for that."""

    def received(self, frame: Frame) -> LinkEnd | None:
        """Takes one frame. Returns the end of the connection with the last frame of the handshake.

        Raises `ConnectionRefused` if the other end is turned away, `ProtocolError` for a frame out of place.
        """


class Side(Protocol):
    """The opener of the connection, the other end or this node. It hears how the connection fares."""

    def failed(self, error: str) -> None:
        """The connection ends, or never came to be a link, because of `error`."""

    def refused(self, refused: Refused, *, trusted: bool) -> None:
        """The other end turns this node away. `trusted`: it has shown who it is."""

    def ended(self, now: Now, chance: float, *, greeted: bool, told: bool) -> None:
        """The connection is gone. Called once. `greeted`: it had an end. `told`: the cause was told before."""

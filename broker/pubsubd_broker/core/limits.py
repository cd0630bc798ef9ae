"""Bounds of a node, and a reading of the clocks. Durations in nanoseconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from pubsubd_protocol.columns import MAX_BATCH_MESSAGES
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.topics import MAX_PATTERNS, MAX_TOPIC_BYTES

SECOND_NS: Final = 1_000_000_000
MS_NS: Final = 1_000_000

MAX_TURNED_AWAY: Final = 64
"""Connections beyond the limit that are told why they are refused. Further ones are closed without a word."""

PUBLISH_WINDOW: Final = 128
"""Unanswered batches that a publisher may have. The table remembers as many answers of each publisher."""

FRAMES_AT_ONCE: Final = 2 * PUBLISH_WINDOW
"""Frames that one connection may have handled in its turn; a costly frame ends the turn at once."""

MAX_FETCHES: Final = 4
"""Fetches under way at once on a link. Further ones wait their turn."""

FETCH_BYTES: Final = 256 * 1024
"""The most that one fetch asks for and one pull writes, or a single entry that is larger."""

MAX_OUTBOX_BYTES: Final = 256 * 1024
"""Unsent answers at which the broker stops reading from a connection."""

HANDSHAKE_BYTES: Final = 64 * 1024
"""The longest frame before the end of the handshake."""

ACK_DELAY_NS: Final = 50_000_000
ACK_MESSAGES: Final = 1024
"""A consumer acknowledges after this time or this number of messages: the earlier of both."""

PLACES_NS: Final = 250_000_000
"""The shortest time between two reports of a consumer on its named sessions in the streams of third nodes."""

SETTLE_NS: Final = 7 * SECOND_NS // 10
"""The time after which a session is told of a position that no message told it. Sooner if its log moves on fast."""

TICK_NS: Final = SECOND_NS // 4
"""The longest time between two looks of a connection at the clock. Together with `SETTLE_NS` less than a second."""

LAG_WARNING_SHARE: Final = 0.4
LAG_WARNING_EVERY_NS: Final = 60 * SECOND_NS
"""The broker warns of a consumer that lags by this share of the ring, at most once in this time."""


class Now(NamedTuple):
    """A reading of the clocks, taken by the shell."""

    mono_ns: int
    """Monotonic time. Every rule goes by this clock."""
    wall_us: int
    """Time since 1970. Printed for people; no rule reads it."""


ITEM_OVERHEAD: Final = 512
"""Memory of an item of a log beside its frame: objects, slots, the head's columns. Counted, so that bounds are real."""

ENTRY_HEAD_BYTES: Final = 256
"""The most by which the frame of an entry is longer than that of its publish."""


CLIENT_PATIENCE: Final = 5
"""A client may be silent for this many times a peer's timeout: an application may compute for a while, a broker never."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that operators can set. docs/bounds.md tells what happens at each."""

    connections: int = 4096
    """Accepted connections, clients and peers together."""
    connections_per_uid: int = 2048
    connections_per_address: int = 256
    handshake_ns: int = 5 * SECOND_NS
    """Time for a connection to greet and to state its role."""
    receive_bytes: int = 256 * 2**20
    """Memory of large frames that are arriving, beyond the usual buffers of their connections."""
    unsent_bytes: int = 256 * 2**20
    """Memory of large entries that the sockets of readers have not taken."""
    fetched_bytes: int = 256 * 2**20
    """Memory of messages fetched from producers that sessions have not read."""
    batch_messages: int = MAX_BATCH_MESSAGES
    batch_topics: int = 1024
    topic_bytes: int = MAX_TOPIC_BYTES
    patterns: int = MAX_PATTERNS
    publishers: int = 1024
    """Publishers that are away and whose answers the table remembers."""
    sessions: int = 2048
    """Connected sessions."""
    named_sessions: int = MAX_NAMED_SESSIONS
    commands: int = 64
    """Connected commands, such as `pubsubd status`."""
    consumers: int = 1024
    """Nodes in the cursor registry."""
    producers: int = 1000
    """Known streams of other nodes. A node that comes back under a new name counts as a new one."""


DEFAULT_LIMITS: Final = Limits()

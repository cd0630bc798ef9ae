"""Every bound that a node keeps, and one reading of the clocks. Durations in nanoseconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from pubsubd_protocol.entries import MAX_BATCH_MESSAGES
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.topics import MAX_PATTERNS, MAX_TOPIC_BYTES

SECOND_NS: Final = 1_000_000_000
MS_NS: Final = 1_000_000

MAX_TURNED_AWAY: Final = 64
"""Further ones that are heard, so that they can be told why they are refused; beyond that they are just closed."""

PUBLISH_WINDOW: Final = 128
"""Batches that a publisher may have unanswered; the table remembers as many answers of each."""

FRAMES_AT_ONCE: Final = 2 * PUBLISH_WINDOW
"""Of what one connection has said so many frames are taken at once, or one that may cost much; then it is others' turn."""

MAX_FETCHES: Final = 4
"""Fetches under way at once on a link; further ones wait their turn."""

FETCH_BYTES: Final = 256 * 1024
"""What one fetch asks for, and what one pull writes at the most (or one entry, if it is larger)."""

MAX_OUTBOX_BYTES: Final = 256 * 1024
"""Unsent answers at which a connection is no longer read from."""

HANDSHAKE_BYTES: Final = 64 * 1024
"""The longest frame before the greeting is over."""

ACK_DELAY_NS: Final = 50_000_000
ACK_MESSAGES: Final = 1024
"""A consumer acknowledges after this time or this many messages, whichever comes first."""

PLACES_NS: Final = 250_000_000
"""A consumer tells where its named sessions stand in the streams of third nodes no sooner than after this time."""

SETTLE_NS: Final = 7 * SECOND_NS // 10
"""A session is told how far it has come where nothing was for it after this time, or sooner if its log moves on fast."""

TICK_NS: Final = SECOND_NS // 4
"""How often each connection looks at the time at least: with `SETTLE_NS` that makes less than a second."""

LAG_WARNING_SHARE: Final = 0.4
LAG_WARNING_EVERY_NS: Final = 60 * SECOND_NS
"""A consumer that lags by this share of the ring is warned of, at most once in this time."""


class Now(NamedTuple):
    """One reading of the clocks, taken by the shell."""

    mono_ns: int
    """Monotonic: every rule goes by it."""
    wall_us: int
    """Since 1970: printed for people, read by no rule."""


ITEM_OVERHEAD: Final = 512
"""What an item of a log costs beside its frame: objects, slots, the head's columns. Counted, so that bounds are real."""

ENTRY_HEAD_BYTES: Final = 256
"""By how much an entry's frame is longer than the publish that it came from, at the most."""


CLIENT_PATIENCE: Final = 5
"""How much longer than a peer a client may be silent: an application may compute for a while, a broker never does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of each there may be. What happens at each is in docs/security.md."""

    connections: int = 4096
    """That came in, clients and peers together."""
    connections_per_uid: int = 2048
    connections_per_address: int = 256
    handshake_ns: int = 5 * SECOND_NS
    """How long a connection may take to greet, and to say what it wants."""
    receive_bytes: int = 256 * 2**20
    """What large frames that are coming in take, beyond the usual buffers of their connections."""
    unsent_bytes: int = 256 * 2**20
    """What readers keep of large entries that their sockets have not taken."""
    fetched_bytes: int = 256 * 2**20
    """What was fetched from producers for sessions that have not read it."""
    batch_messages: int = MAX_BATCH_MESSAGES
    batch_topics: int = 1024
    topic_bytes: int = MAX_TOPIC_BYTES
    patterns: int = MAX_PATTERNS
    publishers: int = 1024
    """That the table of accepted batches remembers, those that are connected not counted."""
    sessions: int = 2048
    """That are connected."""
    named_sessions: int = MAX_NAMED_SESSIONS
    commands: int = 64
    """That are connected, as `pubsubd status` is."""
    consumers: int = 1024
    """Nodes in the cursor registry."""
    producers: int = 1000
    """Streams of other nodes that are known; a node that comes back under a new name is a new one."""


DEFAULT_LIMITS: Final = Limits()

"""The memory of a broker when every bound is reached at once. Pure: settings in, bytes by part out.

Parts bounded in bytes count with their bound, parts bounded in number with the most that one takes. The figures for
one are measured (tracemalloc, CPython 3.11, 64 bits) and rounded up; some are estimates and say so. A test brings a
broker to all of its bounds and compares the sum. The kernel's socket buffers and the program itself are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pubsubd_broker.core.journal.journal import MAX_BACKLOG_BYTES
from pubsubd_broker.core.limits import (
    FETCH_BYTES,
    HANDSHAKE_BYTES,
    MAX_FETCHES,
    MAX_OUTBOX_BYTES,
    MAX_TURNED_AWAY,
    PUBLISH_WINDOW,
)
from pubsubd_broker.core.links.send_budget import LARGE_BYTES
from pubsubd_broker.core.log.interest import MOST_PATTERNS, REMEMBERED_TOPICS
from pubsubd_broker.core.observe.notices import MAX_CAUSES, MAX_NOTICES
from pubsubd_broker.core.status import SHOWN_PATTERNS
from pubsubd_broker.http.server import MAX_HTTP_TURNED_AWAY as HTTP_TURNED_AWAY
from pubsubd_broker.settings.values import Settings
from pubsubd_broker.sockets.link import HIGH_WATER_BYTES
from pubsubd_broker.sockets.listener import MAX_OPENING
from pubsubd_protocol.entries import MAX_ENTRY_OVERHEAD
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_PLACES, MAX_STREAMS
from pubsubd_protocol.framing import BUFFER_BYTES

_CONNECTION: Final = 12 * 1024
"""5.3 KiB of objects in the core, the first buffer included. The rest, link and transport, is an estimate."""

_TLS: Final = 512 * 1024
"""TLS memory for a connection: buffers of 256 KiB and its state. An estimate: no test brings TLS to its bounds."""

_SESSION: Final = 2048
_READING: Final = 1536
"""A session's place in one stream."""

_INDEXED: Final = 1536
"""A pattern in the index of a log: 1,366 bytes if it has 127 segments, and its wildcards where no other has them."""

_POSITION: Final = 512
"""A position that a session presents, with its acknowledgement there."""

_TEXT: Final = 160
"""Cost of a short text in a table beside its bytes: the object, its hash, its place, twice if the table grows."""

_ANSWER: Final = 1280
"""The answer to a batch: a rejection whose sentence has the longest topic in it. A receipt takes 275 bytes."""

_PUBLISHER: Final = 512
_CONSUMER: Final = 512
_NAMED_CURSOR: Final = 768
"""A cursor whose name is up to 128 characters of up to 4 bytes."""
_PLACE: Final = 1024
"""The same, with the name of a stream."""

_SMALL_FRAMES: Final = 3
"""Factor between the memory of many small answers and the bytes that are counted: each is an object of its own.

An estimate.
"""

_HTTP: Final = 96 * 1024
"""A task, a reader with a full buffer, the parser's copy of it. An estimate."""

_ESCAPED: Final = 3
"""Factor by which a byte of text grows in JSON."""

_NOTICE: Final = 4096
"""An estimate: an event, its fields, a sentence with figures."""

_SHARE_OF_ALLOCATOR: Final = 0.25
"""Share of memory that lies between objects and is not given back. An estimate."""


def memory_at_bounds(settings: Settings) -> Mapping[str, int]:
    """Bytes by part, with as many producers as are configured: each further one takes as much as a replica."""
    core, limits = settings.core, settings.limits
    connections = limits.connections
    sessions = min(limits.sessions, connections)
    kept_sessions = sessions + limits.named_sessions
    consumers = min(limits.consumers, connections)
    producers = len(settings.peers)
    streams = 1 + producers
    held = connections + MAX_TURNED_AWAY + producers
    longest_entry = core.max_frame + MAX_ENTRY_OVERHEAD
    interest = (
        REMEMBERED_TOPICS * (limits.topic_bytes + _TEXT + 8 * sessions)
        + min(MOST_PATTERNS, sessions * limits.patterns) * _INDEXED
    )
    report = _report_bytes(settings, kept_sessions, streams)

    # A reader that has stopped reading. Below high water it is given a pull, which ends with the entry that fills it,
    # and which the ring may have dropped since. Beside that it may leave answers to changes of its filter unread.
    reader = HIGH_WATER_BYTES + FETCH_BYTES + LARGE_BYTES + 2 * MAX_OUTBOX_BYTES
    # A publisher: a batch that is held for a reader, and answers that the publisher does not read.
    publisher = BUFFER_BYTES + (HIGH_WATER_BYTES + 2 * MAX_OUTBOX_BYTES) * _SMALL_FRAMES
    readers = min(connections, sessions + consumers)
    unsent = (
        connections * publisher
        if publisher > reader
        else readers * reader + (connections - readers) * publisher
    )
    registry = limits.consumers * (
        _CONSUMER + MAX_NAMED_SESSIONS * _NAMED_CURSOR + MAX_PLACES * _PLACE
    )
    publishers = limits.publishers + connections
    parts = {
        "ring": core.ring_bytes + interest,
        "replicas": producers * (core.replica_bytes + interest),
        "connections": held * _CONNECTION + MAX_TURNED_AWAY * 2 * HANDSHAKE_BYTES,
        "tls": (held + MAX_OPENING) * _TLS if settings.tls_cert is not None else 0,
        "receive buffers": (connections + producers) * BUFFER_BYTES,
        # And the batch that is taken at this moment: as a frame, as columns, as an entry.
        "large frames coming in": limits.receive_bytes + (producers + 2) * longest_entry,
        # And the newest entry, which is given to its reader before another one has ended.
        "large entries unsent": limits.unsent_bytes + core.max_frame,
        "unsent": unsent + limits.commands * 2 * report,
        "sessions": kept_sessions
        * (
            _SESSION
            + streams * _READING
            + MAX_STREAMS * _POSITION
            + limits.patterns * (2 * limits.topic_bytes + 2 * _TEXT)
        ),
        "filters' answers": kept_sessions * REMEMBERED_TOPICS * (limits.topic_bytes + _TEXT),
        # And the newest entry of each link, given to its readers before others are dropped.
        "fetched": min(
            limits.fetched_bytes + producers * MAX_FETCHES * max(FETCH_BYTES, longest_entry),
            sessions * producers * max(FETCH_BYTES, longest_entry),
        ),
        "publishers": publishers * (_PUBLISHER + PUBLISH_WINDOW * _ANSWER),
        "registry": registry,
        # Waiting records, the ones being written, and a checkpoint, whose largest part is the registry. A snapshot is
        # made when connections have ended, which take far more.
        "journal": 2 * (MAX_BACKLOG_BYTES + longest_entry) + registry
        if settings.journal is not None and settings.fsync != "snapshot"
        else 0,
        "http": (settings.http_max_connections + HTTP_TURNED_AWAY)
        * (_HTTP + 2 * settings.http_max_head)
        + settings.http_max_connections * 2 * report
        if settings.http is not None
        else 0,
        # The status being made: objects take more than their text. And the last answers of HTTP.
        "status": 8 * report + (4 * report if settings.http is not None else 0),
        "log": (MAX_NOTICES + MAX_CAUSES) * _NOTICE,
    }
    parts["allocator"] = int(sum(parts.values()) * _SHARE_OF_ALLOCATOR)
    return parts


def _report_bytes(settings: Settings, sessions: int, streams: int) -> int:
    """Bytes of the longest answer of `pubsubd status` and the HTTP server."""
    limits = settings.limits
    patterns = min(SHOWN_PATTERNS, limits.patterns)
    of_a_session = 1024 + patterns * _ESCAPED * limits.topic_bytes + streams * 256
    return 64 * 1024 + sessions * of_a_session + limits.consumers * 512 + streams * 2048

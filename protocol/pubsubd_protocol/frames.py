"""Every frame of the wire, as a closed union. `docs/protocol.md` says which end sends each, and when.

A frame is a msgpack array: its kind, then its fields in the order of the class below. A receiver
ignores further elements that it does not know. Fields with a default may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pubsubd_protocol.attach import Claim, Reason, Resume
from pubsubd_protocol.columns import MAX_BATCH_MESSAGES, MAX_BATCH_TOPICS
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.positions import Epoch, Lineage, Position, StreamView
from pubsubd_protocol.topics import EVERY_TOPIC, MAX_TOPIC_BYTES

MAGIC = "pubsubd"
VERSION = 1
"""The version of the wire that this code speaks. Up to now it is also the lowest version that this code speaks."""

DEFAULT_CLUSTER = "default"
"""The cluster of a node whose settings do not name one."""

ROLES = ("publisher", "session", "control", "peer")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a connection, from the end that opened it.

    `name`: a peer's node name; empty for a client. `sender_id`: a client's publisher id, or a broker's epoch.
    `spoke_to`: the broker life to which this client was connected before; None if to none. `cluster`: the peer's
    cluster. `nonce`: sent by a peer that knows its cluster's secret, for the proof.
    """

    magic: str
    lowest: int
    highest: int
    role: str
    name: str
    sender_id: bytes
    spoke_to: bytes | None = None
    cluster: str = DEFAULT_CLUSTER
    nonce: bytes | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """The answer to a peer's hello in a cluster with a secret: the producer's name, epoch and nonce."""

    node: str
    epoch: Epoch
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """Proof that the sender knows the cluster's secret; see `pubsubd_protocol.proof`. The consumer proves first."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to a hello. `epoch` is that of the node's own stream. Sizes are in bytes.

    - `window`: unanswered batches that a publisher may have at most.
    - `max_batch`: messages in a batch at most. `max_topics`: topics in a batch at most. `max_topic`: bytes of a topic.
    - `cluster`: the node's cluster.
    - `publish`: patterns of the topics on which this client may publish. The broker refuses a batch as a whole, so a
      client that fills one batch for several callers checks each topic first.
    - `heartbeat_ms`: the longest time for which the broker is silent towards a publisher or a session. 0: the broker
      sends no heartbeats.
    - `silent_ms`: after this time of silence the client counts the broker as gone.
    """

    version: int
    node: str
    epoch: Epoch
    max_message: int
    max_frame: int
    window: int
    max_batch: int = MAX_BATCH_MESSAGES
    cluster: str = DEFAULT_CLUSTER
    max_topics: int = MAX_BATCH_TOPICS
    max_topic: int = MAX_TOPIC_BYTES
    publish: tuple[str, ...] = (EVERY_TOPIC,)
    heartbeat_ms: int = 0
    silent_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The sender ends this connection, for the reason in `detail`. `code` is a constant word."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The batch `sequence` is accepted: its first message stands at `first` under `epoch`."""

    sequence: int
    epoch: Epoch
    first: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The batch `sequence` is not in the stream. Code "unknown": the broker cannot tell whether it is."""

    sequence: int
    code: str
    detail: str
    size: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Opens the session of this connection.

    - `positions`: the positions at which the session goes on; None for a new session.
    - `born`: the broker life in which the session was first opened.
    - `echo`: whether the session gets the messages of its own client.
    - `acknowledged`: for a named session, the positions up to which the application has processed messages. None:
      all before `positions`.
    - `id`: for a named session, the same over all of its connections. The broker thereby tells a session that is
      back from another session that takes the name.
    """

    patterns: tuple[str, ...]
    start: str
    positions: dict[str, Position] | None
    born: bytes | None
    name: str | None
    echo: bool
    acknowledged: dict[str, Position] | None = None
    id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The session is open, at these positions. `resumed`: whether the broker knew this named session.

    `lost`: as in `Health`.
    """

    positions: dict[str, Position]
    born: bytes
    resumed: bool
    lost: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetFilter:
    """Replaces the session's patterns."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilterSet:
    """The new patterns count from these positions on; in a stream that is not listed, from its first message on."""

    positions: dict[str, Position]


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """The session's position in a stream that is new to the session."""

    node: str
    position: Position


@dataclass(frozen=True, slots=True)
class Skip:
    """A range `first..next` without messages for this reader. The reader's position moves to `next`.

    `count` and `size`: of an entry in its place.
    """

    node: str
    epoch: Epoch
    first: int
    next: int

    @property
    def count(self) -> int:
        return 0

    @property
    def size(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class CursorExpired:
    """The reader's cursor expired at this very place; the reader goes on at `view.place(view.next)`.

    `view`: the producer's stream at the moment of the expiry, up to the place where the reader goes on.
    """

    node: str
    reason: Reason
    missed: int | None
    view: StreamView


@dataclass(frozen=True, slots=True)
class Ack:
    """The reader needs nothing of `node`'s stream before `position`.

    - `named`: from a peer, the positions of its named sessions that moved; None for a session that is gone.
    - `elsewhere`: from a peer, the positions of its named sessions in other streams.
    - `noticed`: from a session, whether its application took note that the history before this epoch is lost.
    - `loss`: from a session, the epoch of the view in the last such expiry of this stream of which it took note.
    """

    node: str
    position: Position
    named: dict[str, Position | None] = field(default_factory=dict)
    noticed: bool = False
    elsewhere: dict[str, dict[str, Position]] = field(default_factory=dict)
    loss: Epoch | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """All producers that the broker does not hear now, each with the milliseconds since the broker lost it."""

    lost: dict[str, int]


@dataclass(frozen=True, slots=True)
class Attach:
    """A consumer node asks for the stream, as `claim` says."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Attached:
    """The answer to `Attach`: an offset to resume at, or the reason for which the consumer's registration expired.

    - `registered`: the cursor that the producer kept for this node.
    - `named`: the positions of the node's named sessions in this stream.
    - `elsewhere`: the positions of those sessions in other streams, as the consumer reported them before.
    """

    view: StreamView
    answer: Resume | Reason
    registered: Position | None
    named: dict[str, Position] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, Position]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks for up to `budget` bytes from the place of `claim` on, for one session that is behind.

    `stream`: the asking node's own name, if it asks for its own stream from the other node's replica.
    """

    id: int
    claim: Claim
    budget: int
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a fetch; `count` frames (entries or skips) follow.

    `other_epochs`: for a node that asks for its own stream, earlier epochs of it that the history of `view` does not continue.
    """

    id: int
    view: StreamView
    answer: Resume | Reason
    count: int
    other_epochs: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life of a sender that has nothing else to send. A producer's heartbeat carries its stream's `next`."""

    next: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A question from the command line: `what` with an `argument`."""

    what: str
    argument: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a query, as JSON text."""

    json: str


Frame = (
    Hello
    | Challenge
    | Proof
    | Welcome
    | Refused
    | Batch
    | Receipt
    | Rejected
    | Subscribe
    | Subscribed
    | SetFilter
    | FilterSet
    | StreamPosition
    | Entry
    | Skip
    | CursorExpired
    | Ack
    | Health
    | Attach
    | Attached
    | Fetch
    | Fetched
    | Heartbeat
    | Query
    | Report
)

__all__ = ["Lineage", *(cls.__name__ for cls in Frame.__args__)]

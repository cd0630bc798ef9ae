"""Every frame of the wire, as a closed union. `docs/protocol.md` says who sends which, and when.

A frame is a msgpack array: its kind, then its fields in the order of the class below. A receiver
ignores elements beyond those it knows; fields with a default may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pubsubd_protocol.attach import Claim, Reason, Resume
from pubsubd_protocol.entries import MAX_BATCH_MESSAGES, MAX_BATCH_TOPICS, Batch, Entry
from pubsubd_protocol.positions import Epoch, Lineage, Position, StreamView
from pubsubd_protocol.topics import EVERY_TOPIC, MAX_TOPIC_BYTES

MAGIC = "pubsubd"
VERSION = 1
"""The version of the wire that this code speaks; the lowest one it speaks is the same, so far."""

DEFAULT_CLUSTER = "default"
"""The cluster of a node that was not told of any other."""

ROLES = ("publisher", "session", "control", "peer")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of whoever opened the connection.

    `name`: the node's for a peer, empty for a client. `life`: a client's publisher id, a broker's epoch.
    `spoke_to`: the broker life to which this client was connected last, if to any. `cluster`: to which a peer belongs.
    `nonce`: of a peer that can prove that it knows its cluster's secret.
    """

    magic: str
    lowest: int
    highest: int
    role: str
    name: str
    life: bytes
    spoke_to: bytes | None = None
    cluster: str = DEFAULT_CLUSTER
    nonce: bytes | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """The answer to a peer's hello where a secret has to be proved first: who asks, and the producer's nonce."""

    node: str
    life: Epoch
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """That the sender knows the cluster's secret: see `pubsubd_protocol.proof`. The consumer's comes first."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to a hello. `life` is the epoch of the node's own stream. Sizes in bytes.

    `window`: how many batches a publisher may have unanswered. `max_batch`: messages that a batch may have.
    `cluster`: the one to which the node belongs. `max_topics`: topics that a batch may have, `max_topic`: the
    length of each. `publish`: patterns of the topics on which this client may publish. A batch is refused as a
    whole, so whoever fills one for several callers has to know them. `heartbeat_ms`: the longest time that the broker
    is silent towards a publisher or a session, 0: it sends no heartbeats. `silent_ms`: a broker that is silent for
    this long does not answer.
    """

    version: int
    node: str
    life: Epoch
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
    """This connection ends here, and why. `code` is a constant word."""

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
    """The batch `sequence` is not in the stream. Code "unknown": nobody can say any more whether it is."""

    sequence: int
    code: str
    detail: str
    size: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Opens the session of this connection.

    `positions`: where to go on, None for a new session. `born`: the broker life in which the session
    was first opened. `echo`: whether it wants what its own client published. `acknowledged`: for a named
    session, how far it is done with what it received; None: with all before `positions`. `id`: of a named session,
    the same over all of its connections: it tells one that is back from another that takes the name.
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
    """The session stands, at these positions. `resumed`: a named session that the broker knew.

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
    """From these positions on the new patterns count; for a stream not named: from its first message."""

    positions: dict[str, Position]


@dataclass(frozen=True, slots=True)
class Told:
    """Where the session stands in a stream that is new to it."""

    node: str
    position: Position


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing in `first..next` is for this reader; its position moves to `next`."""

    node: str
    epoch: Epoch
    first: int
    next: int


@dataclass(frozen=True, slots=True)
class CursorExpired:
    """The reader's cursor expired at this very place; it goes on at `view.place(view.next)`.

    `view` is what the producer held when it found so, up to where the reader goes on.
    """

    node: str
    reason: Reason
    missed: int | None
    view: StreamView


@dataclass(frozen=True, slots=True)
class Ack:
    """The reader needs nothing of `node`'s stream before `position`.

    `named`: for a peer, the positions of its named sessions that moved, None for one that is gone.
    `noticed`: for a session, whether it has taken in that what was before this epoch is lost. `loss`: the epoch of the
    view with which it was told so of this stream the last time that it has taken that in. `elsewhere`: for a peer, the
    positions of its named sessions in other streams.
    """

    node: str
    position: Position
    named: dict[str, Position | None] = field(default_factory=dict)
    noticed: bool = False
    elsewhere: dict[str, dict[str, Position]] = field(default_factory=dict)
    loss: Epoch | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The producers that the broker does not hear now, all of them, and how many milliseconds ago it lost each."""

    lost: dict[str, int]


@dataclass(frozen=True, slots=True)
class Attach:
    """A consumer node asks for the stream from where `claim` says."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Attached:
    """The answer: either `resume`, or what the consumer's registration expired with.

    `registered`: the cursor that the producer kept for this node before. `named`: those of its named
    sessions. `elsewhere`: where those stood in other streams, as the consumer has told.
    """

    view: StreamView
    answer: Resume | Reason
    registered: Position | None
    named: dict[str, Position] = field(default_factory=dict)
    elsewhere: dict[str, dict[str, Position]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks for up to `budget` bytes from where `claim` says, for one session that is behind.

    `stream`: of the asking node's own stream, as the other one's replica holds it.
    """

    id: int
    claim: Claim
    budget: int
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a fetch; `count` frames (entries or skips) of it follow.

    `lives`: to a node that asks for its own stream, epochs that it had before, and that the history of `view` does not continue.
    """

    id: int
    view: StreamView
    answer: Resume | Reason
    count: int
    lives: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sign of life of a sender that has nothing else to say. A producer's carries its stream's `next`."""

    next: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A question of the command line: `what` with an `argument`."""

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
    | Told
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

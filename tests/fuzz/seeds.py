"""The first inputs of fuzzing: honest ones, and dishonest ones that other tests know."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final

from tests.fuzz import folders as journal_folders
from tests.fuzz.scripts import Flag, Op, Step, build
from tests.fuzz.targets.site import NONCE, SECRET
from tests.integration import hostile
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber
from tests.unit.protocol.samples import DIRECTED, EPOCH, ONE_TOPIC, SAMPLES, part
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.journal.checkpoint import decode_checkpoint, encode_checkpoint
from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_protocol.attach import At, Earliest, FromStart, Reason, Remembered, Resume
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import place_batch
from pubsubd_protocol.frames import (
    MAGIC,
    VERSION,
    Ack,
    Attach,
    Attached,
    Challenge,
    CursorExpired,
    Fetch,
    Fetched,
    Frame,
    Heartbeat,
    Hello,
    Proof,
    Query,
    Refused,
    SetFilter,
    Skip,
    Subscribe,
    Welcome,
)
from pubsubd_protocol.positions import Epoch, Position, StreamView
from pubsubd_protocol.proof import Exchange

_VECTORS: Final = Path(__file__).parents[1] / "vectors" / "frames.json"
_LONGEST: Final = 8 * 1024
"""A longer seed teaches nothing that a shorter one does not."""

_LIFE: Final = Epoch(b"B" * 16)
_EARLIER: Final = Epoch(b"A" * 16)
_VIEW: Final = StreamView(_LIFE, ((_EARLIER, 4),), 2, 10)


@cache
def frames() -> list[bytes]:
    """Frames, right and wrong, prefix included."""
    vectors = json.loads(_VECTORS.read_text())
    known = [bytes.fromhex(each["hex"]) for group in vectors.values() for each in group]
    samples = [encode(frame) for frame in (*SAMPLES.values(), ONE_TOPIC, DIRECTED, part())]
    dishonest = [
        wrong
        for group in (
            hostile.INSTEAD_OF_A_GREETING,
            hostile.AS_A_PUBLISHER,
            hostile.AS_A_SESSION,
            hostile.AS_A_PEER,
        )
        for name, wrong in group.items()
        if name
        != "a second greeting"  # Its bytes are random, and other seeds begin with a greeting.
    ]
    return _short(known + samples + dishonest)


@cache
def streams() -> list[bytes]:
    """Seeds of `framing`: a limit, three sizes, and frames."""
    whole = b"".join(encode(frame) for frame in SAMPLES.values())
    large = [encode(batch_of([("t", bytes(size))])) for size in (4_000, 5_000, 20_000)]
    found = [bytes((n % 5, 1, 30, 7)) + frame for n, frame in enumerate(frames())]
    found += [bytes((limit, 40, 202, 3)) + whole for limit in range(5)]
    found += [bytes((0, 255, 201, 210)) + whole + frame + whole for frame in large]
    return found


@cache
def scripts() -> list[bytes]:
    """Seeds of `handshake`: conversations of publishers, sessions, commands, consumers and producers."""
    flags = (Flag(0), Flag.TINY_RING | Flag.TINY_REPLICA, Flag.PACED | Flag.TINY_RING, Flag.JOURNAL)
    found = [build(flag, steps) for flag in flags for steps in _conversations()]
    found += [build(Flag.RECOVERS, steps) for steps in _peer_recoveries()]
    found += [build(Flag.SECRET, steps) for steps in _proofs()]
    for frame in frames():
        for op in (Op.CLIENT, Op.PEER):
            found.append(build(Flag(0), [Step(op), Step(Op.SEND, frame)]))
        found.append(build(Flag(0), [Step(Op.SEND, frame, 1)]))
    return found


@cache
def frames_of_strangers() -> list[bytes]:
    """Frames that may follow a greeting in `handshake`."""
    said = [
        *(frame for _, replies in _STRANGERS for frame in replies),
        *(_hello(role, name) for role, name in _ROLES),
    ]
    return [encode(frame) for frame in said] + frames()


@cache
def segments() -> list[bytes]:
    return [
        segment for folder in folders() for segment in journal_folders.parse(folder)[1].values()
    ]


@cache
def folders() -> list[bytes]:
    """Seeds of `recovery`: the segments of three lives of a node, whole, cut, and with a life missing."""
    disk = Disk(Fsync.ALWAYS)
    net = Net()
    net.start("node-a", disk=disk)
    lives: list[dict[int, bytes]] = []
    for life in range(3):
        if life:
            net.restart("node-a")
        _live(net, life)
        lives.append(dict(disk.segments))
    found = []
    for left in (*lives, {1: lives[0][1], **lives[2]}):
        found += [journal_folders.build(flags, left) for flags in (0, journal_folders.SEALED)]
        newest = max(left)
        torn = {**left, newest: left[newest][:-7]}
        found.append(journal_folders.build(0, torn))
    found.append(journal_folders.build(0, _without_a_life(lives[-1])))
    return found


@cache
def requests() -> list[bytes]:
    """Seeds of `admin`: the first byte draws the pieces in which the rest arrives."""
    asked = [
        f"{method} {path} HTTP/1.{minor}\r\nHost: localhost\r\n\r\n".encode()
        for method in ("GET", "HEAD", "POST")
        for path in ("/metrics", "/healthz", "/readyz", "/status.json?x=1", "/")
        for minor in (0, 1)
    ]
    openmetrics = (
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n"
    )
    body = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
    chunked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    # A fault that fuzzing found: the refusal had a body, and an answer to HEAD may have none.
    malformed = b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"
    long = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 17_000 + b"\r\n\r\n"
    closing = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    told = [
        *asked,
        openmetrics,
        body,
        chunked,
        malformed,
        long,
        closing,
        b"".join(asked[:3]),
        b"GET / HTTP/1.1\r\n",
    ]
    told += [wrong for wrong in hostile.INSTEAD_OF_A_GREETING.values() if len(wrong) < 2_000]
    return [bytes((n % 6,)) + each for n, each in enumerate(told)]


_ROLES: Final = (
    ("publisher", ""),
    ("session", ""),
    ("control", ""),
    ("peer", "node-b"),
    ("peer", "node-a"),
)


def _hello(role: str, name: str = "") -> Hello:
    return Hello(MAGIC, VERSION, VERSION, role, name, _LIFE)


def _mine(offset: int) -> Position:
    """A frame in the stream of the fuzzed node."""
    return Position(EPOCH, offset)


def _entries(first: int, following: int, node: str = "node-b", epoch: Epoch = _LIFE) -> list[Frame]:
    one = batch_of([("orders.created", b"x")], sequence=first)
    return [place_batch(one, node, epoch, n, 0, bytes(16)) for n in range(first, following)]


_TOPICS: Final = batch_of([(f"t.{n % 3}", bytes((n,))) for n in range(6)], sequence=2)
_PUBLISHES: Final = [
    batch_of([("orders.created", b"1")], sequence=1),
    _TOPICS,
    batch_of([("t", b"retry")], sequence=1, retry=True),
    batch_of([("t", b"to")], sequence=3, to="node-b"),
    batch_of([("t", b"long" * 100)], sequence=4),
]

_STRANGERS: Final[tuple[tuple[Hello, list[Frame]], ...]] = (
    (_hello("publisher"), [*_PUBLISHES]),
    (
        _hello("session"),
        [
            Subscribe(("orders.>", "t.*"), "earliest", None, None, "projector", False),
            Ack("node-a", _mine(0)),
            SetFilter((">",)),
            Ack("node-a", _mine(1), noticed=True),
        ],
    ),
    (
        _hello("session"),
        [
            Subscribe(
                (">",),
                "latest",
                {"node-a": _mine(0), "node-b": Position(_EARLIER, 3)},
                None,
                None,
                True,
            )
        ],
    ),
    (
        _hello("control"),
        [Query("status"), Query("drop_cursor", "node-b"), Query("cursors"), Query("?")],
    ),
    (
        _hello("peer", "node-b"),
        [
            Attach(FromStart()),
            Ack("node-a", _mine(0), {"projector": _mine(0), "gone": None}),
            Heartbeat(),
            Fetch(1, At(_mine(0)), 1_000),
            Fetch(2, Earliest(), 0),
            Fetch(3, Earliest(), 100, "node-b"),
        ],
    ),
    (_hello("peer", "node-c"), [Attach(Remembered(waiting=True)), Ack("node-a", _mine(0))]),
)

_WELCOME: Final = Welcome(VERSION, "node-b", _LIFE, 2**20, 2**20, 128)
_PRODUCER: Final[list[Frame]] = [
    _WELCOME,
    Attached(_VIEW, Resume(10), Position(_LIFE, 10), {"projector": Position(_LIFE, 5)}),
    *_entries(10, 14),
    Skip("node-b", _LIFE, 14, 20),
    Heartbeat(25),
    *_entries(20, 22),
    CursorExpired("node-b", Reason.OVERWRITTEN, 28, StreamView(_LIFE, (), 40, 50)),
    *_entries(50, 52),
]


def _conversations() -> list[list[Step]]:
    found = []
    for hello, said in _STRANGERS:
        op = Op.PEER if hello.role == "peer" else Op.CLIENT
        talk = b"".join(encode(frame) for frame in (hello, *said))
        found.append([Step(op), Step(Op.SEND, talk), Step(Op.WAIT, b"\1")])
        found.append(
            [Step(op), Step(Op.DRIBBLE, b"\x05" + talk), Step(Op.LEAVE), Step(Op.WAIT, b"\2")]
        )
        slowly = [Step(Op.SEND, encode(frame)) for frame in said]
        found.append([Step(op), Step(Op.SEND, encode(hello)), *slowly])
    answer = b"".join(map(encode, _PRODUCER))
    found.append([Step(Op.SEND, answer, 1), Step(Op.WAIT, b"\1"), Step(Op.WAIT, b"\4")])
    found.append([Step(Op.SEND, encode(frame), 1) for frame in _PRODUCER])
    liar = b"".join(map(encode, [*_PRODUCER[:3], *_entries(11, 14, "node-a")]))
    found.append([Step(Op.SEND, liar, 1), Step(Op.WAIT, b"\1")])
    refused = encode(Refused("name_in_use", "another node has this name"))
    found.append([Step(Op.SEND, refused, 1), Step(Op.WAIT, b"\2"), Step(Op.SEND, answer, 3)])
    first = b"".join(map(encode, _PRODUCER[:6]))
    all_clients = [Step(Op.SEND, first, 1)]
    for hello, said in _STRANGERS:
        all_clients.append(Step(Op.PEER if hello.role == "peer" else Op.CLIENT))
        all_clients.append(Step(Op.SEND, b"".join(encode(frame) for frame in (hello, *said))))
    found.append([*all_clients, Step(Op.WAIT, b"\3"), Step(Op.DEAF, b"", 3), Step(Op.WAIT, b"\5")])
    behind: list[Frame] = [
        Fetched(1, StreamView(_LIFE, ((_EARLIER, 4),), 2, 14), Resume(3), 7),
        *_entries(3, 4, epoch=_EARLIER),
        *_entries(4, 10),
    ]
    found.append(
        [*all_clients, Step(Op.SEND, b"".join(map(encode, behind)), 1), Step(Op.WAIT, b"\1")]
    )
    unseen: list[Frame] = [_WELCOME, Attached(_VIEW, Reason.UNSEEN, None), *_entries(10, 12)]
    found.append([Step(Op.SEND, b"".join(map(encode, unseen)), 1), Step(Op.WAIT, b"\1")])
    full = b"".join(encode(batch_of([("t", b"x")], sequence=n)) for n in range(30))
    reader = encode(_hello("peer", "node-b")) + encode(Attach(FromStart()))
    found.append(
        [
            *(Step(Op.PEER), Step(Op.SEND, reader), Step(Op.DEAF)),
            *(Step(Op.CLIENT), Step(Op.SEND, encode(_hello("publisher")) + full)),
            *(Step(Op.WAIT, b"\2"), Step(Op.HEARS, b"", 3), Step(Op.WAIT, b"\2")),
        ]
    )
    return found


def _peer_recoveries() -> list[list[Step]]:
    held = StreamView(_EARLIER, (), 3, 6)
    mine = _entries(3, 6, "node-a", _EARLIER)
    answer: list[Frame] = [
        _WELCOME,
        Fetched(0, held, Resume(3), 0),
        Fetched(1, held, Resume(3), 3),
        *mine,
    ]
    talk = b"".join(map(encode, answer))
    nothing = encode(_WELCOME) + encode(Fetched(0, StreamView(_LIFE, (), 0, 0), Resume(0), 0))
    waits = [Step(Op.WAIT, b"\5"), Step(Op.WAIT, b"\5")]
    slowly = [Step(Op.SEND, encode(frame), 1) for frame in answer]
    return [
        [Step(Op.SEND, talk, 1), *waits],
        [Step(Op.SEND, nothing, 1), Step(Op.SEND, talk, 2), *waits],
        [*slowly[:2], *waits, *slowly[2:], Step(Op.WAIT, b"\5")],
        [Step(Op.SEND, encode(Refused("recovering", "…")), 1), *slowly],
    ]


def _without_a_life(segments: dict[int, bytes]) -> dict[int, bytes]:
    """A fault that fuzzing found: the newest lineage leaves out a life whose entries are there."""
    newest = max(segments)
    (kind, body), *records = journal_folders.records(segments[newest])
    state = decode_checkpoint(body)
    state.lineage = state.lineage[1:]
    changed = journal_folders.segment_of([(kind, encode_checkpoint(state)), *records])
    return {**segments, newest: changed}


def _proofs() -> list[list[Step]]:
    """Peers that know the secret, and one that does not."""
    hello = Hello(MAGIC, VERSION, VERSION, "peer", "node-b", _LIFE, nonce=NONCE)
    theirs = Exchange("default", "node-b", _LIFE, NONCE, "node-a", EPOCH, NONCE)
    ours = Exchange("default", "node-a", EPOCH, NONCE, "node-b", _LIFE, NONCE)
    consumer: list[Frame] = [hello, Proof(theirs.proof(SECRET, "consumer")), Attach(FromStart())]
    producer: list[Frame] = [
        Challenge("node-b", _LIFE, NONCE),
        Proof(ours.proof(SECRET, "producer")),
        *_PRODUCER,
    ]
    liar: list[Frame] = [hello, Proof(bytes(32))]
    return [
        [Step(Op.PEER), Step(Op.SEND, b"".join(map(encode, consumer))), Step(Op.WAIT, b"\2")],
        [Step(Op.PEER), *(Step(Op.SEND, encode(frame)) for frame in consumer)],
        [Step(Op.SEND, b"".join(map(encode, producer)), 1), Step(Op.WAIT, b"\2")],
        [Step(Op.PEER), Step(Op.SEND, b"".join(map(encode, liar)))],
    ]


def _live(net: Net, life: int) -> None:
    """A life that leaves every kind of record."""
    publisher = Publisher(net, "node-a", life=bytes((life,)) * 16)
    session = Subscriber(net, "node-a", ">", session="projector")
    consumer = RawClient(net, "node-a", "peer", peer="node-b", life=b"b" * 16)
    consumer.send(Attach(Earliest()))
    for n in range(4):
        publisher.sequence += 1
        publisher.send(batch_of([("t", b"x" * n), ("u", b"")], sequence=publisher.sequence))
        net.write("node-a")
    at = net.nodes["node-a"].stream.log.end_position
    session.send(Ack("node-a", at))
    consumer.send(Ack("node-a", at, {"one": at}))
    net.advance(1)
    net.write("node-a")


def _short(found: list[bytes]) -> list[bytes]:
    return [each for each in dict.fromkeys(found) if len(each) <= _LONGEST]

"""Frames to bytes and back. `decode` checks every received frame, field by field.

`decode` raises `ProtocolError` for any bytes that are not a frame, and no other error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

import msgpack

import pubsubd_protocol.fields as field
from pubsubd_protocol.columns import MAX_BATCH_MESSAGES, MAX_BATCH_TOPICS
from pubsubd_protocol.entries import (
    ENTRY_KIND,
    PUBLISH_KIND,
    Batch,
    Entry,
    encode_batch,
    read_batch,
    read_entry,
)
from pubsubd_protocol.errors import InvalidTopic, ProtocolError
from pubsubd_protocol.frames import (
    DEFAULT_CLUSTER,
    ROLES,
    Ack,
    Attach,
    Attached,
    Challenge,
    CursorExpired,
    Fetch,
    Fetched,
    FilterSet,
    Frame,
    Health,
    Heartbeat,
    Hello,
    Proof,
    Query,
    Receipt,
    Refused,
    Rejected,
    Report,
    SetFilter,
    Skip,
    StreamPosition,
    Subscribe,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.framing import PREFIX, PREFIX_BYTES
from pubsubd_protocol.layout import unpack_limited
from pubsubd_protocol.positions import MAX_LINEAGE
from pubsubd_protocol.proof import NONCE_BYTES, PROOF_BYTES
from pubsubd_protocol.topics import EVERY_TOPIC, MAX_TOPIC_BYTES

MAX_CONTROL_BYTES = 512 * 1024
"""The longest frame, batches and reports excepted. A subscription at all its limits takes 370 KB."""

_REPORT_KIND: Final = 41


def encode(frame: Frame) -> bytes:
    """The whole frame, prefix included. For an entry prefer `Entry.wire`: its bytes exist already."""
    if isinstance(frame, Entry):
        return b"".join(frame.wire)
    if isinstance(frame, Batch):
        return b"".join(encode_batch(frame))
    kind, pack = _ENCODERS[type(frame)]
    body: bytes = msgpack.packb([kind, *pack(frame)])
    return PREFIX.pack(len(body)) + body


def decode(frame: memoryview) -> Frame:
    """The frame in `frame` (one whole frame, prefix included). Raises `ProtocolError`."""
    try:
        if (
            len(frame) < PREFIX_BYTES + 2
            or not 0x91 <= frame[PREFIX_BYTES] <= 0x9F
            or frame[PREFIX_BYTES + 1] > 0x7F
        ):
            raise ProtocolError(
                "malformed",
                "the body of a frame must begin with an array of 1-15 fields and the kind",
            )
        kind = frame[PREFIX_BYTES + 1]
        if kind == ENTRY_KIND:
            return read_entry(frame)
        if kind == PUBLISH_KIND:
            return read_batch(frame)
        if kind == _REPORT_KIND:
            fields = unpack_limited(frame[PREFIX_BYTES:])
        elif len(frame) <= MAX_CONTROL_BYTES:
            longest = field.MAX_STREAMS, MAX_LINEAGE
            fields = unpack_limited(frame[PREFIX_BYTES:], *longest)
        else:
            raise ProtocolError(
                "frame_length",
                f"a frame of kind {kind} has {len(frame)} bytes, the limit is {MAX_CONTROL_BYTES}",
            )
        if not isinstance(fields, list):
            raise ProtocolError("malformed", "the body of a frame must be an array")
        decoder = _DECODERS.get(kind)
        if decoder is None:
            raise ProtocolError("unknown_frame", f"frame kind {kind} is unknown")
        return decoder(field.Fields(fields))
    except InvalidTopic as error:
        raise ProtocolError("malformed", str(error)) from None


def _pack_hello(f: Hello) -> list[object]:
    of_a_peer = [f.cluster, f.nonce] if f.role == "peer" else []
    return [f.magic, f.lowest, f.highest, f.role, f.name, f.sender_id, f.spoke_to, *of_a_peer]


def _pack_welcome(f: Welcome) -> list[object]:
    sizes = [f.max_message, f.max_frame, f.window, f.max_batch]
    publish = "\n".join(f.publish)
    topics = [f.max_topics, f.max_topic, publish]
    return [f.version, f.node, f.epoch, *sizes, f.cluster, *topics, f.heartbeat_ms, f.silent_ms]


def _pack_subscribe(f: Subscribe) -> list[object]:
    positions = None if f.positions is None else field.pack_positions(f.positions)
    acknowledged = None if f.acknowledged is None else field.pack_positions(f.acknowledged)
    of_a_name = [] if f.id is None else [f.id]
    patterns = "\n".join(f.patterns)
    return [patterns, f.start, positions, f.born, f.name, f.echo, acknowledged, *of_a_name]


# One row for each frame: class, kind, function that packs the fields, function that reads them.
_TABLE: Final[
    tuple[tuple[type, int, Callable[..., Sequence[object]], Callable[[field.Fields], Frame]], ...]
] = (
    (
        Hello,
        1,
        _pack_hello,
        lambda f: Hello(
            f.take(field.check_text(16)),
            f.take(field.check_int),
            f.take(field.check_int),
            f.take(field.check_word_of(ROLES)),
            f.take(field.check_text(64)),
            f.take(field.check_epoch),
            f.take_or(field.check_maybe(field.check_epoch), None),
            f.take_or(field.check_node, DEFAULT_CLUSTER),
            f.take_or(field.check_maybe(field.check_bytes(NONCE_BYTES)), None),
        ),
    ),
    (
        Challenge,
        4,
        attrgetter("node", "epoch", "nonce"),
        lambda f: Challenge(
            f.take(field.check_node),
            f.take(field.check_epoch),
            f.take(field.check_bytes(NONCE_BYTES)),
        ),
    ),
    (
        Proof,
        5,
        lambda f: [f.proof],
        lambda f: Proof(f.take(field.check_bytes(PROOF_BYTES))),
    ),
    (
        Welcome,
        2,
        _pack_welcome,
        lambda f: Welcome(
            f.take(field.check_int),
            f.take(field.check_node),
            f.take(field.check_epoch),
            f.take(field.check_int),
            f.take(field.check_int),
            f.take(field.check_int),
            f.take_or(field.check_int, MAX_BATCH_MESSAGES),
            f.take_or(field.check_node, DEFAULT_CLUSTER),
            f.take_or(field.check_int, MAX_BATCH_TOPICS),
            f.take_or(field.check_int, MAX_TOPIC_BYTES),
            f.take_or(field.check_rights, (EVERY_TOPIC,)),
            f.take_or(field.check_int, 0),
            f.take_or(field.check_int, 0),
        ),
    ),
    (
        Refused,
        3,
        attrgetter("code", "detail"),
        lambda f: Refused(f.take(field.check_text(64)), f.take(field.check_text(2000))),
    ),
    (
        Receipt,
        11,
        attrgetter("sequence", "epoch", "first"),
        lambda f: Receipt(
            f.take(field.check_int), f.take(field.check_epoch), f.take(field.check_int)
        ),
    ),
    (
        Rejected,
        12,
        attrgetter("sequence", "code", "detail", "size", "limit"),
        lambda f: Rejected(
            f.take(field.check_int),
            f.take(field.check_text(64)),
            f.take(field.check_text(2000)),
            f.take_or(field.check_maybe(field.check_int), None),
            f.take_or(field.check_maybe(field.check_int), None),
        ),
    ),
    (
        Subscribe,
        20,
        _pack_subscribe,
        lambda f: Subscribe(
            f.take(field.check_patterns),
            f.take(field.check_word_of(("latest", "earliest"))),
            f.take(field.check_maybe(field.check_positions)),
            f.take(field.check_maybe(field.check_epoch)),
            f.take(field.check_maybe(field.check_session_name)),
            f.take(field.check_bool),
            f.take_or(field.check_maybe(field.check_positions), None),
            f.take_or(field.check_maybe(field.check_epoch), None),
        ),
    ),
    (
        Subscribed,
        21,
        lambda f: [field.pack_positions(f.positions), f.born, f.resumed, f.lost],
        lambda f: Subscribed(
            f.take(field.check_positions),
            f.take(field.check_epoch),
            f.take(field.check_bool),
            f.take_or(field.check_lost, {}),
        ),
    ),
    (
        SetFilter,
        22,
        lambda f: ["\n".join(f.patterns)],
        lambda f: SetFilter(f.take(field.check_patterns)),
    ),
    (
        FilterSet,
        23,
        lambda f: [field.pack_positions(f.positions)],
        lambda f: FilterSet(f.take(field.check_positions)),
    ),
    (
        StreamPosition,
        24,
        lambda f: [f.node, field.pack_position(f.position)],
        lambda f: StreamPosition(f.take(field.check_node), f.take(field.check_position)),
    ),
    (
        Skip,
        26,
        attrgetter("node", "epoch", "first", "next"),
        lambda f: _forward(
            Skip(
                f.take(field.check_node),
                f.take(field.check_epoch),
                f.take(field.check_int),
                f.take(field.check_int),
            )
        ),
    ),
    (
        CursorExpired,
        27,
        lambda f: [f.node, f.reason.value, f.missed, field.pack_view(f.view)],
        lambda f: CursorExpired(
            f.take(field.check_node),
            f.take(field.check_reason),
            f.take(field.check_maybe(field.check_int)),
            f.take(field.check_view),
        ),
    ),
    (
        Ack,
        28,
        lambda f: [
            f.node,
            field.pack_position(f.position),
            field.pack_moves(f.named),
            f.noticed,
            field.pack_elsewhere(f.elsewhere),
            f.loss,
        ],
        lambda f: Ack(
            f.take(field.check_node),
            f.take(field.check_position),
            f.take_or(field.check_named_moves, {}),
            f.take_or(field.check_bool, False),
            f.take_or(field.check_elsewhere, {}),
            f.take_or(field.check_maybe(field.check_epoch), None),
        ),
    ),
    (
        Health,
        29,
        lambda f: [f.lost],
        lambda f: Health(f.take(field.check_lost)),
    ),
    (
        Attach,
        30,
        lambda f: [field.pack_claim(f.claim)],
        lambda f: Attach(f.take(field.check_claim)),
    ),
    (
        Attached,
        31,
        lambda f: [
            field.pack_view(f.view),
            field.pack_answer(f.answer),
            field.pack_registered(f.registered, f.view),
            field.pack_positions(f.named),
            field.pack_elsewhere(f.elsewhere),
        ],
        lambda f: Attached(
            view := f.take(field.check_view),
            f.take(field.check_answer),
            f.take(field.check_registered(view)),
            f.take_or(field.check_named, {}),
            f.take_or(field.check_elsewhere, {}),
        ),
    ),
    (
        Fetch,
        32,
        lambda f: [f.id, field.pack_claim(f.claim), f.budget, f.stream],
        lambda f: Fetch(
            f.take(field.check_int),
            f.take(field.check_claim),
            f.take(field.check_int),
            f.take_or(field.check_maybe(field.check_node), None),
        ),
    ),
    (
        Fetched,
        33,
        lambda f: [
            *(f.id, field.pack_view(f.view), field.pack_answer(f.answer), f.count),
            *([list(f.other_epochs)] if f.other_epochs else []),
        ],
        lambda f: Fetched(
            f.take(field.check_int),
            f.take(field.check_view),
            f.take(field.check_answer),
            f.take(field.check_int),
            f.take_or(field.check_other_epochs, ()),
        ),
    ),
    (
        Heartbeat,
        34,
        lambda f: [f.next],
        lambda f: Heartbeat(f.take_or(field.check_maybe(field.check_int), None)),
    ),
    (
        Query,
        40,
        attrgetter("what", "argument"),
        lambda f: Query(
            f.take(field.check_text(64)), f.take_or(field.check_maybe(field.check_text(1000)), None)
        ),
    ),
    (Report, _REPORT_KIND, lambda f: [f.json], lambda f: Report(f.take(field.check_text(2**28)))),
)


def _forward(skip: Skip) -> Skip:
    if skip.first >= skip.next:
        raise ProtocolError(
            "malformed", f"a skip goes from {skip.first} to {skip.next}: it must go forward"
        )
    return skip


_ENCODERS: Final = {cls: (kind, pack) for cls, kind, pack, _ in _TABLE}
_DECODERS: Final = {kind: take for _, kind, _, take in _TABLE}

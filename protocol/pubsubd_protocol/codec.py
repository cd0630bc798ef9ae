"""Frames to bytes and back. Every frame that comes in is checked here, field by field.

`decode` raises `ProtocolError` and nothing else, whatever the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, cast

import msgpack

from pubsubd_protocol.attach import (
    At,
    Claim,
    Earliest,
    FromStart,
    Reason,
    Remembered,
    Resume,
)
from pubsubd_protocol.entries import (
    ENTRY_KIND,
    PUBLISH_KIND,
    Batch,
    Entry,
    encode_batch,
    read_batch,
    read_entry,
    unpack_limited,
)
from pubsubd_protocol.errors import InvalidTopic, ProtocolError
from pubsubd_protocol.frames import (
    ROLES,
    Ack,
    Attach,
    Attached,
    CursorExpired,
    Fetch,
    Fetched,
    FilterSet,
    Frame,
    Heartbeat,
    Hello,
    Query,
    Receipt,
    Refused,
    Rejected,
    Report,
    SetFilter,
    Skip,
    Subscribe,
    Subscribed,
    Told,
    Welcome,
)
from pubsubd_protocol.framing import PREFIX, PREFIX_BYTES
from pubsubd_protocol.positions import (
    EPOCH_BYTES,
    MAX_LINEAGE,
    Epoch,
    Lineage,
    Position,
    StreamView,
    is_node_name,
)

T = TypeVar("T")
Check = Callable[[object], T]

MAX_NAMED_SESSIONS = 256
MAX_SESSION_NAME = 128
MAX_STREAMS = 1024

MAX_CONTROL_BYTES = 512 * 1024
"""The longest frame but for batches and reports; a subscription at all its limits has 370 KB."""

_REPORT_KIND: Final = 41


def encode(frame: Frame) -> bytes:
    """The whole frame, prefix included. An entry's bytes are made once; ask it for its `wire` instead."""
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
        kind = _kind(frame)
        if kind == ENTRY_KIND:
            return read_entry(frame)
        if kind == PUBLISH_KIND:
            return read_batch(frame)
        if kind == _REPORT_KIND:
            fields = unpack_limited(frame[PREFIX_BYTES:])
        elif len(frame) <= MAX_CONTROL_BYTES:
            fields = unpack_limited(frame[PREFIX_BYTES:], longest_map=MAX_STREAMS)
        else:
            raise ProtocolError(
                "frame_length",
                f"a frame of kind {kind} and {len(frame)} bytes, allowed are {MAX_CONTROL_BYTES}",
            )
        if not isinstance(fields, list):
            raise ProtocolError("malformed", "a frame is an array")
        decoder = _DECODERS.get(kind)
        if decoder is None:
            raise ProtocolError("unknown_frame", f"no frame has kind {kind}")
        return decoder(_Fields(fields))
    except InvalidTopic as error:
        raise ProtocolError("malformed", str(error)) from None


def _kind(frame: memoryview) -> int:
    if (
        len(frame) < PREFIX_BYTES + 2
        or not 0x91 <= frame[PREFIX_BYTES] <= 0x9F
        or frame[PREFIX_BYTES + 1] > 0x7F
    ):
        raise ProtocolError("malformed", "a frame begins with a short array and its kind")
    return frame[PREFIX_BYTES + 1]


class _Fields:
    """The fields of a received frame, taken in order; each is checked as it is taken."""

    __slots__ = ("_at", "_fields")

    def __init__(self, fields: list[object]) -> None:
        self._fields = fields
        self._at = 1

    def take(self, check: Check[T]) -> T:
        if self._at >= len(self._fields):
            raise ProtocolError(
                "malformed", f"field {self._at} of frame {self._fields[0]} is missing"
            )
        value = self._fields[self._at]
        self._at += 1
        try:
            return check(value)
        except (_Wrong, ValueError, TypeError) as error:
            raise ProtocolError(
                "malformed", f"field {self._at - 1} of frame {self._fields[0]}: {error}"
            ) from None

    def take_or(self, check: Check[T], default: T) -> T:
        return self.take(check) if self._at < len(self._fields) else default


class _Wrong(Exception):
    """A field's value is not what it has to be."""


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise _Wrong(f"expected an unsigned integer, found {_show(value)}")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"expected true or false, found {_show(value)}")
    return value


def _text(longest: int) -> Check[str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise _Wrong(f"expected a string of at most {longest} characters, found {_show(value)}")
        return value

    return check


def _word_of(words: tuple[str, ...]) -> Check[str]:
    def check(value: object) -> str:
        if value not in words:
            raise _Wrong(f"expected one of {', '.join(words)}, found {_show(value)}")
        return str(value)

    return check


def _maybe(check: Check[T]) -> Check[T | None]:
    return lambda value: None if value is None else check(value)


def _epoch(value: object) -> Epoch:
    if not isinstance(value, bytes) or len(value) != EPOCH_BYTES:
        raise _Wrong(f"expected {EPOCH_BYTES} bytes, found {_show(value)}")
    return Epoch(value)


def _node(value: object) -> str:
    if not isinstance(value, str) or not is_node_name(value):
        raise _Wrong(f"expected a node name, found {_show(value)}")
    return value


def _list(value: object, longest: int) -> list[object]:
    if not isinstance(value, list) or len(value) > longest:
        raise _Wrong(f"expected an array of at most {longest}, found {_show(value)}")
    return value


def _map(value: object, longest: int) -> dict[object, object]:
    if not isinstance(value, dict) or len(value) > longest:
        raise _Wrong(f"expected a map of at most {longest}, found {_show(value)}")
    return value


def _position(value: object) -> Position:
    epoch, offset = _list(value, 2)
    return Position(_epoch(epoch), _int(offset))


def _positions(value: object) -> dict[str, Position]:
    return {_node(node): _position(place) for node, place in _map(value, MAX_STREAMS).items()}


def _named(value: object) -> dict[str, int]:
    return {
        _session_name(name): _int(offset)
        for name, offset in _map(value, MAX_NAMED_SESSIONS).items()
    }


def _named_moves(value: object) -> dict[str, int | None]:
    moves = _map(value, MAX_NAMED_SESSIONS).items()
    return {_session_name(name): None if offset is None else _int(offset) for name, offset in moves}


def _session_name(value: object) -> str:
    name = _text(MAX_SESSION_NAME)(value)
    if not name or not name.isprintable():
        raise _Wrong(f"expected a printable session name, found {_show(value)}")
    return name


def _patterns(value: object) -> tuple[str, ...]:
    joined = _text(2**20)(value)
    return tuple(joined.split("\n")) if joined else ()


def _lineage(value: object) -> Lineage:
    return tuple((p.epoch, p.offset) for p in map(_position, _list(value, MAX_LINEAGE)))


def _view(value: object) -> StreamView:
    epoch, lineage, oldest, following = _list(value, 4)
    view = StreamView(_epoch(epoch), _lineage(lineage), _int(oldest), _int(following))
    if view.oldest > view.next:
        raise _Wrong(f"oldest {view.oldest} beyond next {view.next}")
    return view


def _reason(value: object) -> Reason:
    return Reason(_text(32)(value))


def _answer(value: object) -> Resume | Reason:
    return Resume(value) if isinstance(value, int) and _int(value) >= 0 else _reason(value)


_CLAIM_WORDS: Final = ("at", "start", "earliest", "remembered", "waiting")


def _claim(value: object) -> Claim:
    if isinstance(value, list):
        return At(_position(value))
    match _word_of(_CLAIM_WORDS[1:])(value):
        case "start":
            return FromStart()
        case "earliest":
            return Earliest()
        case word:
            return Remembered(waiting=word == "waiting")


def _show(value: object) -> str:
    text = repr(value) if not isinstance(value, (list, dict, bytes, str)) else ""
    return text[:80] or f"{type(value).__name__} of {len(cast(bytes, value))}"


def _pack_claim(claim: Claim) -> object:
    match claim:
        case At(position):
            return _pack_position(position)
        case FromStart():
            return "start"
        case Earliest():
            return "earliest"
        case Remembered(waiting):
            return "waiting" if waiting else "remembered"


def _pack_position(position: Position) -> list[object]:
    return [position.epoch, position.offset]


def _pack_positions(positions: dict[str, Position]) -> dict[str, list[object]]:
    return {node: _pack_position(p) for node, p in positions.items()}


def _pack_view(view: StreamView) -> list[object]:
    return [view.epoch, [[epoch, end] for epoch, end in view.lineage], view.oldest, view.next]


def _pack_answer(answer: Resume | Reason) -> object:
    return answer.offset if isinstance(answer, Resume) else answer.value


def _pack_hello(f: Hello) -> list[object]:
    return [f.magic, f.lowest, f.highest, f.role, f.name, f.life, f.spoke_to]


def _pack_welcome(f: Welcome) -> list[object]:
    return [f.version, f.node, f.life, f.max_message, f.max_frame, f.window]


def _pack_subscribe(f: Subscribe) -> list[object]:
    positions = None if f.positions is None else _pack_positions(f.positions)
    return ["\n".join(f.patterns), f.start, positions, f.born, f.name, f.echo]


# One row a frame: class, kind, how its fields are packed, how they are taken.
_TABLE: Final[
    tuple[tuple[type, int, Callable[..., list[object]], Callable[[_Fields], Frame]], ...]
] = (
    (
        Hello,
        1,
        _pack_hello,
        lambda f: Hello(
            f.take(_text(16)),
            f.take(_int),
            f.take(_int),
            f.take(_word_of(ROLES)),
            f.take(_text(64)),
            f.take(_epoch),
            f.take_or(_maybe(_epoch), None),
        ),
    ),
    (
        Welcome,
        2,
        _pack_welcome,
        lambda f: Welcome(
            f.take(_int), f.take(_node), f.take(_epoch), f.take(_int), f.take(_int), f.take(_int)
        ),
    ),
    (
        Refused,
        3,
        lambda f: [f.code, f.detail],
        lambda f: Refused(f.take(_text(64)), f.take(_text(2000))),
    ),
    (
        Receipt,
        11,
        lambda f: [f.sequence, f.epoch, f.first],
        lambda f: Receipt(f.take(_int), f.take(_epoch), f.take(_int)),
    ),
    (
        Rejected,
        12,
        lambda f: [f.sequence, f.code, f.detail, f.size, f.limit],
        lambda f: Rejected(
            f.take(_int),
            f.take(_text(64)),
            f.take(_text(2000)),
            f.take_or(_maybe(_int), None),
            f.take_or(_maybe(_int), None),
        ),
    ),
    (
        Subscribe,
        20,
        _pack_subscribe,
        lambda f: Subscribe(
            f.take(_patterns),
            f.take(_word_of(("latest", "earliest"))),
            f.take(_maybe(_positions)),
            f.take(_maybe(_epoch)),
            f.take(_maybe(_session_name)),
            f.take(_bool),
        ),
    ),
    (
        Subscribed,
        21,
        lambda f: [_pack_positions(f.positions), f.born, f.resumed],
        lambda f: Subscribed(f.take(_positions), f.take(_epoch), f.take(_bool)),
    ),
    (SetFilter, 22, lambda f: ["\n".join(f.patterns)], lambda f: SetFilter(f.take(_patterns))),
    (
        FilterSet,
        23,
        lambda f: [_pack_positions(f.positions)],
        lambda f: FilterSet(f.take(_positions)),
    ),
    (
        Told,
        24,
        lambda f: [f.node, _pack_position(f.position)],
        lambda f: Told(f.take(_node), f.take(_position)),
    ),
    (
        Skip,
        26,
        lambda f: [f.node, f.epoch, f.first, f.next],
        lambda f: _forward(Skip(f.take(_node), f.take(_epoch), f.take(_int), f.take(_int))),
    ),
    (
        CursorExpired,
        27,
        lambda f: [f.node, f.reason.value, f.missed, _pack_view(f.view)],
        lambda f: CursorExpired(
            f.take(_node), f.take(_reason), f.take(_maybe(_int)), f.take(_view)
        ),
    ),
    (
        Ack,
        28,
        lambda f: [f.node, _pack_position(f.position), f.named],
        lambda f: Ack(f.take(_node), f.take(_position), f.take_or(_named_moves, {})),
    ),
    (Attach, 30, lambda f: [_pack_claim(f.claim)], lambda f: Attach(f.take(_claim))),
    (
        Attached,
        31,
        lambda f: [_pack_view(f.view), _pack_answer(f.answer), f.registered, f.named],
        lambda f: Attached(
            f.take(_view), f.take(_answer), f.take(_maybe(_int)), f.take_or(_named, {})
        ),
    ),
    (
        Fetch,
        32,
        lambda f: [f.id, _pack_claim(f.claim), f.budget],
        lambda f: Fetch(f.take(_int), f.take(_claim), f.take(_int)),
    ),
    (
        Fetched,
        33,
        lambda f: [f.id, _pack_view(f.view), _pack_answer(f.answer), f.count],
        lambda f: Fetched(f.take(_int), f.take(_view), f.take(_answer), f.take(_int)),
    ),
    (Heartbeat, 34, lambda f: [f.next], lambda f: Heartbeat(f.take_or(_maybe(_int), None))),
    (
        Query,
        40,
        lambda f: [f.what, f.argument],
        lambda f: Query(f.take(_text(64)), f.take_or(_maybe(_text(1000)), None)),
    ),
    (Report, _REPORT_KIND, lambda f: [f.json], lambda f: Report(f.take(_text(2**28)))),
)


def _forward(skip: Skip) -> Skip:
    if skip.first >= skip.next:
        raise ProtocolError("malformed", f"a skip from {skip.first} to {skip.next}")
    return skip


_ENCODERS: Final = {cls: (kind, pack) for cls, kind, pack, _ in _TABLE}
_DECODERS: Final = {kind: take for _, kind, _, take in _TABLE}
KINDS: Final = {cls.__name__: kind for cls, kind, _, _ in _TABLE} | {
    "Batch": PUBLISH_KIND,
    "Entry": ENTRY_KIND,
}
"""Every frame's kind, by the name of its class."""

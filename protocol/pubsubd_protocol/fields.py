"""The fields of control frames: one check for each kind of field, and one function that packs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import Final, TypeVar, cast

from pubsubd_protocol.attach import (
    At,
    Claim,
    Earliest,
    FromStart,
    Reason,
    Remembered,
    Resume,
)
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.positions import (
    EPOCH_BYTES,
    MAX_LINEAGE,
    Epoch,
    Lineage,
    Losses,
    Position,
    StreamView,
    is_node_name,
)
from pubsubd_protocol.topics import Filter

T = TypeVar("T")
Check = Callable[[object], T]

MAX_NAMED_SESSIONS = 256
MAX_SESSION_NAME = 128
MAX_PLACES = 256
MAX_STREAMS = 1024
MAX_OTHER_EPOCHS = 64
"""Other epochs of a node that a peer remembers, besides those in the lineage."""


class Fields:
    """The fields of a received frame, in order. `take` checks the next one and returns it."""

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
        except (Wrong, ValueError, TypeError) as error:
            raise ProtocolError(
                "malformed", f"field {self._at - 1} of frame {self._fields[0]}: {error}"
            ) from None

    def take_or(self, check: Check[T], default: T) -> T:
        return self.take(check) if self._at < len(self._fields) else default


class Wrong(Exception):
    """A field's value is invalid."""


def check_int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Wrong(f"expected an unsigned integer, found {_show(value)}")
    return value


def check_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"expected true or false, found {_show(value)}")
    return value


def check_text(longest: int) -> Check[str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise Wrong(f"expected a string of at most {longest} characters, found {_show(value)}")
        return value

    return check


def check_word_of(words: tuple[str, ...]) -> Check[str]:
    def check(value: object) -> str:
        if value not in words:
            raise Wrong(f"expected one of {', '.join(words)}, found {_show(value)}")
        return str(value)

    return check


def check_maybe(check: Check[T]) -> Check[T | None]:
    return lambda value: None if value is None else check(value)


def check_bytes(count: int) -> Check[bytes]:
    def check(value: object) -> bytes:
        if not isinstance(value, bytes) or len(value) != count:
            raise Wrong(f"expected {count} bytes, found {_show(value)}")
        return value

    return check


_check_epoch = check_bytes(EPOCH_BYTES)


def check_epoch(value: object) -> Epoch:
    return Epoch(_check_epoch(value))


def check_node(value: object) -> str:
    if not isinstance(value, str) or not is_node_name(value):
        raise Wrong(f"expected a node name, found {_show(value)}")
    return value


def check_list(value: object, longest: int) -> list[object]:
    if not isinstance(value, list) or len(value) > longest:
        raise Wrong(f"expected an array of at most {longest}, found {_show(value)}")
    return value


def check_map(value: object, longest: int) -> dict[object, object]:
    if not isinstance(value, dict) or len(value) > longest:
        raise Wrong(f"expected a map of at most {longest}, found {_show(value)}")
    return value


def check_position(value: object) -> Position:
    epoch, offset = check_list(value, 2)
    return Position(check_epoch(epoch), check_int(offset))


def check_positions(value: object) -> dict[str, Position]:
    return {
        check_node(node): check_position(place)
        for node, place in check_map(value, MAX_STREAMS).items()
    }


def check_lost(value: object) -> dict[str, int]:
    return {check_node(node): check_int(ms) for node, ms in check_map(value, MAX_STREAMS).items()}


def check_named(value: object) -> dict[str, Position]:
    return {
        check_session_name(name): check_position(place)
        for name, place in check_map(value, MAX_NAMED_SESSIONS).items()
    }


def check_named_moves(value: object) -> dict[str, Position | None]:
    moves = check_map(value, MAX_NAMED_SESSIONS).items()
    return {
        check_session_name(name): None if place is None else check_position(place)
        for name, place in moves
    }


def check_elsewhere(value: object) -> dict[str, dict[str, Position]]:
    places = {
        check_session_name(name): check_positions(positions)
        for name, positions in check_map(value, MAX_PLACES).items()
    }
    count = sum(map(len, places.values()))
    if count > MAX_PLACES:
        raise Wrong(f"expected at most {MAX_PLACES} places of sessions, found {count}")
    return places


def check_session_name(value: object) -> str:
    name = check_text(MAX_SESSION_NAME)(value)
    if not name or not name.isprintable():
        raise Wrong(f"expected a printable session name, found {_show(value)}")
    return name


def check_patterns(value: object) -> tuple[str, ...]:
    joined = check_text(2**20)(value)
    return tuple(joined.split("\n")) if joined else ()


def check_rights(value: object) -> tuple[str, ...]:
    """Patterns on which a client may publish. They are checked here, because no later step checks them."""
    return Filter(check_patterns(value)).patterns


def check_lineage(value: object) -> Lineage:
    return tuple((p.epoch, p.offset) for p in map(check_position, check_list(value, MAX_LINEAGE)))


def check_other_epochs(value: object) -> tuple[Epoch, ...]:
    return tuple(map(check_epoch, check_list(value, MAX_OTHER_EPOCHS)))


def check_losses(value: object, lineage: Lineage) -> Losses:
    losses = tuple(map(_check_loss, check_list(value, MAX_LINEAGE)))
    earlier = iter(epoch for epoch, _ in lineage)
    # `in` consumes the iterator up to its match, so this also checks that the losses follow the lineage's order.
    if not all(epoch in earlier for epoch, _ in losses):
        raise Wrong("expected losses of epochs of the lineage, in its order")
    return losses


def _check_loss(value: object) -> tuple[Epoch, int | None]:
    epoch, lost = check_list(value, 2)
    if lost == 0:
        raise Wrong("expected a number of lost messages above 0, found 0")
    return check_epoch(epoch), None if lost is None else check_int(lost)


def check_view(value: object) -> StreamView:
    epoch, lineage, oldest, following, *losses = check_list(value, 5)
    earlier = check_lineage(lineage)
    view = StreamView(
        check_epoch(epoch),
        earlier,
        check_int(oldest),
        check_int(following),
        check_losses(losses[0], earlier) if losses else (),
    )
    if view.oldest > view.next:
        raise Wrong(f"oldest {view.oldest} is beyond next {view.next}")
    return view


def check_registered(view: StreamView) -> Check[Position | None]:
    """A cursor in the stream of `view`: an offset, or at a gap a position, which tells before the gap from behind it."""

    def check(value: object) -> Position | None:
        if value is None or isinstance(value, list):
            return check_maybe(check_position)(value)
        return view.place(check_int(value))

    return check


def check_reason(value: object) -> Reason:
    return Reason(check_text(32)(value))


def check_answer(value: object) -> Resume | Reason:
    return (
        Resume(value) if isinstance(value, int) and check_int(value) >= 0 else check_reason(value)
    )


_CLAIM_WORDS: Final = ("at", "start", "earliest", "remembered", "waiting")


def check_claim(value: object) -> Claim:
    if isinstance(value, list):
        return At(check_position(value))
    match check_word_of(_CLAIM_WORDS[1:])(value):
        case "start":
            return FromStart()
        case "earliest":
            return Earliest()
        case word:
            return Remembered(waiting=word == "waiting")


def _show(value: object) -> str:
    text = repr(value) if not isinstance(value, (list, dict, bytes, str)) else ""
    return text[:80] or f"{type(value).__name__} of {len(cast(Sized, value))}"


def pack_claim(claim: Claim) -> object:
    match claim:
        case At(position):
            return pack_position(position)
        case FromStart():
            return "start"
        case Earliest():
            return "earliest"
        case Remembered(waiting):
            return "waiting" if waiting else "remembered"


def pack_position(position: Position) -> list[object]:
    return [position.epoch, position.offset]


def pack_positions(positions: Mapping[str, Position]) -> dict[str, list[object]]:
    """Positions by node, or by name of a session."""
    return {node: pack_position(p) for node, p in positions.items()}


def pack_moves(moves: Mapping[str, Position | None]) -> dict[str, list[object] | None]:
    return {name: None if p is None else pack_position(p) for name, p in moves.items()}


def pack_elsewhere(
    places: Mapping[str, Mapping[str, Position]],
) -> dict[str, dict[str, list[object]]]:
    return {name: pack_positions(positions) for name, positions in places.items()}


def pack_view(view: StreamView) -> list[object]:
    lineage = pack_lineage(view.lineage)
    # Without losses the field is left out: brokers and clients that do not know it still understand the view.
    losses = [pack_losses(view.losses)] if view.losses else []
    return [view.epoch, lineage, view.oldest, view.next, *losses]


def pack_registered(cursor: Position | None, view: StreamView) -> object:
    if cursor is None or cursor == view.place(cursor.offset):
        return None if cursor is None else cursor.offset
    return pack_position(cursor)


def pack_lineage(lineage: Lineage) -> list[object]:
    return [[epoch, end] for epoch, end in lineage]


def pack_losses(losses: Losses) -> list[object]:
    return [[epoch, lost] for epoch, lost in losses]


def pack_answer(answer: Resume | Reason) -> object:
    return answer.offset if isinstance(answer, Resume) else answer.value

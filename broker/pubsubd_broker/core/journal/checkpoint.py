"""Checkpoint: the state of a node beside its stream's entries, and its encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import msgpack

from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import (
    Check,
    Fields,
    check_bool,
    check_epoch,
    check_int,
    check_lineage,
    check_list,
    check_losses,
    check_map,
    check_maybe,
    check_named,
    check_node,
    check_position,
    check_session_name,
    pack_lineage,
    pack_losses,
    pack_position,
    pack_positions,
)
from pubsubd_protocol.positions import Epoch, Lineage, Losses, Position, StreamView

T = TypeVar("T")

_MANY: Final = 2**20
"""More consumers, publishers or streams of a session than a checkpoint ever has."""


@dataclass(slots=True)
class KeptConsumer:
    """A consumer's place in the cursor registry."""

    cursor: Position
    named: dict[str, Position] = field(default_factory=dict)


@dataclass(slots=True)
class Checkpoint:
    """The state of a node whose stream stands at `next`.

    `publishers`: the highest answered sequence of each, the one heard of longest ago first. `sessions`: the positions at
    which each named session resumes. `durable`: this life shows a message only after it is on disk. `holders`: the id of
    the application's session that took each name last, if known.
    """

    node: str
    epoch: Epoch
    lineage: Lineage
    next: int
    consumers: dict[str, KeptConsumer]
    publishers: dict[bytes, int]
    sessions: dict[str, dict[str, Position]]
    durable: bool = False
    holders: dict[str, bytes] = field(default_factory=dict)
    losses: Losses = ()

    @property
    def view(self) -> StreamView:
        """The history that this state belongs to, without its messages."""
        return StreamView(self.epoch, self.lineage, self.next, self.next, self.losses)


def encode_checkpoint(state: Checkpoint) -> bytes:
    return _pack(
        state.node,
        state.epoch,
        pack_lineage(state.lineage),
        state.next,
        {name: _pack_consumer(consumer) for name, consumer in state.consumers.items()},
        [[publisher, last] for publisher, last in state.publishers.items()],
        {name: pack_positions(positions) for name, positions in state.sessions.items()},
        state.durable,
        state.holders,
        pack_losses(state.losses),
    )


def decode_checkpoint(body: bytes) -> Checkpoint:
    """Raises `ProtocolError` for a body that is not a checkpoint, though its checksum is right."""
    fields = _fields(body)
    node, epoch = fields.take(check_node), fields.take(check_epoch)
    lineage, following = fields.take(check_lineage), fields.take(check_int)
    return Checkpoint(
        node,
        epoch,
        lineage,
        following,
        fields.take(_check_consumers(StreamView(epoch, lineage, following, following))),
        fields.take(_check_publishers),
        fields.take(_check_sessions),
        # Format 1 does not say it.
        fields.take_or(check_bool, default=False),
        # A broker that did not know of holders wrote none.
        fields.take_or(_check_holders, {}),
        # Before format 3 no loss was known.
        fields.take_or(partial(check_losses, lineage=lineage), ()),
    )


def encode_cursor(name: str, consumer: KeptConsumer | None) -> bytes:
    """The body of a record of `consumer`. None: the consumer is gone."""
    return _pack(name, None if consumer is None else _pack_consumer(consumer))


def apply_cursor(state: Checkpoint, body: bytes) -> None:
    """Applies a record of a consumer. Raises `ProtocolError` for an invalid body."""
    fields = _fields(body)
    name, consumer = fields.take(check_node), fields.take(check_maybe(_check_consumer(state.view)))
    _put(state.consumers, name, consumer)


def encode_session(
    name: str, positions: Mapping[str, Position] | None, holder: bytes | None = None
) -> bytes:
    """The body of a record of a named session. `positions` None: it is gone. `holder` None: unknown."""
    return _pack(name, None if positions is None else pack_positions(positions), holder)


def apply_session(state: Checkpoint, body: bytes) -> None:
    """Applies a record of a named session. Raises `ProtocolError` for an invalid body."""
    fields = _fields(body)
    name, positions = fields.take(check_session_name), fields.take(check_maybe(_check_positions))
    holder = fields.take_or(check_maybe(_check_holder), None)
    _put(state.sessions, name, positions)
    _put(state.holders, name, holder)


def _put(table: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value


def _pack(*values: object) -> bytes:
    # The first field is the kind of a frame on the wire. Here the record's head has the kind.
    packed: bytes = msgpack.packb([0, *values])
    return packed


def _fields(body: bytes) -> Fields:
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise ProtocolError("malformed", f"msgpack: {str(error)[:200]}") from None
    if not isinstance(fields, list) or not fields:
        raise ProtocolError("malformed", "the body of a record is an array that is not empty")
    return Fields(fields)


def _pack_consumer(consumer: KeptConsumer) -> list[object]:
    return [pack_position(consumer.cursor), pack_positions(consumer.named)]


def _check_consumer(view: StreamView) -> Check[KeptConsumer]:
    def check(value: object) -> KeptConsumer:
        cursor, named = check_list(value, 2)
        # Before format 3 a cursor was an offset: streams had no gaps that made an offset ambiguous.
        place = view.place(cursor) if isinstance(cursor, int) else check_position(cursor)
        return KeptConsumer(place, check_named(named))

    return check


def _check_consumers(view: StreamView) -> Check[dict[str, KeptConsumer]]:
    check = _check_consumer(view)
    return lambda value: {
        check_node(name): check(kept) for name, kept in check_map(value, _MANY).items()
    }


def _check_publishers(value: object) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for each in check_list(value, _MANY):
        publisher, last = check_list(each, 2)
        found[check_epoch(publisher)] = check_int(last)
    return found


def _check_sessions(value: object) -> dict[str, dict[str, Position]]:
    return {
        check_session_name(name): _check_positions(positions)
        for name, positions in check_map(value, _MANY).items()
    }


def _check_holders(value: object) -> dict[str, bytes]:
    return {
        check_session_name(name): _check_holder(holder)
        for name, holder in check_map(value, _MANY).items()
    }


def _check_holder(value: object) -> bytes:
    """The id of a client; empty if the client gave none."""
    return b"" if value == b"" else check_epoch(value)


def _check_positions(value: object) -> dict[str, Position]:
    # Not bounded as in a frame: the broker adds the streams it knows to those that an application presents.
    return {
        check_node(node): check_position(place) for node, place in check_map(value, _MANY).items()
    }

"""Checkpoints come back as they were written; bytes that are not a checkpoint are refused."""

from __future__ import annotations

import contextlib
import copy

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.core.builders import E1, E2, PUBLISHER, at
from tests.unit.protocol.strategies import (
    epochs,
    lineages,
    losses_of,
    named_positions,
    node_names,
    position_maps,
    positions,
    session_names,
    unsigned,
)

from pubsubd_broker.core.journal.checkpoint import (
    Checkpoint,
    KeptConsumer,
    apply_cursor,
    apply_session,
    decode_checkpoint,
    encode_checkpoint,
    encode_cursor,
    encode_session,
)
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_STREAMS
from pubsubd_protocol.positions import Position

consumers = st.builds(KeptConsumer, positions, named_positions)
holders = st.just(b"") | st.binary(min_size=16, max_size=16)

checkpoints = lineages.flatmap(
    lambda lineage: st.builds(
        Checkpoint,
        node_names,
        epochs,
        st.just(lineage),
        unsigned,
        st.dictionaries(node_names, consumers, max_size=3),
        st.dictionaries(st.binary(min_size=16, max_size=16), unsigned, max_size=3),
        st.dictionaries(session_names, position_maps, max_size=3),
        holders=st.dictionaries(session_names, holders, max_size=3),
        losses=losses_of(lineage),
    )
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=17),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=12,
)
"""Any value that msgpack can hold."""

packed = st.binary(max_size=80) | values.map(msgpack.packb)

UNHASHABLE = b"\x92\x00\x81\x90\x00"
"""An array, whose second item is a map with an array for a key."""


def a_checkpoint() -> Checkpoint:
    return Checkpoint(
        "a",
        E2,
        ((E1, 4),),
        9,
        {"b": KeptConsumer(at(7, E2), {"projector": at(5, E2)})},
        {PUBLISHER: 3},
        {"audit": {"a": at(8, E2), "b": at(2, E1)}},
        holders={"audit": PUBLISHER},
        losses=((E1, 3),),
    )


@given(checkpoints)
def test_a_checkpoint_comes_back_as_it_was(state: Checkpoint) -> None:
    again = decode_checkpoint(encode_checkpoint(state))
    assert again == state
    assert list(again.publishers) == list(state.publishers), "in the order in which they were"


def test_as_much_as_a_node_ever_keeps_comes_back() -> None:
    named = {f"session-{n}": at(n) for n in range(MAX_NAMED_SESSIONS)}
    many = {f"node-{n}": at(n) for n in range(MAX_STREAMS + 1)}
    state = a_checkpoint()
    state.consumers = {f"node-{n}": KeptConsumer(at(n), {}) for n in range(2000)} | {
        "b": KeptConsumer(at(1), named)
    }
    state.publishers = {n.to_bytes(16): n for n in range(6000)}
    # A session presents as many streams as a frame takes, and its own node's is one more.
    state.sessions = {"audit": many}
    assert decode_checkpoint(encode_checkpoint(state)) == state
    apply_session(state, encode_session("other", many))
    assert state.sessions["other"] == many


def test_fields_that_a_later_version_adds_at_the_end_are_passed_over() -> None:
    body = msgpack.packb([*msgpack.unpackb(encode_checkpoint(a_checkpoint())), "something new"])
    assert decode_checkpoint(body) == a_checkpoint()


def test_a_format_2_checkpoint_has_cursor_offsets_and_no_losses() -> None:
    """There was one place at each offset; it is named as every reader there names it."""
    fields = msgpack.unpackb(encode_checkpoint(a_checkpoint()))[:-1]
    fields[5] = {name: [offset, {}] for name, offset in (("b", 7), ("c", 4), ("d", 5))}
    state = decode_checkpoint(msgpack.packb(fields))
    assert state.losses == ()
    assert state.consumers == {
        "b": KeptConsumer(at(7, E2)),
        "c": KeptConsumer(at(4, E1)),
        "d": KeptConsumer(at(5, E2)),
    }
    moved = msgpack.packb([*msgpack.unpackb(encode_cursor("c", None))[:-1], [6, {}]])
    apply_cursor(state, moved)
    assert state.consumers["c"] == KeptConsumer(at(6, E2))


@pytest.mark.parametrize(
    "losses",
    [
        [[E1, 0]],  # none: it ended whole
        [[E1, -1]],
        [[E2, 3]],  # the present life has not ended
        [[E1, 3], [E1, 3]],  # twice
        [[E1]],
        None,
    ],
)
def test_losses_that_are_none_of_its_lineage_are_refused(losses: object) -> None:
    fields = msgpack.unpackb(encode_checkpoint(a_checkpoint()))
    with pytest.raises(ProtocolError):
        decode_checkpoint(msgpack.packb([*fields[:-1], losses]))


@given(packed)
def test_an_invalid_checkpoint_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_checkpoint(body)


def test_a_checkpoint_cut_anywhere_is_refused() -> None:
    body = encode_checkpoint(a_checkpoint())
    for cut in range(len(body)):
        with pytest.raises(ProtocolError):
            decode_checkpoint(body[:cut])


@given(field=st.integers(1, 10), value=values)
def test_a_checkpoint_with_an_odd_field_is_read_or_refused(field: int, value: object) -> None:
    fields = msgpack.unpackb(encode_checkpoint(a_checkpoint()))
    fields[field] = value
    with contextlib.suppress(ProtocolError):
        decode_checkpoint(msgpack.packb(fields))


def names_something(body: bytes) -> bool:
    """Whether it begins as a record does: what follows the name may even be right."""
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException):
        return False
    return isinstance(fields, list) and len(fields) > 2 and isinstance(fields[1], str)


@given((packed | st.just(UNHASHABLE)).filter(lambda body: not names_something(body)))
@example(b"\x93\x00\xa0\xc0")
def test_a_record_that_is_none_is_refused_and_changes_nothing(body: bytes) -> None:
    for apply in (apply_cursor, apply_session):
        state = a_checkpoint()
        with pytest.raises(ProtocolError):
            apply(state, body)
        assert state == a_checkpoint()


def test_a_map_by_something_that_is_no_name_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_checkpoint(UNHASHABLE)


@pytest.mark.interpreted
@given(checkpoints, node_names, consumers)
def test_a_moved_cursor_replaces_the_former_one_until_it_is_gone(
    state: Checkpoint, name: str, consumer: KeptConsumer
) -> None:
    before = copy.deepcopy(state)
    apply_cursor(state, encode_cursor(name, consumer))
    assert state.consumers == before.consumers | {name: consumer}
    apply_cursor(state, encode_cursor(name, None))
    before.consumers.pop(name, None)
    assert state == before
    apply_cursor(state, encode_cursor(name, None))
    assert state == before


@pytest.mark.interpreted
@given(checkpoints, session_names, position_maps, holders)
def test_a_moved_session_replaces_the_former_one_until_it_is_gone(
    state: Checkpoint, name: str, positions: dict[str, Position], holder: bytes
) -> None:
    before = copy.deepcopy(state)
    apply_session(state, encode_session(name, positions, holder))
    assert state.sessions == before.sessions | {name: positions}
    assert state.holders == before.holders | {name: holder}
    apply_session(state, encode_session(name, None))
    before.sessions.pop(name, None)
    before.holders.pop(name, None)
    assert state == before
    apply_session(state, encode_session(name, None))
    assert state == before

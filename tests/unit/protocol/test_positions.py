"""Positions: their JSON form, what is refused and how it is said, node names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.protocol import strategies

import pubsubd_protocol.positions as names
from pubsubd_protocol.errors import InvalidPosition
from pubsubd_protocol.positions import (
    MAX_OFFSET,
    Epoch,
    Position,
    StreamView,
    dump_positions,
    is_node_name,
    load_positions,
    succeed,
)

HEX = "000102030405060708090a0b0c0d0e0f"

E0, E1, E2, E3 = (Epoch(bytes([number]) * 16) for number in range(4))


@given(
    st.dictionaries(
        strategies.node_names, st.builds(Position, strategies.epochs, strategies.offsets)
    )
)
def test_positions_survive_json(positions: dict[str, Position]) -> None:
    assert load_positions(json.loads(json.dumps(dump_positions(positions)))) == positions


def test_the_json_form_is_stable() -> None:
    positions = {"node-a": Position(Epoch(bytes(range(16))), 12)}
    assert json.dumps(dump_positions(positions)) == '{"node-a": ["' + HEX + '", 12]}'


def test_an_empty_position_is_a_position() -> None:
    assert load_positions({}) == {}


def test_the_highest_offset_is_exact_in_every_json_reader() -> None:
    assert load_positions({"a": [HEX, MAX_OFFSET]})["a"].offset == 2**53 - 1


WRONG: dict[str, tuple[object, str]] = {
    "a list": ([1], "a position is a mapping of node to [epoch, offset], not list"),
    "a string": ("{}", "a position is a mapping of node to [epoch, offset], not str"),
    "nothing": (None, "a position is a mapping of node to [epoch, offset], not NoneType"),
    "a number for a node": ({1: [HEX, 1]}, "a position has an invalid node name: 1"),
    "an empty node": ({"": [HEX, 1]}, "a position has an invalid node name: ''"),
    "a node with a space": (
        {"a b": [HEX, 1]},
        "a position has an invalid node name: 'a b'",
    ),
    "an offset alone": ({"a": 12}, "position of node 'a': expected [epoch, offset], found 12"),
    "a string for a place": (
        {"a": HEX},
        f"position of node 'a': expected [epoch, offset], found '{HEX}'",
    ),
    "three elements": (
        {"a": [HEX, 1, 2]},
        f"position of node 'a': expected [epoch, offset], found ['{HEX}', 1, 2]",
    ),
    "no elements": ({"a": []}, "position of node 'a': expected [epoch, offset], found []"),
    "an epoch that is a number": (
        {"a": [7, 1]},
        "position of node 'a': an epoch is 32 hex digits, found 7",
    ),
    "a short epoch": (
        {"a": ["abcd", 1]},
        "position of node 'a': an epoch is 32 hex digits, found 'abcd'",
    ),
    "an epoch with other letters": (
        {"a": ["z" * 32, 1]},
        f"position of node 'a': an epoch is 32 hex digits, found '{'z' * 32}'",
    ),
    "an epoch with spaces in the place of digits": (
        {"a": ["00 " * 10 + "00", 1]},
        f"position of node 'a': an epoch is 32 hex digits, found '{'00 ' * 10}00'",
    ),
    "an offset that is text": (
        {"a": [HEX, "1"]},
        f"position of node 'a': an offset is 0..{MAX_OFFSET}, found '1'",
    ),
    "an offset that is a fraction": (
        {"a": [HEX, 1.0]},
        f"position of node 'a': an offset is 0..{MAX_OFFSET}, found 1.0",
    ),
    "an offset that is true": (
        {"a": [HEX, True]},
        f"position of node 'a': an offset is 0..{MAX_OFFSET}, found True",
    ),
    "a negative offset": (
        {"a": [HEX, -1]},
        f"position of node 'a': an offset is 0..{MAX_OFFSET}, found -1",
    ),
    "an offset beyond the highest": (
        {"a": [HEX, MAX_OFFSET + 1]},
        f"position of node 'a': an offset is 0..{MAX_OFFSET}, found {MAX_OFFSET + 1}",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_position_is_refused_with_the_spot(case: str) -> None:
    stored, text = WRONG[case]
    with pytest.raises(InvalidPosition) as caught:
        load_positions(stored)
    assert str(caught.value) == text


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | strategies.node_names, inner, max_size=3)
    ),
)


@given(
    _json
    | st.dictionaries(
        strategies.node_names, st.tuples(st.text("0af g", max_size=34), st.integers())
    )
)
def test_any_json_is_a_position_or_is_refused(stored: object) -> None:
    try:
        loaded = load_positions(stored)
    except InvalidPosition:
        return
    assert all(is_node_name(node) for node in loaded)


_epoch = st.binary(min_size=16, max_size=16).map(bytes.hex)


# Near both ends of the offsets: random JSON is a position in one of some thousands of draws.
@given(
    strategies.node_names,
    _epoch | _epoch.map(str.upper) | st.text("0aF g\n", min_size=30, max_size=34),
    st.integers(-2, 2) | st.integers(MAX_OFFSET - 2, MAX_OFFSET + 2) | st.booleans(),
)
def test_a_nearly_valid_place_is_loaded_exactly_or_refused(
    node: str, epoch: str, offset: int
) -> None:
    valid = (
        len(epoch) == 32
        and set(epoch.lower()) <= set("0123456789abcdef")
        and type(offset) is int
        and 0 <= offset <= MAX_OFFSET
    )
    if valid:
        expected = {node: Position(Epoch(bytes.fromhex(epoch)), offset)}
        assert load_positions({node: [epoch, offset]}) == expected
    else:
        with pytest.raises(InvalidPosition):
            load_positions({node: [epoch, offset]})


@pytest.mark.parametrize("name", ["a", "A9", "node-1", "a.b_c-d", "host.example.org", "x" * 64])
def test_node_names(name: str) -> None:
    assert is_node_name(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", ".a", "a.", "_a", "a b", "a\n", "a/b", "é", "x" * 65, "a:1", "*"]
)
def test_invalid_node_names(name: str) -> None:
    assert not is_node_name(name)


# The epoch that names a position.


def test_a_position_has_the_epoch_of_the_message_before_it() -> None:
    view = StreamView(E3, ((E2, 5), (E1, 5), (E0, 3)), 0, 6)
    named = [view.place(offset).epoch for offset in range(7)]
    assert named == [E0, E0, E0, E0, E1, E1, E3]
    assert all(view.contains(view.place(offset)) for offset in range(7))


def test_idle_lives_change_neither_lineage_nor_positions() -> None:
    view = StreamView(E0, (), 0, 4)
    stands = view.place(4)
    for number in range(1, 200):
        view = StreamView(Epoch(number.to_bytes(16)), succeed(view, lost=0)[0], 0, 4)
        assert view.place(4) == stands
        assert view.lineage == ((E0, 4),)


def test_a_life_that_may_have_lost_messages_stays_in_the_lineage() -> None:
    view = StreamView(E1, ((E0, 4),), 0, 4)
    assert succeed(view, lost=0) == (((E0, 4),), ())
    assert succeed(view, lost=None) == (((E1, 4), (E0, 4)), ((E1, None),))
    assert succeed(view, lost=3) == (((E1, 4), (E0, 4)), ((E1, 3),))


def test_a_full_lineage_lets_go_of_what_names_no_position_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "MAX_LINEAGE", 3)
    crashes = StreamView(E3, ((E2, 4), (E1, 4), (E0, 4)), 0, 4)
    assert succeed(crashes, lost=None)[0][-1] == (E0, 4)
    below = StreamView(E3, ((E2, 7), (E1, 6), (E0, 4)), 5, 9)
    assert succeed(below, lost=0) == (((E3, 9), (E2, 7), (E1, 6)), ())
    assert succeed(below, lost=None) == (((E3, 9), (E2, 7), (E1, 6)), ((E3, None),))


def test_a_forgotten_epoch_may_stand_only_before_the_oldest_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "MAX_LINEAGE", 2)
    full = StreamView(E3, ((E2, 7), (E1, 6)), 0, 9)
    assert full.covers(E0, 6)
    assert not full.covers(E0, 7)
    assert full.covers(E2, 7)
    assert not full.covers(E2, 8)
    assert not StreamView(E3, ((E2, 7),), 0, 9).covers(E0, 1)

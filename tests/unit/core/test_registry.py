"""The cursor registry: what moves a cursor, and what may be forgotten without changing an answer."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.builders import E1, at, view

from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_protocol.attach import At, Expired, Reason, Remembered, Resume, resolve
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_PLACES
from pubsubd_protocol.positions import Position

TTL = 100


def room_for(
    registry: CursorRegistry, consumer: str, *, linked: Collection[str] = ()
) -> tuple[bool, str | None]:
    """Whether it is admitted, in a stream whose oldest offset is 10, and who was given up for it."""
    crowd = linked, 10, TTL, 10
    return registry.admits(consumer, *crowd), registry.make_room(consumer, *crowd)


def cursor(registry: CursorRegistry, consumer: str = "b") -> int | None:
    registered = registry.get(consumer)
    return registered.cursor.offset if registered is not None else None


def test_an_acknowledgement_registers_a_consumer() -> None:
    registry = CursorRegistry(4)
    assert (cursor(registry), "b" in registry, len(registry)) == (None, False, 0)
    registry.acknowledge("b", at(7), {}, now_ns=1)
    assert (cursor(registry), "b" in registry, len(registry)) == (7, True, 1)


@given(st.lists(st.integers(0, 100), min_size=1))
def test_a_cursor_never_moves_backwards(offsets: list[int]) -> None:
    registry = CursorRegistry(4)
    for i, offset in enumerate(offsets):
        registry.acknowledge("b", at(offset), {}, now_ns=i)
        assert cursor(registry) == max(offsets[: i + 1])


def test_a_link_alone_registers_nobody() -> None:
    registry = CursorRegistry(4)
    registry.connected("b", True, now_ns=1)
    registry.connected("b", False, now_ns=2)
    assert len(registry) == 0


def test_consumers_are_bounded_and_known_ones_always_admitted() -> None:
    registry = CursorRegistry(2)
    for consumer in ("b", "c"):
        assert room_for(registry, consumer) == (True, None)
        registry.acknowledge(consumer, at(0), {}, now_ns=0)
    assert room_for(registry, "d") == (False, None)
    assert room_for(registry, "b") == (True, None)
    registry.drop("c")
    assert room_for(registry, "d") == (True, None)
    assert room_for(registry, "d", linked={"b", "e"}) == (False, None)


@pytest.mark.parametrize(
    ("away", "given_up"),
    [
        ({"b": (20, 5, False), "c": (20, 4, False)}, "c"),  # away for longest
        ({"b": (9, 5, False), "c": (20, 4, False)}, "b"),  # expired
        ({"b": (9, -TTL, True), "c": (9, 5, False)}, "c"),  # without names, of two that expired
        ({"b": (20, -TTL, True), "c": (20, 5, False)}, "c"),  # without names
        ({"b": (20, -TTL, True), "c": (20, -TTL, True)}, "b"),  # names, after the time-to-live
        ({"b": (9, 5, True), "c": (20, 5, True)}, None),  # names, within it
    ],
)
def test_at_the_bound_the_least_important_consumer_is_given_up(
    away: dict[str, tuple[int, int, bool]], given_up: str | None
) -> None:
    registry = CursorRegistry(3)
    registry.acknowledge("connected", at(0), {}, now_ns=-10 * TTL)
    for consumer, (at_offset, seen_ns, named) in away.items():
        names = {"projector": at(at_offset)} if named else {}
        registry.acknowledge(consumer, at(at_offset), names, now_ns=seen_ns)
        registry.connected(consumer, False, now_ns=seen_ns)
    assert room_for(registry, "d") == (given_up is not None, given_up)
    assert registry.given_up == registry.removed == (given_up is not None)
    assert "connected" in registry


def test_consumers_with_ever_new_names_all_find_room_in_a_quiet_stream() -> None:
    registry = CursorRegistry(3)
    for n in range(20):
        assert room_for(registry, f"container-{n}")[0]
        registry.acknowledge(f"container-{n}", at(0), {}, now_ns=n)
        registry.connected(f"container-{n}", False, now_ns=n)
    assert [name for name, _ in registry.items()] == [
        "container-17",
        "container-18",
        "container-19",
    ]


@given(acknowledged=st.integers(0, 20), oldest=st.integers(0, 20))
def test_giving_up_a_cursor_hides_no_message_from_a_waiting_session(
    acknowledged: int, oldest: int
) -> None:
    """The dropped node gets the stream from the same or a lower offset, or is told of the loss."""
    now = view(oldest, 20)
    kept = resolve(Remembered(waiting=True), now, at(acknowledged))
    given_up = resolve(Remembered(waiting=True), now, None)
    if isinstance(given_up, Resume):
        assert isinstance(kept, Resume)
        assert given_up.offset <= kept.offset
    else:
        assert given_up.reason is Reason.UNSEEN


def test_dropping_is_counted_once() -> None:
    registry = CursorRegistry(2)
    registry.acknowledge("b", at(0), {}, now_ns=0)
    assert registry.drop("b")
    assert not registry.drop("b")
    assert registry.removed == 1


@pytest.mark.parametrize(
    ("connected", "at_offset", "away_ns", "dropped"),
    [
        (False, 9, TTL + 1, True),
        (False, 9, TTL, False),  # not longer than the time-to-live
        (False, 10, TTL + 1, False),  # the ring still holds what it needs
        (True, 9, TTL + 1, False),  # it is there
    ],
)
def test_an_expired_cursor_of_a_long_absent_consumer_is_dropped(
    connected: bool, at_offset: int, away_ns: int, dropped: bool
) -> None:
    registry = CursorRegistry(4)
    registry.acknowledge("b", at(at_offset), {}, now_ns=0)
    registry.connected("b", connected, now_ns=50)
    assert registry.expire(oldest=10, ttl_ns=TTL, now_ns=50 + away_ns) == (["b"] if dropped else [])
    assert ("b" not in registry) == dropped


def test_time_away_counts_from_the_moment_of_leaving() -> None:
    registry = CursorRegistry(4)
    registry.acknowledge("b", at(0), {}, now_ns=0)
    registry.connected("b", False, now_ns=10 * TTL)
    assert registry.expire(oldest=10, ttl_ns=TTL, now_ns=11 * TTL) == []
    assert registry.expire(oldest=10, ttl_ns=TTL, now_ns=11 * TTL + 1) == ["b"]


def test_thousands_come_and_go_and_few_are_kept() -> None:
    registry, oldest = CursorRegistry(50), 0
    for n in range(5000):
        consumer = f"node-{n}"
        now = 10 * n
        registry.expire(oldest, TTL, now)
        registry.acknowledge(consumer, at(n), {"s": at(n)}, now)
        registry.connected(consumer, False, now)
        oldest = n
        assert len(registry) <= 50
    assert registry.removed + len(registry) == 5000


@given(offset=st.integers(0, 30), acknowledged=st.integers(0, 20), oldest=st.integers(0, 20))
def test_dropping_changes_no_answer_to_a_presented_position(
    offset: int, acknowledged: int, oldest: int
) -> None:
    now = view(oldest, 20)
    claim = At(at(offset))
    assert resolve(claim, now, at(acknowledged)) == resolve(claim, now, None)


@given(acknowledged=st.integers(0, 20), oldest=st.integers(0, 20))
def test_dropping_an_expired_cursor_loses_no_message_that_is_left(
    acknowledged: int, oldest: int
) -> None:
    now = view(oldest, 20)
    kept = resolve(Remembered(waiting=False), now, at(acknowledged))
    if acknowledged < oldest:  # only then it may be dropped
        assert isinstance(kept, Expired)
        dropped = resolve(Remembered(waiting=True), now, None)
        assert isinstance(dropped, Expired)
        assert dropped.next == kept.next


# Named sessions.


def test_named_cursors_move_and_go_with_acknowledgements() -> None:
    registry = CursorRegistry(4)
    registry.acknowledge("b", at(5), {"one": at(3), "two": at(4)}, now_ns=0)
    registry.acknowledge("b", at(5), {"one": at(5), "two": None, "never": None}, now_ns=1)
    registered = registry.get("b")
    assert registered is not None
    assert registered.named == {"one": at(5)}
    registry.drop("b")
    registry.acknowledge("b", at(6), {}, now_ns=2)
    registered = registry.get("b")
    assert registered is not None
    assert registered.named == {}


def test_named_cursors_are_bounded() -> None:
    registry = CursorRegistry(4)
    half = MAX_NAMED_SESSIONS // 2
    registry.acknowledge("b", at(0), {f"x{n}": at(n) for n in range(half)}, now_ns=0)
    registry.acknowledge("b", at(0), {f"y{n}": at(n) for n in range(half)}, now_ns=0)
    with pytest.raises(ProtocolError, match=f"{MAX_NAMED_SESSIONS + 1} named sessions of b"):
        registry.acknowledge("b", at(0), {"one more": at(0)}, now_ns=0)


def test_items_are_in_the_order_of_names() -> None:
    registry = CursorRegistry(4)
    for consumer in ("c", "b", "d"):
        registry.acknowledge(consumer, at(0), {}, now_ns=0)
    assert [name for name, _ in registry.items()] == ["b", "c", "d"]


def test_places_elsewhere_are_bounded_and_end_with_their_name() -> None:
    registry = CursorRegistry(2)
    names = [str(number) for number in range(MAX_PLACES // 2)]
    places = {name: {"b": Position(E1, 3), "c": Position(E1, 4)} for name in names}
    registry.acknowledge("b", at(0), {}, 0, places)
    kept = registry.get("b")
    assert kept is not None
    assert kept.places == places
    # The place that was told again is the youngest; the oldest makes room.
    registry.acknowledge(
        "b", at(0), {}, 0, {"0": {"b": Position(E1, 5)}, "new": {"d": Position(E1, 6)}}
    )
    assert len(kept.elsewhere) == MAX_PLACES
    assert kept.places["0"] == {"b": Position(E1, 5)}
    assert kept.places["new"] == {"d": Position(E1, 6)}
    registry.acknowledge("b", at(0), {"1": None, "new": None}, 0, {"new": {"c": Position(E1, 7)}})
    assert "1" not in kept.places, "its name is gone"
    assert kept.places["new"] == {"d": Position(E1, 6), "c": Position(E1, 7)}


def test_a_restored_cursor_of_an_absent_consumer_ends_in_time() -> None:
    registry = CursorRegistry(2)
    registry.restore("b", at(3), {}, now_ns=10)
    assert registry.expire(oldest=4, ttl_ns=5, now_ns=15) == []
    assert registry.expire(oldest=4, ttl_ns=5, now_ns=16) == ["b"]

"""Lives that lost the end of what they accepted: a reader is told of each loss once, at its place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pubsubd_protocol.positions as positions
from pubsubd_protocol.attach import (
    At,
    Earliest,
    Expired,
    FromStart,
    Reason,
    Remembered,
    Resume,
    resolve,
)
from pubsubd_protocol.fields import Wrong, check_view, pack_view
from pubsubd_protocol.positions import Epoch, Position, StreamView, add_lost, succeed


def epoch(number: int) -> Epoch:
    return Epoch(number.to_bytes(16))


E1, E2, E3, E4 = map(epoch, range(1, 5))


@dataclass(frozen=True)
class Life:
    """The messages that a life placed and kept, and the number of accepted ones that are lost; None: unknown."""

    kept: int
    lost: int | None


lives = st.lists(
    st.builds(Life, st.integers(0, 4), st.none() | st.integers(0, 3)), min_size=1, max_size=8
)


def stream(lives: list[Life], oldest: int = 0) -> StreamView:
    """The view of the last of these lives, which has not lost a message yet."""
    view = StreamView(epoch(1), (), 0, lives[0].kept)
    for number, (before, life) in enumerate(pairwise(lives), 2):
        lineage, losses = succeed(view, lost=before.lost)
        view = StreamView(epoch(number), lineage, 0, view.next + life.kept, losses)
    return StreamView(view.epoch, view.lineage, min(oldest, view.next), view.next, view.losses)


def readers(lives: list[Life]) -> list[tuple[int, Position]]:
    """Every place at which a reader can have come to stand, with the number of the life in which it did."""
    found: list[tuple[int, Position]] = []
    for number in range(len(lives)):
        view = stream(lives[: number + 1])
        found += [(number, view.place(offset)) for offset in range(view.next + 1)]
    return found


def rest(view: StreamView, at: Position) -> tuple[list[int], list[tuple[int, int | None]]]:
    """The offsets that a reader gets from `at` on, and of what it is told at which offset."""
    offsets: list[int] = []
    told: list[tuple[int, int | None]] = []
    while True:
        answer = resolve(At(at), view)
        if isinstance(answer, Expired):
            assert answer.reason is Reason.STATE_LOST
            told.append((at.offset, answer.missed))
            assert answer.next == at.offset
            at = view.place(answer.next)
            assert isinstance(resolve(At(at), view), Resume), "what was told is passed"
        if at.offset == view.next:
            return offsets, told
        offsets.append(at.offset)
        # It is named by the epoch that placed what it has read.
        at = view.until(at.offset + 1).place(at.offset + 1)
        behind = view.gaps(view.place(at.offset - 1).epoch)
        if behind and behind[0][0] == at.offset:
            at = Position(
                next(e for e, end in reversed(view.lineage) if end == at.offset), at.offset
            )


@given(lives)
def test_each_reader_gets_all_that_is_left_and_each_loss_in_place(
    lives: list[Life],
) -> None:
    view = stream(lives)
    for number, at in readers(lives):
        offsets, told = rest(view, at)
        assert offsets == list(range(at.offset, view.next))
        expected: dict[int, int | None] = {}
        end = 0
        for later, life in enumerate(lives[:-1]):
            end += life.kept
            before = end > at.offset or later >= number
            named = view.reach(at.epoch) == end and view.gaps(at.epoch)
            if before and life.lost != 0 and (end > at.offset or named):
                expected[end] = add_lost(expected.get(end, 0), life.lost)
        assert told == sorted(expected.items())


@given(lives, st.integers(0, 12))
def test_evicted_and_lost_messages_are_one_figure(lives: list[Life], oldest: int) -> None:
    view, whole = stream(lives, oldest), stream(lives)
    for _, at in readers(lives):
        if at.offset >= view.oldest:
            continue
        answer = resolve(At(at), view)
        _, told = rest(whole, at)
        missed: int | None = view.next - at.offset
        for _, lost in told:
            missed = add_lost(missed, lost)
        reason = Reason.STATE_LOST if told else Reason.OVERWRITTEN
        assert answer == Expired(reason, view.next, missed)


@given(lives, st.integers(1, 4), st.integers(0, 12))
def test_a_lineage_without_room_never_leaves_out_a_loss(
    lives: list[Life], room: int, oldest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "MAX_LINEAGE", room)
        view = stream(lives, oldest)
    whole = stream(lives)
    assert len(view.lineage) <= room
    for _, at in readers(lives):
        answer = resolve(At(at), view)
        if view.reach(at.epoch) is None:
            assert answer == Expired(Reason.STATE_LOST, view.next, None)
        elif at.offset >= view.oldest:
            assert rest(view, at) == rest(whole, at)
        else:
            assert answer == resolve(At(at), stream(lives, oldest))


@given(lives, st.integers(0, 12))
def test_a_views_losses_are_on_the_wire_only_if_it_has_some(lives: list[Life], oldest: int) -> None:
    view = stream(lives, oldest)
    packed = pack_view(view)
    assert check_view(packed) == view
    assert len(packed) == (5 if view.losses else 4)


@pytest.mark.parametrize(
    "losses",
    [[[E3, 1]], [[E1, 1], [E2, 1]], [[E1, 0]], [[E1, -1]], [[E1]], [[E1, 1], [E1, 1]], "x", [E1]],
)
def test_losses_that_do_not_fit_the_lineage_are_refused(losses: object) -> None:
    with pytest.raises((Wrong, ValueError, TypeError)):
        check_view([E4, [[E2, 5], [E1, 3]], 0, 9, losses])


def test_a_lost_end_has_two_places_and_readers_behind_it_go_on() -> None:
    view = StreamView(E2, ((E1, 5),), 0, 9, ((E1, 2),))
    assert view.place(4) == Position(E1, 4)
    assert view.place(5) == Position(E2, 5)
    assert resolve(At(Position(E1, 5)), view) == Expired(Reason.STATE_LOST, 5, 2)
    assert resolve(At(Position(E2, 5)), view) == Resume(5)
    assert resolve(At(Position(E1, 6)), view) == Expired(Reason.AHEAD, 9, None)
    assert view.is_before(Position(E1, 5), Position(E2, 5))
    assert not view.is_before(Position(E2, 5), Position(E1, 5))


def test_a_session_owed_the_whole_stream_is_told_of_its_losses() -> None:
    view = StreamView(E2, ((E1, 0),), 0, 9, ((E1, 2),))
    assert resolve(FromStart(), view) == Expired(Reason.UNSEEN, 0, None)
    assert resolve(Remembered(waiting=True), view) == Expired(Reason.UNSEEN, 0, None)
    assert resolve(Remembered(waiting=False), view) == Resume(9)
    assert resolve(Earliest(), view) == Resume(0)
    registered = Position(E1, 0)
    assert resolve(Remembered(waiting=False), view, registered) == Expired(Reason.STATE_LOST, 0, 2)

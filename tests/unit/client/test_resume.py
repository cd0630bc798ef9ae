"""Positions, duplicates, holes, gaps and acknowledgements of a session. Without sockets."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.client.fake_broker import EPOCH, OTHER_EPOCH, entry, raw_entry

from pubsubd import MSGPACK, CursorExpired, InvalidArgument, InvalidPosition, InvalidTopic, Message
from pubsubd.acks import REMEMBERED_EPOCHS, Acks
from pubsubd.inbox import MAX_WAITING_BYTES, MAX_WAITING_EVENTS, Inbox
from pubsubd.resume import Arrived, Event, Moved, SessionState
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.entries import Entry, part_of
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_SESSION_NAME
from pubsubd_protocol.frames import Ack, Skip, StreamPosition, Subscribed
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.positions import NO_EPOCH, Epoch, Position, StreamView

BORN = b"b" * 16

MANY_NODES = re.escape(
    "a position has 1025 nodes, the limit is 1024: remove the nodes that no longer exist (`del position[node]`); "
    "a missing node counts as never seen"
)

FOREIGN = re.escape(
    "this subscription did not yield message 0 of node a since it was opened: acknowledge only messages that it "
    "yields. Messages that were not acknowledged before come again"
)


def session(**positions: Position) -> SessionState:
    opened = SessionState(("t",), "latest", None, None, True)
    opened.subscribed(Subscribed(positions, BORN, False))
    return opened


def at(offset: int, epoch: Epoch = EPOCH) -> Position:
    return Position(epoch, offset)


def expired(
    next_offset: int,
    missed: int | None = 1,
    node: str = "a",
    epoch: Epoch = EPOCH,
    reason: Reason = Reason.OVERWRITTEN,
) -> Expired:
    return Expired(node, reason, missed, StreamView(epoch, (), next_offset, next_offset))


# Messages received


def test_a_loss_told_again_in_its_place_is_not_handed_out_twice() -> None:
    lost = expired(5, missed=None, reason=Reason.STATE_LOST)
    opened = session(a=at(5))
    assert opened.expired(lost) is lost
    assert opened.expired(lost) is None
    opened.entry(entry(5, 0, 1))
    in_place = expired(7, missed=None, reason=Reason.STATE_LOST)
    assert opened.expired(in_place) is None
    # Another place, or another history, is another loss.
    overrun = expired(9, missed=2)
    assert opened.expired(overrun) is overrun
    restarted = expired(9, missed=None, epoch=OTHER_EPOCH, reason=Reason.STATE_LOST)
    assert opened.expired(restarted) is restarted


def test_only_a_resumed_session_presents_positions() -> None:
    opened = SessionState(("t",), "earliest", None, "n", False)
    assert (opened.resumed, opened.stood, opened.born) == (False, False, None)
    first = opened.subscribe()
    assert (first.positions, first.born, first.start) == (None, None, "earliest")
    opened.subscribed(Subscribed({"a": at(3)}, BORN, True))
    opened.entry(entry(3, 0, 1))
    again = opened.subscribe({"a": at(4)})
    assert (again.positions, again.born, again.name, again.echo) == ({"a": at(5)}, BORN, "n", False)
    assert again.acknowledged == {"a": at(4)}
    assert (opened.resumed, opened.stood, opened.born) == (True, True, BORN)


def test_a_named_session_has_one_id_over_all_of_its_connections() -> None:
    opened = SessionState(("t",), "latest", None, "n", True, b"i" * 16)
    assert opened.subscribe().id == b"i" * 16
    opened.subscribed(Subscribed({}, BORN, False))
    assert opened.subscribe({}).id == b"i" * 16
    assert session().subscribe().id is None


def test_with_too_many_nodes_the_longest_silent_are_forgotten() -> None:
    opened = session()
    for i in range(1030):
        opened.told(StreamPosition(f"n{i}", at(i)))
    unheard = {f"n{i}": 1000.0 - i for i in range(500, 600)}
    done = dict(opened.received)
    asked = opened.subscribe(done, unheard)
    forgotten = {f"n{i}" for i in range(594, 600)}
    assert asked.positions == {n: p for n, p in done.items() if n not in forgotten}
    assert asked.acknowledged == asked.positions == opened.received
    assert opened.subscribe(None, unheard).positions == asked.positions
    assert opened.told(StreamPosition("n599", at(7))) is not None, "it counts as never seen"


def test_a_session_with_too_many_nodes_cannot_be_presented() -> None:
    opened = session()
    for i in range(1024):
        opened.told(StreamPosition(f"n{i}", at(0)))
    assert len(opened.subscribe().positions or {}) == 1024
    opened.told(StreamPosition("n1024", at(0)))
    with pytest.raises(InvalidPosition, match=MANY_NODES):
        opened.subscribe()


def test_the_first_birth_is_kept_over_all_lives_of_the_broker() -> None:
    opened = session(a=at(0))
    opened.subscribed(Subscribed({}, b"c" * 16, True))
    assert opened.subscribe().born == BORN
    assert not opened.resumed


def test_a_session_from_a_stored_position_never_names_a_birth() -> None:
    """A stream that is missing in the position is owed from its first message, also over a second connection."""
    opened = SessionState(("t",), "latest", {"a": at(3)}, None, True)
    opened.subscribed(Subscribed({}, BORN, False))
    assert opened.subscribe().born == NO_EPOCH
    opened.subscribed(Subscribed({}, BORN, False))
    assert opened.subscribe().born == NO_EPOCH
    assert opened.born == BORN


def test_a_given_position_is_presented_without_a_birth_and_stands() -> None:
    opened = SessionState(("t",), "latest", {"a": at(3)}, None, True)
    asked = opened.subscribe()
    assert (asked.positions, asked.born) == ({"a": at(3)}, None)
    news = opened.subscribed(Subscribed({"a": at(9), "b": at(1)}, BORN, False))
    assert [(m.node, m.position) for m in news] == [("b", at(1))]
    assert opened.received == {"a": at(3), "b": at(1)}


def test_an_entry_received_before_is_dropped_and_a_part_of_one_is_cut() -> None:
    opened = session(a=at(5))
    assert opened.entry(entry(3, 0, 1)) is None
    overlaps = entry(4, 0, 1, 2)
    arrived = opened.entry(overlaps)
    assert arrived is not None
    assert arrived.entry is overlaps
    assert arrived.start == 5
    assert opened.received["a"] == at(7)


def test_a_hole_is_a_violation_for_entries_skips_and_told_positions() -> None:
    opened = session(a=at(5))
    hole = "node a goes on at 6, the position is 5"
    with pytest.raises(ProtocolError, match=hole):
        opened.entry(entry(6, 0))
    with pytest.raises(ProtocolError, match=hole):
        opened.skip(Skip("a", EPOCH, 6, 7))
    with pytest.raises(ProtocolError, match=hole) as error:
        opened.told(StreamPosition("a", at(6)))
    assert error.value.kind == "hole"
    assert opened.received == {"a": at(5)}


def test_a_message_before_a_position_is_a_violation() -> None:
    opened = session()
    before = "a message of node a came before a position in its stream"
    with pytest.raises(ProtocolError, match=before):
        opened.entry(entry(0, 0))
    with pytest.raises(ProtocolError, match=before) as error:
        opened.skip(Skip("a", EPOCH, 0, 1))
    assert error.value.kind == "no_position"
    moved = opened.told(StreamPosition("a", at(0)))
    assert moved is not None
    assert (moved.node, moved.position) == ("a", at(0))
    assert opened.entry(entry(0, 0)) is not None


def test_a_skip_moves_the_position_once() -> None:
    opened = session(a=at(5))
    moved = opened.skip(Skip("a", EPOCH, 4, 9))
    assert moved is not None
    assert (moved.node, moved.position) == ("a", at(9))
    assert opened.skip(Skip("a", EPOCH, 4, 9)) is None


def test_a_stream_may_continue_under_a_later_epoch() -> None:
    opened = session(a=at(5))
    assert opened.entry(entry(5, 0, epoch=OTHER_EPOCH)) is not None
    assert opened.received["a"] == at(6, OTHER_EPOCH)


def test_an_expiry_moves_the_position_also_back() -> None:
    opened = session(a=at(50))
    opened.expired(expired(3, epoch=OTHER_EPOCH))
    assert opened.received["a"] == at(3, OTHER_EPOCH)


def test_the_last_pattern_stays() -> None:
    opened = session()
    opened.change_filter(("u", "u"), ("t",))
    assert opened.patterns == ("u",)
    with pytest.raises(InvalidTopic) as error:
        opened.change_filter((), ("u",))
    assert str(error.value) == 'a subscription needs at least one pattern; ">" matches all topics'
    assert opened.patterns == ("u",)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "'' (0 characters)"),
        ("n" * 200, f"'{'n' * 40}' (200 characters)"),
        ("a\nb", "'a\\nb' (3 characters)"),
        (7, "'7' (int)"),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_it_is(name: Any, told: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        SessionState(("t",), "latest", None, name, True)
    assert str(error.value) == (
        f"the name of a subscription is 1 to {MAX_SESSION_NAME} printable characters, not {told}"
    )


# Messages handed out


def inbox(*events: Event, **positions: Position) -> Inbox:
    filled = Inbox(MSGPACK)
    filled.begin(positions)
    for event in events:
        filled.put(event)
    return filled


def pop(filled: Inbox) -> Message:
    """The next message of the entry in hand."""
    filled.spread()
    return filled.messages.pop()


def pop_all(filled: Inbox) -> None:
    """Hand out the rest of the entry in hand, if there is one."""
    if filled.unread is not None:
        filled.take_batch()


def hand(acks: Acks, message: Message) -> None:
    """The application has `message` now."""
    acks.handed(message.node, message.epoch, message.offset, message.offset)


def hand_out(filled: Inbox) -> list[Message | CursorExpired]:
    """All events, as an application takes them."""
    handed: list[Message | CursorExpired] = []
    while filled.in_hand or filled.advance():
        if filled.notice is not None:
            handed.append(filled.notice)
            filled.pass_gap()
        else:
            handed.append(pop(filled))
    return handed


def arrived(item: Entry, start: int | None = None) -> Arrived:
    return Arrived(item, item.first if start is None else start)


def test_messages_before_the_start_are_not_handed_out() -> None:
    handed = hand_out(inbox(arrived(entry(0, 0, 1, 2), 2), a=at(2)))
    assert [m.offset for m in handed if isinstance(m, Message)] == [2]


def test_positions_follow_each_message_and_end_behind_the_entry() -> None:
    mixed = entry(0, 0, 1, 2, topics=("t", "t2", "u"))
    part = part_of(mixed, lambda topic: topic != "u")
    assert part is not None
    filled = inbox(arrived(part), a=at(0))
    assert filled.advance()
    assert filled.positions() == {"a": at(0)}
    pop(filled)
    assert filled.positions() == {"a": at(1)}
    pop(filled)
    assert filled.positions() == {"a": at(3)}


def test_moves_count_only_in_their_turn() -> None:
    filled = inbox(Moved("b", at(1)), arrived(entry(0, 0)), Moved("a", at(9)), a=at(0))
    assert filled.positions() == {"a": at(0), "b": at(1)}
    assert len(hand_out(filled)) == 1
    assert filled.positions() == {"a": at(9), "b": at(1)}


def test_settled_stands_before_the_offset_in_hand() -> None:
    filled = inbox(arrived(entry(0, 0, 1)), a=at(0))
    filled.advance()
    last = pop(filled)
    assert filled.settled(last.offset) == {"a": at(0)}
    assert filled.done(last.offset) == {"a": at(0)}
    pop(filled)
    assert filled.settled(None) == filled.done(None) == {"a": at(2)}


def test_a_gap_counts_when_it_was_passed() -> None:
    filled = inbox(expired(9), a=at(0))
    filled.advance()
    assert filled.positions() == filled.settled(None) == {"a": at(0)}
    filled.told = True
    assert filled.positions() == {"a": at(9)}
    assert filled.settled(None) == {"a": at(0)}
    filled.pass_gap()
    assert filled.settled(None) == {"a": at(9)}


def test_two_expiries_without_a_message_between_are_one_notice() -> None:
    filled = inbox(
        expired(5, missed=2),
        arrived(entry(0, 0, node="b")),
        Moved("a", at(6)),
        expired(9, missed=3),
        Moved("a", at(10)),
    )
    notice, message = hand_out(filled)
    assert isinstance(notice, CursorExpired)
    assert (notice.node, notice.missed, notice.next) == ("a", 5, 9)
    assert message.node == "b", "the first that waits behind the merged notice"
    assert filled.positions()["a"] == at(10)


@pytest.mark.parametrize("between", [0, 1, 2, 3])
def test_expiries_merge_around_waiting_messages_of_other_nodes(
    between: int,
) -> None:
    filled = inbox(expired(5, missed=2), Moved("a", at(6)))
    for i in range(between):
        filled.put(arrived(entry(i, i, node="b")))
    filled.put(expired(9, missed=3))
    first, *others = hand_out(filled)
    assert isinstance(first, CursorExpired)
    assert (first.missed, first.next) == (5, 9)
    assert [m.offset for m in others if isinstance(m, Message)] == list(range(between))
    assert filled.positions()["a"] == at(9)


def test_a_merged_notice_has_the_later_epoch_and_a_known_sum_only() -> None:
    filled = inbox(
        expired(5, missed=2), expired(1, missed=None, epoch=OTHER_EPOCH, reason=Reason.STATE_LOST)
    )
    (notice,) = hand_out(filled)
    assert isinstance(notice, CursorExpired)
    assert (notice.missed, notice.next, notice.epoch) == (None, 1, OTHER_EPOCH.hex())
    assert notice.reason is Reason.STATE_LOST


def test_expiries_with_a_message_between_or_of_two_nodes_stay_two() -> None:
    apart = inbox(expired(5), arrived(entry(5, 0)), expired(9))
    assert [type(e).__name__ for e in hand_out(apart)] == [
        "CursorExpired",
        "Message",
        "CursorExpired",
    ]
    assert len(hand_out(inbox(expired(5), expired(5, node="b")))) == 2


def test_an_expiry_does_not_merge_with_one_in_hand() -> None:
    filled = inbox(expired(5))
    filled.advance()
    filled.put(expired(9))
    assert filled.notice is not None
    assert filled.notice.next == 5
    filled.told = True
    filled.pass_gap()
    assert not filled.told, "the next one has not been told yet"
    assert [e.next for e in hand_out(filled) if isinstance(e, CursorExpired)] == [9]


def test_the_queue_is_full_by_events_or_bytes_and_has_room_below_half() -> None:
    many = inbox(*(arrived(entry(i, i)) for i in range(MAX_WAITING_EVENTS + 1)))
    assert many.full
    while not many.room:
        pop_all(many)
        assert many.advance()
    assert not many.full
    large = inbox(arrived(raw_entry(0, b"x" * (MAX_WAITING_BYTES + 1))))
    assert large.full
    large.advance()
    assert large.room


def test_moves_of_one_node_take_one_place() -> None:
    filled = inbox(*(Moved("a", at(i)) for i in range(1000)))
    assert not filled.full
    assert filled.positions() == {"a": at(999)}


def test_waiting_moves_take_one_place_for_each_run_of_a_node() -> None:
    filled = inbox(arrived(entry(0, 0)), arrived(entry(0, 0, node="b")), a=at(0), b=at(0))
    for i in range(2, 1000):
        assert not filled.put(Moved("a", at(i)))
    assert not filled.full
    filled.put(Moved("b", at(5)))
    filled.put(Moved("a", at(1000)))
    assert len(hand_out(filled)) == 2
    assert filled.positions() == {"a": at(1000), "b": at(5)}


def test_a_move_waits_for_the_messages_of_its_node_that_are_in_hand() -> None:
    filled = inbox(arrived(entry(0, 0, 1)), a=at(0), b=at(0))
    assert filled.advance()
    assert not filled.put(Moved("a", at(9)))
    assert filled.put(Moved("b", at(9))), "nothing of that stream is in hand"
    assert filled.positions() == {"a": at(0), "b": at(9)}
    pop_all(filled)
    assert filled.positions() == {"a": at(9), "b": at(9)}
    assert not filled.advance()
    assert filled.positions() == {"a": at(9), "b": at(9)}


def test_a_gap_that_merges_with_one_that_waits_moves_nothing_yet() -> None:
    filled = inbox(expired(5), a=at(0))
    assert not filled.put(expired(9))
    assert filled.positions() == {"a": at(0)}


def test_an_inbox_that_has_not_begun_stands_nowhere() -> None:
    assert Inbox(MSGPACK).positions() == {}


def test_an_inbox_is_full_beyond_its_bytes_and_has_room_at_half() -> None:
    def half(first: int, more: int = 0) -> Arrived:
        payload = MAX_WAITING_BYTES // 2 - raw_entry(0, b"").size
        return arrived(raw_entry(first, b"x" * (payload + more)))

    filled = inbox(half(0))
    assert filled.room
    filled.put(half(1))
    assert (filled.full, filled.room) == (False, False)
    beyond = inbox(half(0), half(1, more=1))
    assert beyond.full
    assert not inbox(half(0, more=1)).room


def test_an_inbox_is_full_beyond_its_events_and_has_room_at_half() -> None:
    filled = inbox()
    for i in range(MAX_WAITING_EVENTS + 1):
        assert (filled.full, filled.room) == (False, i <= MAX_WAITING_EVENTS // 2)
        filled.put(arrived(entry(i, i)))
    assert filled.full


# Positions that may be acknowledged


def messages(first: int, count: int) -> list[Message]:
    handed = hand_out(inbox(arrived(entry(first, *range(count)))))
    return [m for m in handed if isinstance(m, Message)]


def offsets(acks: Acks, settled: dict[str, Position]) -> list[int]:
    return [ack.position.offset for ack in acks.due(settled, settled, None)]


def test_nothing_is_done_with_while_a_lost_history_waits_to_be_read() -> None:
    lost = expired(2, missed=None, reason=Reason.STATE_LOST)
    filled = inbox(arrived(entry(0, 0, 1)), lost, expired(4, node="b"), a=at(0), b=at(3))
    assert filled.settled(0) == {"a": at(0), "b": at(3)}
    assert filled.done(0) == {"b": at(3)}
    filled.advance()
    pop_all(filled)
    filled.advance()
    assert filled.notice is not None
    assert filled.notice.node == "a"
    assert filled.done(None) == {"b": at(3)}
    filled.pass_gap()
    assert filled.done(None) == {"a": at(2), "b": at(3)}


def test_a_stream_that_begins_with_a_lost_history_is_unread() -> None:
    filled = inbox(expired(2, missed=None, reason=Reason.STATE_LOST), b=at(3))
    assert filled.done(None) == {"b": at(3)}
    assert filled.advance()
    assert filled.done(None) == {"b": at(3)}


def lost_end(end: int, missing: int | None = None, *, next_life: Epoch = OTHER_EPOCH) -> Expired:
    """The end of a life, behind which accepted messages are lost; a later one goes on there."""
    view = StreamView(next_life, ((EPOCH, end),), 0, end, ((EPOCH, missing),))
    return Expired("a", Reason.STATE_LOST, missing, view)


@pytest.mark.parametrize("missing", [None, 7])
def test_resuming_with_an_unread_lost_end_keeps_the_place_before_it(
    missing: int | None,
) -> None:
    """The next life of the name gets the messages before the loss, which the producer holds, and then the notice again."""
    filled = inbox(arrived(entry(0, 0, 1)), lost_end(2, missing), Moved("a", at(2)), a=at(0))
    assert filled.kept(None) == {"a": at(0)}
    filled.advance()
    pop(filled)
    assert filled.kept(1) == {"a": at(1)}
    pop(filled)
    filled.advance()
    assert filled.notice is not None
    assert filled.kept(None) == {"a": at(2)}
    filled.told = True
    assert filled.kept(None) == {"a": at(2)}
    filled.pass_gap()
    assert filled.kept(None) == {"a": at(2)}


def test_resuming_with_an_unread_lost_history_keeps_its_place() -> None:
    lost = expired(5, None, epoch=OTHER_EPOCH, reason=Reason.STATE_LOST)
    filled = inbox(arrived(entry(0, 0, 1)), lost, a=at(0))
    assert filled.kept(None) == {"a": at(0)}
    # A second loss, of the history that went on there, is told with the first.
    filled.put(expired(9, None, epoch=Epoch(b"third epoch 16by"), reason=Reason.STATE_LOST))
    assert filled.kept(None) == {"a": at(0)}


def test_resuming_keeps_only_places_that_repeat_the_loss() -> None:
    in_place = expired(2, None, reason=Reason.STATE_LOST)
    filled = inbox(arrived(entry(0, 0, 1)), in_place, a=at(0), b=at(3))
    assert filled.kept(None) == {"b": at(3)}
    # Two notices became one: the later one alone would name fewer messages.
    filled.put(lost_end(2, 7))
    assert filled.kept(None) == {"b": at(3)}
    hand_out(filled)
    assert filled.kept(None) == {"a": at(2, OTHER_EPOCH), "b": at(3)}
    # A stream of which it knew no place, until it was told that its beginning is lost.
    assert inbox(expired(2, None, reason=Reason.UNSEEN)).kept(None) == {}


def test_what_was_overwritten_leaves_a_session_that_resumes_its_place() -> None:
    filled = inbox(arrived(entry(0, 0, 1)), expired(9, 7), a=at(0))
    assert filled.kept(None) == {"a": at(0)}


def test_all_before_the_start_of_an_unread_stream_is_done() -> None:
    filled = inbox(Moved("b", at(7)), arrived(entry(7, 0, node="b")), a=at(0))
    assert filled.done(None) == {"a": at(0), "b": at(7)}


def test_nothing_is_acknowledged_twice() -> None:
    acks = Acks(manual=False)
    acks.stands({"a": at(0)})
    assert offsets(acks, {"a": at(0)}) == []
    assert offsets(acks, {"a": at(3)}) == [3]
    assert offsets(acks, {"a": at(3)}) == []
    assert acks.resumes({"a": at(3)}) == {"a": at(3)}
    assert offsets(acks, {"a": at(3)}) == [3]


def test_a_read_gap_is_acknowledged_at_the_same_place() -> None:
    acks = Acks(manual=False)
    acks.stands({"a": at(5), "b": at(5)})
    settled = {"a": at(5), "b": at(5)}
    assert acks.due(settled, settled, None) == []
    acks.passed(CursorExpired("a", Reason.OVERWRITTEN, 2, 5, EPOCH.hex()))
    assert acks.due(settled, settled, None) == [Ack("a", at(5))]
    assert acks.due(settled, settled, None) == []


def test_every_place_behind_a_lost_history_says_it_was_read() -> None:
    acks = Acks(manual=False)
    acks.stands({"a": at(5)})
    acks.passed(CursorExpired("a", Reason.STATE_LOST, None, 5, EPOCH.hex()))
    assert acks.due({"a": at(5)}, {"a"}, EPOCH) == [Ack("a", at(5), noticed=True, loss=EPOCH)]
    assert acks.due({"a": at(7)}, {"a"}, EPOCH) == [Ack("a", at(7), noticed=True, loss=EPOCH)]
    other = Position(OTHER_EPOCH, 9)
    assert acks.due({"a": other}, {"a"}, OTHER_EPOCH) == [Ack("a", other, loss=EPOCH)]


def test_manual_never_falls_back_behind_passed_offsets() -> None:
    acks = Acks(manual=True)
    acks.stands({"a": at(0)})
    (first,), (later,) = messages(0, 1), messages(9, 1)
    hand(acks, first)
    acks.acknowledge(first)
    assert offsets(acks, {"a": at(1)}) == [1]
    # Nothing in 1..9 was for the session, and the broker has been told so.
    assert offsets(acks, {"a": at(9)}) == [9]
    hand(acks, later)
    assert offsets(acks, {"a": at(10)}) == []
    acks.acknowledge(later)
    assert offsets(acks, {"a": at(10)}) == [10]


def test_a_resume_says_no_more_than_was_acknowledged_by_hand() -> None:
    acks = Acks(manual=True)
    acks.stands({"a": at(0)})
    first, second = messages(0, 2)
    hand(acks, first)
    hand(acks, second)
    assert acks.resumes({"a": at(2)}) == {"a": at(0)}
    acks.acknowledge(first)
    assert acks.resumes({"a": at(2)}) == {"a": at(1)}


def test_manual_acknowledges_no_further_than_was_said_and_never_back() -> None:
    acks = Acks(manual=True)
    acks.stands({"a": at(0)})
    first, second, third = messages(0, 3)
    for message in (first, second, third):
        hand(acks, message)
    assert offsets(acks, {"a": at(3)}) == []
    acks.acknowledge(second)
    assert offsets(acks, {"a": at(3)}) == [2]
    acks.acknowledge(first)
    assert offsets(acks, {"a": at(3)}) == []


def test_a_manual_acknowledgement_of_the_latest_covers_skips() -> None:
    acks = Acks(manual=True)
    (message,) = messages(0, 1)
    hand(acks, message)
    acks.acknowledge(message)
    assert offsets(acks, {"a": at(40)}) == [40]


def test_manual_does_not_go_back_to_an_earlier_epoch() -> None:
    acks = Acks(manual=True)
    (old,) = messages(50, 1)
    new = hand_out(inbox(arrived(entry(0, 0, 1, epoch=OTHER_EPOCH))))
    hand(acks, old)
    for message in new:
        assert isinstance(message, Message)
        hand(acks, message)
    assert isinstance(new[0], Message)
    acks.acknowledge(new[0])
    acks.acknowledge(old)
    (ack,) = acks.due({"a": at(2, OTHER_EPOCH)}, {"a"}, None)
    assert ack.position == at(1, OTHER_EPOCH)


def of_epoch(number: int, offset: int = 0) -> Message:
    """The message that a life of the producer began with, or a later one of it."""
    epoch = Epoch(number.to_bytes(16))
    (message,) = hand_out(inbox(arrived(entry(offset, 0, epoch=epoch))))
    assert isinstance(message, Message)
    return message


def test_the_first_of_ten_lives_can_be_acknowledged_after_all_of_them() -> None:
    acks = Acks(manual=True)
    lives = [of_epoch(number) for number in range(1, 11)]
    for message in lives:
        hand(acks, message)
    settled = {"a": Position(Epoch((10).to_bytes(16)), 1)}
    assert acks.resumes(settled)["a"].epoch.hex() == lives[0].epoch
    acks.acknowledge(lives[0])
    assert acks.due(settled, settled, None) == [Ack("a", Position(Epoch((1).to_bytes(16)), 1))]
    acks.acknowledge(lives[9])
    acks.acknowledge(lives[4])
    assert acks.due(settled, settled, None) == [Ack("a", settled["a"])]


def test_only_remembered_epochs_can_be_acknowledged() -> None:
    acks = Acks(manual=True)
    lives = [of_epoch(number) for number in range(1, REMEMBERED_EPOCHS + 2)]
    for message in lives[:-1]:
        hand(acks, message)
    settled = {"a": Position(Epoch(len(lives).to_bytes(16)), 1)}
    acks.acknowledge(lives[0])
    assert acks.resumes(settled) == {"a": Position(Epoch((1).to_bytes(16)), 1)}
    hand(acks, lives[-1])
    acks.acknowledge(lives[0])
    assert acks.resumes(settled) == {"a": Position(Epoch((1).to_bytes(16)), 1)}
    # Behind a place in an epoch that is forgotten lies all that is remembered.
    acks.acknowledge(lives[1])
    assert acks.resumes(settled) == {"a": Position(Epoch((2).to_bytes(16)), 1)}


def test_a_message_of_a_forgotten_epoch_changes_nothing() -> None:
    acks = Acks(manual=True)
    lives = [of_epoch(number) for number in range(1, 3 * REMEMBERED_EPOCHS)]
    for message in lives:
        hand(acks, message)
    settled = {"a": Position(Epoch(len(lives).to_bytes(16)), 1)}
    begins = acks.resumes(settled)
    acks.acknowledge(lives[5])
    assert acks.resumes(settled) == begins
    acks.acknowledge(lives[-2])
    assert acks.resumes(settled)["a"].epoch.hex() == lives[-2].epoch
    acks.acknowledge(lives[5])
    assert acks.resumes(settled)["a"].epoch.hex() == lives[-2].epoch
    acks.acknowledge(lives[-1])
    assert acks.resumes(settled) == settled


def test_a_message_before_and_behind_a_gap_can_be_acknowledged() -> None:
    acks = Acks(manual=True)
    (before,), (behind,) = messages(0, 1), messages(50, 1)
    hand(acks, before)
    acks.passed(CursorExpired("a", Reason.OVERWRITTEN, 49, 50, EPOCH.hex()))
    hand(acks, behind)
    acks.acknowledge(before)
    assert offsets(acks, {"a": at(51)}) == [1]
    acks.acknowledge(behind)
    assert offsets(acks, {"a": at(51)}) == [51]


def test_a_message_acknowledged_in_an_earlier_life_changes_nothing() -> None:
    acks = Acks(manual=True)
    acks.stands({"a": at(3)})
    acks.acknowledge(messages(2, 1)[0])
    assert offsets(acks, {"a": at(3)}) == []
    with pytest.raises(InvalidPosition, match="this subscription did not yield"):
        acks.acknowledge(messages(3, 1)[0])


def test_a_message_of_an_earlier_life_changes_nothing() -> None:
    acks = Acks(manual=True)
    acks.stands({"a": at(3)}, resumed=True)
    acks.acknowledge(of_epoch(7))
    hand(acks, messages(3, 1)[0])
    acks.acknowledge(of_epoch(7))
    assert offsets(acks, {"a": at(4)}) == []
    acks.acknowledge(messages(3, 1)[0])
    assert offsets(acks, {"a": at(4)}) == [4]


@pytest.mark.parametrize("foreign", [(3, 1), (9, 1)])
def test_a_message_of_another_subscription_is_refused(
    foreign: tuple[int, int],
) -> None:
    acks = Acks(manual=True)
    acks.stands({"a": at(0)})
    for message in messages(0, 3):
        hand(acks, message)
    with pytest.raises(InvalidPosition, match="this subscription did not yield"):
        acks.acknowledge(messages(*foreign)[0])
    with pytest.raises(InvalidPosition, match="this subscription did not yield"):
        acks.acknowledge(of_epoch(7))
    assert acks.resumes({"a": at(3)}) == {"a": at(0)}


def test_a_message_from_elsewhere_is_not_acknowledged() -> None:
    with pytest.raises(InvalidPosition, match=FOREIGN):
        Acks(manual=True).acknowledge(messages(0, 1)[0])


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize(
    "over", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy]
)
def test_a_message_goes_to_another_process_and_keeps_its_payload(
    over: Callable[[Message], Message], looked: bool
) -> None:
    (message,) = messages(3, 1)
    if looked:
        assert message.payload == 0
    there = over(message)
    assert (there.payload, there.offset, there.node, there.raw) == (0, 3, "a", message.raw)


# Frames that still come as the application closes


def test_a_closed_inbox_moves_and_hands_out_nothing_more() -> None:
    filled = inbox(a=at(0), b=at(0))
    filled.close()
    assert filled.put(Moved("a", at(9)))
    assert not filled.put(arrived(entry(0, 0, node="b")))
    assert not filled.put(Moved("b", at(7)))
    assert not filled.advance()
    assert filled.positions() == {"a": at(9), "b": at(0)}


def test_a_closed_inbox_does_not_move_past_an_unread_loss() -> None:
    filled = inbox(a=at(0))
    filled.close()
    filled.put(expired(5))
    filled.put(Moved("a", at(9)))
    assert filled.positions() == {"a": at(0)}


def test_a_position_follows_moves_of_a_stream_while_another_waits() -> None:
    filled = inbox(arrived(entry(0, 0)), a=at(0), b=at(0))
    assert filled.put(Moved("b", at(4)))
    assert not filled.put(Moved("a", at(9)))
    assert filled.positions() == {"a": at(0), "b": at(4)}
    hand_out(filled)
    assert filled.positions() == {"a": at(9), "b": at(4)}


def test_a_move_waits_behind_the_messages_in_hand() -> None:
    filled = inbox(arrived(entry(0, 0, 1)), Moved("a", at(9)), a=at(0))
    assert filled.advance()
    pop(filled)
    assert filled.settled(1) == {"a": at(1)}
    assert filled.positions() == {"a": at(1)}

"""Recovery gives an unbroken run of entries that were really appended, and promises no more, from any bytes on disk."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.builders import E1, E2, E3, E4, PUBLISHER, at, entry
from tests.unit.core.journal.disk import Disk, by_its_own_word

import pubsubd_protocol.positions as positions
from pubsubd_broker.core.journal.checkpoint import (
    Checkpoint,
    KeptConsumer,
    encode_checkpoint,
    encode_cursor,
    encode_session,
)
from pubsubd_broker.core.journal.journal import Fsync, Journal
from pubsubd_broker.core.journal.records import FIRST_BYTES, FORMAT, Kind, first_line, record, scan
from pubsubd_broker.core.journal.recovery import (
    SEQUENCE,
    JournalError,
    Recovered,
    UnknownFormat,
    recover,
)
from pubsubd_broker.core.journal.whole_end import RecoveredEnd
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import MAX_LINEAGE, Epoch, Lineage, Losses, Position

OTHER = b"o" * 16
"""Another publisher."""


def begins(
    following: int,
    epoch: Epoch = E1,
    *lineage: tuple[Epoch, int],
    node: str = "a",
    consumers: dict[str, KeptConsumer] | None = None,
    publishers: dict[bytes, int] | None = None,
    sessions: dict[str, dict[str, Position]] | None = None,
    durable: bool = False,
    losses: Losses = (),
) -> bytes:
    """The beginning of a segment whose first entry is the one at `following`."""
    state = Checkpoint(
        node, epoch, lineage, following, consumers or {}, publishers or {}, sessions or {}, durable
    )
    state.losses = losses
    return FIRST_BYTES + b"".join(record(Kind.CHECKPOINT, encode_checkpoint(state)))


def holds(entry: Entry, sequence: int = 1) -> bytes:
    return b"".join(record(Kind.ENTRY, SEQUENCE.pack(sequence), *entry.wire))


def run(first: int, following: int, epoch: Epoch = E1, *, node: str = "a") -> bytes:
    """Entries of one message each."""
    return b"".join(holds(entry(n, epoch=epoch, node=node)) for n in range(first, following))


def cursor(name: str, offset: int | None, epoch: Epoch = E1) -> bytes:
    consumer = None if offset is None else KeptConsumer(at(offset, epoch), {})
    return b"".join(record(Kind.CURSOR, encode_cursor(name, consumer)))


def session(name: str, positions: dict[str, Position] | None) -> bytes:
    return b"".join(record(Kind.SESSION, encode_session(name, positions)))


def ends() -> bytes:
    return b"".join(record(Kind.END))


def found(*segments: bytes) -> Recovered:
    """Recovers segments 1, 2, 3 …"""
    recovered = recover("a", enumerate(segments, 1), by_its_own_word)
    assert recovered is not None
    return recovered


def offsets(recovered: Recovered) -> list[int]:
    """Offsets of the entries, checked to begin at `first` and to end at `next`."""
    taken = [entry.first for entry in recovered.entries]
    assert len(recovered.sequences) == len(taken)
    assert recovered.first == (taken[0] if taken else recovered.next)
    assert recovered.next == (recovered.entries[-1].next if taken else recovered.first)
    return taken


def lost(recovered: Recovered) -> list[tuple[int, list[int]]]:
    """Segments with damage, and what went with it."""
    return [(damage.segment, list(damage.lost)) for damage in recovered.damage]


# Whole records.


def test_without_segments_nothing_is_recovered() -> None:
    assert recover("a", [], by_its_own_word) is None


def test_a_journal_with_only_a_checkpoint_stands_where_that_says() -> None:
    recovered = found(begins(7, E2, (E1, 7)))
    assert offsets(recovered) == []
    assert (recovered.first, recovered.next) == (7, 7)
    assert recovered.lineage == ((E2, 7), (E1, 7))
    assert recovered.segments == []
    assert recovered.damage == []


def test_entries_are_taken_byte_for_byte_with_their_publishers_numbers() -> None:
    written = [entry(4, 3, payload=b"x" * 5000), entry(7), entry(8, 2, topics=["t", "u"])]
    recovered = found(begins(4) + b"".join(holds(e, 10 * e.first) for e in written))
    assert offsets(recovered) == [4, 7, 8]
    assert [b"".join(e.wire) for e in recovered.entries] == [b"".join(e.wire) for e in written]
    assert recovered.sequences == [40, 70, 80]
    assert recovered.next == 10
    assert recovered.lineage == ((E1, 10),)


def test_segments_follow_on_one_another() -> None:
    recovered = found(begins(0) + run(0, 3), begins(3), begins(3) + run(3, 5))
    assert offsets(recovered) == [0, 1, 2, 3, 4]
    assert recovered.segments == [(1, 3), (3, 5)]
    assert recovered.damage == []


def test_a_later_life_goes_on_in_a_segment_of_its_own() -> None:
    recovered = found(
        begins(0) + run(0, 3),
        begins(3, E2, (E1, 3)) + run(3, 5, E2),
        begins(5, E3, (E2, 5), (E1, 3)),
    )
    assert offsets(recovered) == [0, 1, 2, 3, 4]
    assert recovered.lineage == ((E3, 5), (E2, 5), (E1, 3))


def test_other_state_is_that_of_the_last_segment_and_its_records() -> None:
    recovered = found(
        begins(0, consumers={"gone": KeptConsumer(at(0))}) + run(0, 2) + cursor("b", 1),
        begins(
            2,
            consumers={"b": KeptConsumer(at(1), {"n": at(1)}), "c": KeptConsumer(at(2))},
            sessions={"s": {"a": at(1)}, "t": {"b": at(9, E4)}},
        )
        + cursor("c", None)
        + session("s", {"a": at(2)})
        + run(2, 4)
        + cursor("b", 3)
        + cursor("d", 4)
        + session("t", None)
        + session("u", {}),
    )
    assert recovered.state.consumers == {"b": KeptConsumer(at(3)), "d": KeptConsumer(at(4))}
    assert recovered.state.sessions == {"s": {"a": at(2)}, "u": {}}
    assert offsets(recovered) == [0, 1, 2, 3]


def test_publishers_come_from_the_last_segment_receipts_from_entries() -> None:
    recovered = found(
        begins(0, publishers={PUBLISHER: 1}) + holds(entry(0), 2),
        begins(1, publishers={OTHER: 8, PUBLISHER: 2})
        + holds(entry(1, publisher=OTHER), 9)
        + holds(entry(2), 3),
    )
    assert list(recovered.state.publishers.items()) == [(OTHER, 8), (PUBLISHER, 2)]
    placed = zip(recovered.entries, recovered.sequences, strict=True)
    assert [(e.publisher, sequence) for e, sequence in placed] == [
        (PUBLISHER, 2),
        (OTHER, 9),
        (PUBLISHER, 3),
    ]


def test_a_snapshot_holds_entries_of_several_lives() -> None:
    recovered = found(
        begins(3, E3, (E2, 6), (E1, 4)) + run(3, 4, E1) + run(4, 6, E2) + run(6, 8, E3)
    )
    assert offsets(recovered) == [3, 4, 5, 6, 7]
    assert recovered.lineage == ((E3, 8), (E2, 6), (E1, 4))
    assert recovered.damage == []


# Damaged and torn records.


def test_a_torn_tail_is_cut_off_and_the_history_ends_there() -> None:
    whole = begins(2, E2, (E1, 2)) + run(2, 5, E2)
    torn = whole + run(5, 6, E2)
    for cut in range(len(whole), len(torn)):
        recovered = found(begins(0) + run(0, 2), torn[:cut])
        assert offsets(recovered) == [0, 1, 2, 3, 4], f"cut at {cut}"
        assert recovered.lineage == ((E2, 5), (E1, 2))
        assert recovered.segments == [(1, 2), (2, 5)]
        assert lost(recovered) == ([(2, [])] if cut > len(whole) else [])


def test_records_behind_a_broken_one_are_not_believed() -> None:
    broken = bytearray(run(3, 4))
    broken[-1] ^= 1
    recovered = found(begins(0) + run(0, 3) + cursor("b", 2) + bytes(broken) + cursor("b", 4))
    assert offsets(recovered) == [0, 1, 2]
    assert recovered.state.consumers == {"b": KeptConsumer(at(2))}
    assert recovered.lineage == ((E1, 3),)


def test_damage_in_an_older_segment_leaves_only_what_follows_it() -> None:
    first = begins(0) + run(0, 3)
    recovered = found(first[:-1], begins(3) + run(3, 5), begins(5) + run(5, 6))
    assert offsets(recovered) == [3, 4, 5]
    assert recovered.segments == [(2, 5), (3, 6)]
    assert lost(recovered) == [(1, []), (1, [0, 1, 2])]
    assert recovered.lineage == ((E1, 6),)


def test_damage_behind_a_segments_last_entry_costs_no_entry() -> None:
    torn = cursor("b", 3)[:-1]
    recovered = found(begins(0) + run(0, 3) + torn, begins(3, consumers={"b": KeptConsumer(at(3))}))
    assert offsets(recovered) == [0, 1, 2]
    assert recovered.state.consumers == {"b": KeptConsumer(at(3))}
    assert lost(recovered) == [(1, [])]


def test_a_flipped_bit_costs_what_its_place_says_and_no_more() -> None:
    heads = [begins(0), begins(2), begins(4)]
    entries = [holds(entry(n)) for n in range(6)]
    segments = [heads[n] + entries[2 * n] + entries[2 * n + 1] for n in range(3)]
    for number, segment in enumerate(segments):
        ends = [len(heads[number]) + sum(map(len, entries[2 * number :][:n])) for n in range(3)]
        for at_byte in range(len(segment)):
            damaged = list(segments)
            damaged[number] = (
                segment[:at_byte] + bytes([segment[at_byte] ^ 0x40]) + segment[at_byte + 1 :]
            )
            left = sum(end <= at_byte for end in ends) - 1
            if number == 2:
                kept = range(4 + max(0, left))
            else:
                kept = range(2 * number + 2, 6)
            where = f"byte {at_byte} of segment {number + 1}"
            recovered = found(*damaged)
            assert offsets(recovered) == list(kept), where
            assert recovered.lineage == ((E1, kept.stop),), where
            assert recovered.damage, where


def test_a_missing_segment_leaves_only_what_follows_it() -> None:
    segments = [begins(0) + run(0, 3), begins(3) + run(3, 5), begins(5) + run(5, 6)]
    recovered = recover("a", [(1, segments[0]), (3, segments[2])], by_its_own_word)
    assert recovered is not None
    assert offsets(recovered) == [5]
    assert recovered.segments == [(3, 6)]
    assert lost(recovered) == [(1, [0, 1, 2, 3, 4])]


def test_a_missing_segment_that_held_no_entry_costs_none() -> None:
    segments = [begins(0) + run(0, 3), begins(3), begins(3) + run(3, 5)]
    recovered = recover("a", [(1, segments[0]), (3, segments[2])], by_its_own_word)
    assert recovered is not None
    assert offsets(recovered) == [0, 1, 2, 3, 4]
    assert recovered.damage == []


def test_without_the_oldest_segment_the_rest_is_kept() -> None:
    recovered = recover(
        "a", [(8, begins(20) + run(20, 22)), (9, begins(22) + run(22, 23))], by_its_own_word
    )
    assert recovered is not None
    assert offsets(recovered) == [20, 21, 22]
    assert recovered.segments == [(8, 22), (9, 23)]
    assert recovered.damage == []


@pytest.mark.parametrize(
    "unreadable",
    [
        b"",
        bytes(4096),
        b"something else",
        FIRST_BYTES,
        FIRST_BYTES[:-1],
        begins(3)[:-1],
        FIRST_BYTES + run(3, 4),
        FIRST_BYTES + b"".join(record(Kind.CHECKPOINT, b"\x90")),
    ],
)
def test_a_segment_without_a_readable_beginning_is_like_a_missing_one(unreadable: bytes) -> None:
    older, newer = begins(0) + run(0, 3), begins(5) + run(5, 6)
    last = found(older, unreadable)
    assert offsets(last) == [0, 1, 2]
    assert last.segments == [(1, 3)]
    assert lost(last) == [(2, [])]
    between = found(older, unreadable, newer)
    assert offsets(between) == [5]
    assert between.segments == [(3, 6)]
    assert lost(between) == [(2, []), (1, [0, 1, 2, 3, 4])]
    first = found(unreadable, newer)
    assert offsets(first) == [5]
    assert first.segments == [(2, 6)]
    assert recover("a", [(1, unreadable)], by_its_own_word) is None


def test_an_abandoned_tail_is_not_kept() -> None:
    recovered = found(
        begins(0) + holds(entry(0, 2), 1) + holds(entry(2, 2), 2) + holds(entry(4, 3), 3),
        begins(4, E2, (E1, 4)) + holds(entry(4, 2, epoch=E2), 7),
    )
    assert offsets(recovered) == [0, 2, 4]
    assert recovered.entries[-1].epoch == E2
    assert recovered.sequences == [1, 2, 7]
    assert recovered.segments == [(1, 4), (2, 6)]
    assert recovered.lineage == ((E2, 6), (E1, 4))
    assert recovered.damage == []


def test_an_abandoned_tail_may_reach_over_several_segments() -> None:
    recovered = found(
        begins(0) + run(0, 3),
        begins(3) + run(3, 5),
        begins(2, E2, (E1, 2)) + run(2, 4, E2),
    )
    assert offsets(recovered) == [0, 1, 2, 3]
    assert [e.epoch for e in recovered.entries] == [E1, E1, E2, E2]
    assert recovered.segments == [(1, 2), (3, 4)]


def test_a_segment_that_begins_inside_an_entry_does_not_follow_on() -> None:
    recovered = found(begins(0) + holds(entry(0, 4)) + holds(entry(4, 4)), begins(6) + run(6, 8))
    assert offsets(recovered) == [6, 7]
    assert recovered.segments == [(2, 8)]
    assert lost(recovered) == [(1, [0, 1, 2, 3, 4, 5])]


@pytest.mark.parametrize(
    "wrong",
    [
        holds(entry(4)),
        holds(entry(2)),
        holds(entry(3, node="b")),
        holds(entry(3, epoch=E4)),
        b"".join(record(Kind.ENTRY, b"short")),
        b"".join(record(Kind.ENTRY, SEQUENCE.pack(1), b"no frame of an entry")),
        b"".join(record(Kind.CURSOR, b"\x90")),
        b"".join(record(Kind.SESSION, b"\xc1")),
        begins(3)[len(FIRST_BYTES) :],
        b"flip" + run(3, 4)[4:],
    ],
    ids=[
        "hole",
        "again",
        "other node",
        "other life",
        "short",
        "no entry",
        "cursor",
        "session",
        "head",
        "flip",
    ],
)
def test_a_record_that_can_not_stand_there_ends_the_segment(wrong: bytes) -> None:
    recovered = found(begins(0) + run(0, 3) + wrong + run(3, 4) + cursor("b", 1))
    assert offsets(recovered) == [0, 1, 2]
    assert recovered.state.consumers == {}
    assert lost(recovered) == [(1, [])]


def test_an_entry_beyond_its_lifes_end_is_not_in_a_later_one() -> None:
    recovered = found(begins(0, E2, (E1, 2)) + run(0, 3, E1) + run(3, 4, E2))
    assert offsets(recovered) == [0, 1]
    assert recovered.lineage == ((E2, 2), (E1, 2))


# Folders of other nodes and formats.


def test_the_journal_of_another_node_is_refused() -> None:
    with pytest.raises(JournalError, match="of node 'b', this is 'a'"):
        found(begins(0) + run(0, 1), begins(1, node="b"))


@pytest.mark.parametrize("version", [0, FORMAT + 1, 12, 999_999_999])
@pytest.mark.parametrize("following", [b"", b"anything", begins(0)[len(FIRST_BYTES) :]])
def test_a_format_that_is_not_known_is_refused_and_says_what_to_do(
    version: int, following: bytes
) -> None:
    unknown = first_line(version) + following
    says = f"has format {version}, this version reads 1 to {FORMAT}: start the"
    for segments in ([unknown], [begins(0), unknown], [unknown, begins(0)], [b"bad", unknown]):
        with pytest.raises(UnknownFormat, match=says):
            found(*segments)


def as_format(version: int, segment: bytes) -> bytes:
    """The same without what came later.

    Format 3 has brought losses, and cursors that are positions. Format 2 had brought whether the life was durable,
    holders, and the record of a clean end.
    """

    def with_an_offset(consumer: list[Any] | None) -> list[Any] | None:
        return None if consumer is None else [consumer[0][1], consumer[1]]

    records = [*scan(segment)]
    state = msgpack.unpackb(records[0][1])[: {1: -3, 2: -1}[version]]
    state[5] = {name: with_an_offset(consumer) for name, consumer in state[5].items()}
    old = [first_line(version), *record(Kind.CHECKPOINT, msgpack.packb(state))]
    for kind, body, _ in records[1:]:
        if kind == Kind.CURSOR:
            *name, consumer = msgpack.unpackb(body)
            body = msgpack.packb([*name, with_an_offset(consumer)])
        if kind != Kind.END or version > 1:
            old += record(Kind(kind), body)
    return b"".join(old)


def test_segments_of_format_1_are_read_alone_and_below_newer_ones() -> None:
    older = begins(0, consumers={"b": KeptConsumer(at(2))}, durable=True) + run(0, 3) + ends()
    newer = begins(3, E2, (E1, 3), durable=True) + run(3, 5, E2) + ends()
    for segments in ([as_format(1, older)], [as_format(1, older), newer], [older, newer]):
        recovered = found(*segments)
        assert recovered.damage == []
        assert offsets(recovered) == [*range(recovered.next)]
    alone = found(as_format(1, older))
    assert (alone.next, alone.state.consumers, alone.format) == (3, {"b": KeptConsumer(at(2))}, 1)
    # That format proves no clean end: who read more than this is told so.
    assert not alone.ended
    assert alone.losses == ((E1, None),)
    assert found(as_format(1, older), newer).format == FORMAT


def test_segments_of_format_2_are_read_alone_and_below_newer_ones() -> None:
    first = begins(0, consumers={"b": KeptConsumer(at(2))}) + run(0, 3) + cursor("c", 1) + ends()
    second = (
        begins(3, E2, (E1, 3), consumers={"b": KeptConsumer(at(3)), "c": KeptConsumer(at(1))})
        + run(3, 5, E2)
        + cursor("c", 4, E2)
        + ends()
    )
    third = begins(5, E3, (E2, 5), (E1, 3)) + run(5, 6, E3) + ends()
    older, newer = as_format(2, first), as_format(2, second)
    for segments in ([older], [older, newer], [older, newer, third], [older, second, third]):
        recovered = found(*segments)
        assert recovered.damage == []
        assert offsets(recovered) == [*range(recovered.next)]
        # That format proves a clean end, and knows of no loss.
        assert (recovered.ended, recovered.lost, recovered.losses) == (True, 0, ())
    assert found(older, newer, third).format == FORMAT
    both = found(older, newer)
    assert (both.format, both.lineage) == (2, ((E2, 5), (E1, 3)))
    # Its cursors were offsets: they are named as every reader there names them.
    assert both.state.consumers == {"b": KeptConsumer(at(3, E1)), "c": KeptConsumer(at(4, E2))}


def test_an_unended_life_of_format_2_has_an_unknown_loss() -> None:
    torn = found(as_format(2, begins(0) + run(0, 3)))
    assert (torn.ended, torn.lost, torn.losses) == (False, None, ((E1, None),))


def test_losses_of_earlier_lives_come_back_with_the_last_one() -> None:
    before = begins(3, E2, (E1, 3), losses=((E1, 2),)) + run(3, 5, E2)
    assert found(before).losses == ((E2, None), (E1, 2))
    assert found(before + ends()).losses == ((E1, 2),)
    assert found(before + ends()).lineage == ((E2, 5), (E1, 3))


def test_cursors_come_back_on_their_own_side_of_a_gap() -> None:
    recovered = found(
        begins(3, E2, (E1, 3), losses=((E1, 2),), consumers={"b": KeptConsumer(at(3, E1))})
        + cursor("c", 3, E2)
        + run(3, 4, E2)
    )
    assert recovered.state.consumers == {"b": KeptConsumer(at(3, E1)), "c": KeptConsumer(at(3, E2))}


# Promises of the recovery.


def test_cursors_are_no_further_than_the_stream() -> None:
    recovered = found(
        begins(0, consumers={"b": KeptConsumer(at(9), {"n": at(9)}), "c": KeptConsumer(at(1))})
        + run(0, 3)
        + cursor("d", 4)
        + cursor("e", 3)
    )
    places = {name: consumer.cursor for name, consumer in recovered.state.consumers.items()}
    assert places == {"b": at(3), "c": at(1), "d": at(3), "e": at(3)}
    # A named session's position says of which history it is: the attach rule judges it.
    assert recovered.state.consumers["b"].named == {"n": at(9)}


def test_no_earlier_life_reaches_further_than_what_is_left() -> None:
    torn = begins(2, E3, (E2, 8), (E1, 5)) + run(2, 5, E1) + run(5, 8, E2)
    assert found(torn).lineage == ((E3, 8), (E2, 8), (E1, 5))
    assert found(torn[: -len(run(7, 8, E2)) - 1]).lineage == ((E3, 6), (E2, 6), (E1, 5))
    assert found(torn[: -len(run(5, 8, E2)) - 1]).lineage == ((E3, 4), (E2, 4), (E1, 4))


def a_life(number: int) -> Epoch:
    return Epoch(number.to_bytes(16))


def lives(first: int, last: int) -> Lineage:
    """A lineage of lives with one message each, newest first."""
    return tuple((a_life(number), number + 1) for number in range(last, first - 1, -1))


def test_a_lineage_holds_the_newest_lives_that_a_frame_takes() -> None:
    before = lives(0, MAX_LINEAGE - 1)
    recovered = found(begins(MAX_LINEAGE, a_life(MAX_LINEAGE), *before))
    assert len(before) == MAX_LINEAGE
    assert recovered.lineage == ((a_life(MAX_LINEAGE), MAX_LINEAGE), *before[:-1])
    assert recovered.forgotten == (before[-1],)


def test_the_end_is_judged_once_and_by_all_that_its_bytes_tell() -> None:
    judged: list[RecoveredEnd] = []

    def judge(end: RecoveredEnd) -> int | None:
        judged.append(end)
        return 7

    segments = [begins(0, E1) + run(0, 3), begins(3, E2, (E1, 3)) + run(3, 5, E2) + ends()]
    recovered = recover("a", enumerate(segments), judge)
    assert recovered is not None
    assert judged == [RecoveredEnd("a", E2, ((E1, 3),), 5, promised=True)]
    assert (recovered.lost, recovered.losses) == (7, ((E2, 7),))


FEW_LIVES = 10
"""A lineage that is full with 10 lives is judged like the longest one."""


@pytest.mark.parametrize(
    ("lossy", "kept_from", "missing"),
    [((0,), 0, 0), ((0,), 0, 2), ((FEW_LIVES - 1, 0), 1, None)],
)
def test_a_loss_behind_a_full_lineage_costs_no_entries(
    missing: int | None,
    lossy: tuple[int, ...],
    kept_from: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last life placed nothing and did not end. Only a loss at the very end before it needs room for its place, too."""
    monkeypatch.setattr(positions, "MAX_LINEAGE", FEW_LIVES)
    before = lives(0, FEW_LIVES - 1)
    segments = [
        begins(n, a_life(n), *before[FEW_LIVES - n :]) + run(n, n + 1, a_life(n))
        for n in range(FEW_LIVES)
    ]
    losses = tuple((a_life(n), 1) for n in lossy)
    segments.append(begins(FEW_LIVES, a_life(FEW_LIVES), *before, losses=losses))
    recovered = recover("a", enumerate(segments), lambda end: missing)
    assert recovered is not None
    assert offsets(recovered) == [*range(kept_from, FEW_LIVES)]
    assert recovered.lost == missing


def test_a_life_without_a_message_takes_no_place_in_the_lineage() -> None:
    older = begins(0, E1) + run(0, 3)
    idle = begins(3, E2, (E1, 3))
    assert found(older, idle + ends()).lineage == ((E1, 3),)
    assert found(older, begins(3, E2, (E1, 3), durable=True)).lineage == ((E1, 3),)
    used = begins(3, E2, (E1, 3)) + run(3, 4, E2) + ends()
    assert found(older, used).lineage == ((E2, 4), (E1, 3))


def test_a_life_that_may_have_placed_what_was_lost_keeps_its_place() -> None:
    """Readers of that life are told `ahead`, not that its history is unknown."""
    older = begins(0, E1) + run(0, 3)
    idle = begins(3, E2, (E1, 3))
    torn = begins(3, E2, (E1, 3), durable=True) + run(3, 4, E2)[:-1]
    for last in (idle, idle + ends() + cursor("d", 3), idle + ends()[:-1], torn):
        assert found(older, last).lineage == ((E2, 3), (E1, 3))
    assert found(older, idle + ends(), b"unreadable").lineage == ((E2, 3), (E1, 3))


def test_the_first_life_of_all_keeps_its_place_whatever_it_placed() -> None:
    assert found(begins(0, E1) + ends()).lineage == ((E1, 0),)


def test_entries_of_a_life_for_which_the_lineage_has_no_room_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are whole and were made durable: readers can go through them, though none can resume in their midst."""
    monkeypatch.setattr(positions, "MAX_LINEAGE", 3)
    segments = [begins(0, a_life(0)) + run(0, 2, a_life(0))]
    for number in range(1, 6):
        earlier = tuple((a_life(n), n + 2) for n in range(number - 1, -1, -1))[:3]
        segments.append(
            begins(number + 1, a_life(number), *earlier)
            + run(number + 1, number + 2, a_life(number))
        )
    recovered = found(*segments)
    assert offsets(recovered) == [*range(7)]
    assert recovered.lineage == ((a_life(5), 7), (a_life(4), 6), (a_life(3), 5))
    assert [number for number, _ in recovered.segments] == [*range(1, 7)]


def test_entries_before_a_life_outside_the_lineage_are_dropped() -> None:
    """Only a made-up journal has one: readers would be given what no peer can place."""
    recovered = found(
        begins(0, E1) + run(0, 2, E1),
        begins(2, E2, (E1, 2)) + run(2, 4, E2),
        begins(4, E3, (E1, 2)) + run(4, 6, E3),
    )
    assert offsets(recovered) == [4, 5]
    assert recovered.lineage == ((E3, 6), (E1, 2))


def test_entries_beyond_the_end_of_their_life_are_not_kept() -> None:
    recovered = found(
        begins(0, E1) + run(0, 4, E1),
        begins(4, E2, (E1, 3)) + run(4, 6, E2),
    )
    assert offsets(recovered) == [4, 5]


# Any bytes.


class Journals:
    """The disk of a node that has been restarted several times, and what it really appended."""

    def __init__(self) -> None:
        self.appended: dict[tuple[Epoch, int], Entry] = {}
        self.ends: dict[Epoch, int] = {}
        self.disk = Disk(Fsync.ALWAYS)
        self._live(E1, [1, 3, 1, 2, 1])
        self._live(E2, [1, 3, 1, 2, 1, 1, 1])
        # The next life cannot read the end of this one. Later it can be read again.
        newest = max(self.disk.segments)
        whole = self.disk.segments[newest]
        self.disk.segments[newest] = whole[: len(whole) // 2]
        self._live(E3, [1, 3, 1, 2, 1])
        self.disk.segments[newest] = whole

    def _live(self, epoch: Epoch, counts: list[int]) -> None:
        recovered = self.disk.recover()
        lineage = recovered.lineage if recovered is not None else ()
        numbers = list(self.disk.segments)
        state = Checkpoint("a", epoch, lineage, 0, {"b": KeptConsumer(at(3))}, {PUBLISHER: 4}, {})
        journal = Journal(Fsync.ALWAYS, 0, 500, lambda: state, recovered, numbers)
        self.disk.perform(journal.begin())
        following = journal.durable
        for sequence, count in enumerate(counts, 5):
            placed = entry(following, count, epoch=epoch, payload=b"x" * 40)
            journal.append(placed, sequence)
            journal.note(Kind.SESSION, encode_session("s", {"a": at(following, epoch)}))
            self.appended[epoch, following] = placed
            following = placed.next
            work = journal.take(0, sequence)
            assert work is not None
            self.disk.perform(work)
            journal.done(sequence)
        self.ends[epoch] = following


JOURNALS = Journals()
SEGMENTS = JOURNALS.disk.read()


def check(recovered: Recovered | None) -> None:
    if recovered is None:
        return
    offsets(recovered)
    assert all(one.next == other.first for one, other in pairwise(recovered.entries))
    reach = dict(recovered.lineage)
    for taken in recovered.entries:
        assert taken.next <= reach[taken.epoch]
        assert taken.wire == JOURNALS.appended[taken.epoch, taken.first].wire
    for epoch, end in recovered.lineage:
        assert end <= min(JOURNALS.ends[epoch], recovered.next)
    assert all(
        consumer.cursor.offset <= recovered.next for consumer in recovered.state.consumers.values()
    )
    ends = [recovered.first, *(end for _, end in recovered.segments)]
    assert all(one < other for one, other in pairwise(ends))
    assert ends[-1] == recovered.next


def test_the_segments_that_are_damaged_below_are_real_ones() -> None:
    assert len(SEGMENTS) > 5
    recovered = recover("a", SEGMENTS, by_its_own_word)
    check(recovered)
    assert recovered is not None
    assert [epoch for epoch, _ in recovered.lineage] == [E3, E2, E1]
    assert recovered.first == 0
    assert recovered.next == JOURNALS.ends[E3]
    assert recovered.lineage[1][1] < JOURNALS.ends[E2], "a tail was abandoned"


places = st.tuples(st.integers(0, len(SEGMENTS) - 1), st.floats(0, 1), st.integers(1, 255))


@given(
    flips=st.lists(places, max_size=3),
    cuts=st.lists(places, max_size=2),
    zeroed=st.lists(places, max_size=2),
    missing=st.sets(st.integers(0, len(SEGMENTS) - 1), max_size=3),
)
def test_damaged_segments_leave_an_unbroken_run_of_entries(
    flips: list[tuple[int, float, int]],
    cuts: list[tuple[int, float, int]],
    zeroed: list[tuple[int, float, int]],
    missing: set[int],
) -> None:
    data = [bytearray(segment) for _, segment in SEGMENTS]
    for number, where, mask in flips:
        data[number][int(where * (len(data[number]) - 1))] ^= mask
    for number, where, size in zeroed:
        begin = int(where * len(data[number]))
        stretch = data[number][begin : begin + size]
        data[number][begin : begin + size] = bytes(len(stretch))
    for number, where, _ in cuts:
        del data[number][int(where * len(data[number])) :]
    left = [(number, bytes(data[n])) for n, (number, _) in enumerate(SEGMENTS) if n not in missing]
    # One changed byte can make this format a later one.
    with contextlib.suppress(JournalError):
        check(recover("a", left, by_its_own_word))


@given(st.lists(st.binary(max_size=60).map(lambda tail: FIRST_BYTES + tail) | st.binary()))
def test_arbitrary_bytes_recover_nothing(segments: list[bytes]) -> None:
    assert recover("a", enumerate(segments, 1), by_its_own_word) is None


@pytest.mark.interpreted
@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.binary(max_size=40)).map(lambda row: sealed(*row)),
        max_size=4,
    )
)
def test_odd_records_end_the_segment_or_change_no_entry(
    records: list[bytes],
) -> None:
    segment = begins(0) + run(0, 2)
    recovered = found(segment + b"".join(records))
    assert offsets(recovered) == [0, 1]


@pytest.mark.interpreted
@given(st.integers(0, len(run(0, 1)) - 1), st.integers(1, 255))
def test_an_entry_of_odd_bytes_is_taken_whole_or_not_at_all(where: int, mask: int) -> None:
    ((kind, body, _),) = scan(run(0, 1), 0)
    changed = bytearray(body)
    changed[where % len(body)] ^= mask
    recovered = found(begins(0) + sealed(kind, bytes(changed)))
    for taken in recovered.entries:
        assert taken.node == "a"
        assert taken.first == 0
        assert taken.epoch == E1
    offsets(recovered)


def sealed(kind: int, body: bytes) -> bytes:
    """A record of any kind, also of one that there is not."""
    return b"".join(record(kind, body))  # type: ignore[arg-type]

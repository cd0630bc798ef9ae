"""A recovered end is called whole only where that is proved."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.core.builders import E1, E2, E3, E4
from tests.unit.core.journal.witnesses import (
    BOOT,
    FILE,
    OTHER_BOOT,
    UNREADABLE,
    bound,
    copied,
    idle,
    witness,
)

from pubsubd_broker.core.journal.life import MemoryRecord
from pubsubd_broker.core.journal.whole_end import (
    COUNT_AT,
    SEVERAL_EPOCHS,
    WITNESS_BYTES,
    Evidence,
    Found,
    RecoveredEnd,
    Witness,
    begun,
    checked,
    decode_witness,
    encode_witness,
    is_last,
    lost_at,
    owed,
)
from pubsubd_protocol.positions import EPOCH_BYTES, MAX_OFFSET, NO_EPOCH, Epoch

END: Final = RecoveredEnd("a", E2, ((E1, 40),), 100, format=3)
CLEAN: Final = replace(END, promised=True)
OLD: Final = replace(CLEAN, format=2)

UNKNOWN: Final = None

CASES: Final[dict[str, tuple[RecoveredEnd, Found | None, Found | None, bytes, int | None]]] = {
    # The process died.
    "a crash that lost nothing": (END, bound(witness()), bound(witness()), BOOT, 0),
    "a crash that lost something": (END, bound(witness(accepted=130)), None, BOOT, 30),
    "only the one beside the socket": (END, None, bound(witness(accepted=130)), BOOT, 30),
    "placed, and never accepted": (END, bound(witness(accepted=90)), None, BOOT, 0),
    "the larger count, in the folder": (
        END,
        bound(witness(accepted=130)),
        bound(witness(accepted=120)),
        BOOT,
        30,
    ),
    "the larger count, beside": (
        END,
        bound(witness(accepted=110)),
        bound(witness(accepted=120)),
        BOOT,
        20,
    ),
    # The machine died.
    "another boot": (END, bound(witness()), bound(witness()), OTHER_BOOT, UNKNOWN),
    "no boot is known": (END, bound(witness(boot=b"")), None, b"", UNKNOWN),
    "another boot, a clean end": (CLEAN, bound(witness()), None, OTHER_BOOT, 0),
    "another boot, a clean end, a stale count": (
        CLEAN,
        bound(witness(accepted=80)),
        None,
        OTHER_BOOT,
        0,
    ),
    "another boot, more was accepted than a clean end has": (
        CLEAN,
        bound(witness(accepted=130)),
        None,
        OTHER_BOOT,
        UNKNOWN,
    ),
    "another boot, and only the one beside the socket": (
        CLEAN,
        None,
        bound(witness()),
        OTHER_BOOT,
        UNKNOWN,
    ),
    # The folder is another one.
    "a copy": (END, copied(witness()), None, BOOT, UNKNOWN),
    "a copy with a clean end": (CLEAN, copied(witness()), None, BOOT, UNKNOWN),
    "a copy, and the last life is known beside the socket": (
        END,
        copied(witness()),
        bound(witness(accepted=130)),
        BOOT,
        30,
    ),
    "a copy that knows more than the one beside the socket": (
        END,
        copied(witness(accepted=140)),
        bound(witness(accepted=130)),
        BOOT,
        UNKNOWN,
    ),
    "no witness": (CLEAN, None, None, BOOT, UNKNOWN),
    "an unreadable one": (CLEAN, UNREADABLE, bound(witness()), BOOT, UNKNOWN),
    "an unreadable one beside": (CLEAN, bound(witness()), UNREADABLE, BOOT, UNKNOWN),
    "segments of an older life under a newer witness": (
        CLEAN,
        bound(witness(E3, 130)),
        None,
        BOOT,
        UNKNOWN,
    ),
    "segments of the same life, but older": (CLEAN, bound(witness(accepted=101)), None, BOOT, 1),
    # The count is kept beside the socket alone.
    "a count that is kept elsewhere": (
        END,
        bound(witness(accepted=0, counting=False)),
        bound(witness(accepted=130)),
        BOOT,
        30,
    ),
    "and the folder is an older copy of that life": (
        END,
        copied(witness(accepted=0, counting=False)),
        bound(witness(accepted=130)),
        BOOT,
        30,
    ),
    "and is gone": (END, bound(witness(accepted=0, counting=False)), None, BOOT, UNKNOWN),
    "and is gone, after a clean end": (
        CLEAN,
        bound(witness(accepted=0, counting=False)),
        None,
        OTHER_BOOT,
        0,
    ),
    "and was of another life": (
        END,
        bound(witness(accepted=0, counting=False)),
        bound(idle(E3, 0)),
        BOOT,
        UNKNOWN,
    ),
    "a start that went no further, and counts elsewhere": (
        END,
        bound(idle(E3, 100, previous=E2, lost=7, counting=False)),
        bound(idle(E3, 100, previous=E2, lost=7)),
        BOOT,
        7,
    ),
    "a later life that counted elsewhere": (
        CLEAN,
        bound(idle(E3, 0, counting=False)),
        None,
        BOOT,
        UNKNOWN,
    ),
    # A life in between.
    "a life in between": (CLEAN, bound(witness()), bound(witness(E3, 1)), BOOT, UNKNOWN),
    "a life in between that accepted nothing": (
        CLEAN,
        bound(witness()),
        bound(idle(E3, 0)),
        BOOT,
        0,
    ),
    "a life in between that had accepted nothing when the machine died": (
        CLEAN,
        bound(witness()),
        bound(idle(E3, 0)),
        OTHER_BOOT,
        UNKNOWN,
    ),
    "one that accepted nothing, behind one that did": (
        CLEAN,
        bound(witness()),
        bound(idle(E3, 0, owed=E4)),
        BOOT,
        UNKNOWN,
    ),
    "one that accepted nothing, behind this one": (
        CLEAN,
        bound(witness()),
        bound(idle(E3, 0, owed=E2)),
        BOOT,
        0,
    ),
    "an earlier life of this history": (CLEAN, bound(witness()), bound(witness(E1, 40)), BOOT, 0),
    "another node": (CLEAN, bound(witness()), bound(witness(E3, 9, node="b")), BOOT, 0),
    "another node, behind a life in between": (
        CLEAN,
        bound(witness()),
        bound(witness(E3, 9, node="b", owed=E4)),
        BOOT,
        UNKNOWN,
    ),
    # A start that ended before its checkpoint was written.
    "a start that went no further": (
        END,
        bound(idle(E3, 100, previous=E2, lost=0)),
        bound(idle(E3, 100, previous=E2, lost=0)),
        BOOT,
        0,
    ),
    "one that had found something lost": (
        END,
        bound(witness(accepted=107)),
        bound(idle(E3, 100, previous=E2, lost=7)),
        BOOT,
        7,
    ),
    "one that did not know": (
        CLEAN,
        bound(witness()),
        bound(idle(E3, 100, previous=E2, lost=None)),
        BOOT,
        UNKNOWN,
    ),
    "one that had found more": (
        END,
        None,
        bound(idle(E3, 110, previous=E2, lost=7)),
        BOOT,
        17,
    ),
    "one that went on, and accepted more itself": (
        END,
        None,
        bound(witness(E3, 107, begin=100, previous=E2, lost=50)),
        BOOT,
        57,
    ),
    "one that went on, before the machine died": (
        END,
        None,
        bound(witness(E3, 107, begin=100, previous=E2, lost=50)),
        OTHER_BOOT,
        UNKNOWN,
    ),
    "one that had found less": (
        END,
        None,
        bound(idle(E3, 90, previous=E2, lost=0)),
        BOOT,
        UNKNOWN,
    ),
    # Journals of versions that wrote no witness.
    "an old format with a clean end": (OLD, None, None, BOOT, 0),
    "an old format after a crash": (replace(OLD, promised=False), None, None, BOOT, UNKNOWN),
    "an old format, and a life in between": (OLD, None, bound(witness(E3, 1)), BOOT, UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_says_how_many_are_lost(name: str) -> None:
    end, folder, beside, boot, expected = CASES[name]
    assert lost_at(end, Evidence(folder, beside, boot)) == expected


# Laws, over everything that may be found.

LIVES: Final = st.sampled_from([E1, E2, E3, E4])
BOOTS: Final = st.sampled_from([b"", BOOT, OTHER_BOOT])
OFFSETS: Final = st.integers(0, 120)


@st.composite
def witnesses(draw: st.DrawFn) -> Witness:
    begin = draw(OFFSETS)
    return Witness(
        draw(st.sampled_from(["a", "a", "a", "b"])),
        draw(LIVES),
        draw(BOOTS),
        begin,
        draw(st.sampled_from([NO_EPOCH, E1, E2])),
        draw(st.none() | st.integers(0, 20)),
        draw(st.sampled_from([NO_EPOCH, NO_EPOCH, E1, E2, E4, SEVERAL_EPOCHS])),
        FILE,
        draw(st.just(begin) | st.integers(begin, 130)),
        draw(st.sampled_from([True, True, False])),
    )


FOUND: Final = st.none() | st.builds(Found, witnesses(), st.booleans()) | st.just(UNREADABLE)
EVIDENCE: Final = st.builds(Evidence, FOUND, FOUND, BOOTS)
ENDS: Final = st.builds(
    RecoveredEnd,
    st.just("a"),
    st.just(E2),
    st.just(((E1, 40),)),
    OFFSETS,
    st.booleans(),
    st.just(3),
)


@given(ENDS, EVIDENCE)
def test_no_end_is_known_without_a_bound_witness(end: RecoveredEnd, evidence: Evidence) -> None:
    found = [each for each in (evidence.folder, evidence.beside) if each is not None]
    assume(not any(each.bound for each in found))
    assert lost_at(end, evidence) is None


@given(ENDS, EVIDENCE)
def test_never_fewer_are_lost_than_any_witness_of_that_life_says(
    end: RecoveredEnd, evidence: Evidence
) -> None:
    known = lost_at(end, evidence)
    evidence = evidence.with_one_count
    for found in (evidence.folder, evidence.beside):
        if found is not None and found.witness is not None and known is not None:
            told = found.witness
            if (told.node, told.epoch) == ("a", E2):
                assert known >= told.accepted - end.next


@given(ENDS, EVIDENCE)
def test_a_life_in_between_is_never_forgotten(end: RecoveredEnd, evidence: Evidence) -> None:
    known = lost_at(end, evidence)
    evidence = evidence.with_one_count
    for found in (evidence.folder, evidence.beside):
        told = None if found is None else found.witness
        if told is None or told.node != "a" or told.epoch in end.epochs:
            continue
        if told.accepted > told.begin or told.owed not in {NO_EPOCH, *end.epochs}:
            # Unless it began behind this very end: then it has judged all that was before it, and is counted itself.
            began_here = told.previous == E2 and told.begin >= end.next
            assert known is None or (began_here and known >= told.accepted - end.next)


@given(ENDS, EVIDENCE)
def test_a_number_needs_a_count_of_this_boot_or_the_word_of_the_folder(
    end: RecoveredEnd, evidence: Evidence
) -> None:
    known = lost_at(end, evidence)
    evidence = evidence.with_one_count
    trusted = [
        each
        for each in (evidence.folder, evidence.beside)
        if each is not None and evidence.trusts(each)
    ]
    if known is not None and not trusted:
        assert known == 0
        assert end.promised
        assert evidence.folder is not None
        assert evidence.folder.bound


Left = tuple[Epoch, int]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=6))
def test_lives_without_the_journal_are_known_however_many_follow(
    lives: list[tuple[bool, int]],
) -> None:
    """For each life: whether it served another node, and the number of messages that it accepted."""
    beside: Found | None = bound(witness())
    for number, (other, accepted) in enumerate(lives):
        node = "b" if other else "a"
        record = MemoryRecord(node, Evidence(None, beside, BOOT))
        record.begin(Epoch(bytes([100 + number]) * EPOCH_BYTES), None, None)
        record.accepted(accepted)
        assert record.left is not None
        beside = bound(record.left)
    known = lost_at(CLEAN, Evidence(bound(witness()), beside, BOOT))
    accepted = sum(count for other, count in lives if not other)
    if accepted:
        assert known is None
    elif not any(count for _, count in lives):
        assert known == 0


def test_a_life_owes_what_the_witness_that_it_replaces_stands_for() -> None:
    """A single owed life is enough: a life tells of all losses before it, in every history that holds that life."""
    busy = Evidence(None, bound(witness(E2, owed=E4)), BOOT)
    assert owed("a", frozenset({E2}), busy) == NO_EPOCH
    assert owed("a", frozenset({E4}), busy) == E2
    assert owed("a", frozenset(), busy) == E2
    idle = witness(E2, begin=20, accepted=20, owed=E4)
    from_nothing = Evidence(None, bound(replace(idle, previous=NO_EPOCH)), BOOT)
    assert owed("a", frozenset(), from_nothing) == E4
    assert owed("a", frozenset({E4}), from_nothing) == NO_EPOCH
    has_told = Evidence(None, bound(replace(idle, previous=E1)), BOOT)
    assert owed("a", frozenset(), has_told) == E2
    assert owed("a", frozenset({E2}), has_told) == NO_EPOCH
    assert owed("b", frozenset(), has_told) == E4
    assert owed("a", frozenset({E2}), Evidence()) == NO_EPOCH
    assert owed("a", frozenset({E2}), Evidence(None, UNREADABLE)) == SEVERAL_EPOCHS


def test_a_life_without_the_journal_is_told_of_once() -> None:
    """Later lives that go on with the journal, and an idle one without it, bring no second alarm."""
    without = MemoryRecord("a", Evidence(None, bound(witness()), BOOT))
    without.begin(E4, None, None)
    without.accepted(5)
    end, in_folder, beside = CLEAN, witness(), without.left
    found = []
    for life in (E3, Epoch(bytes([8]) * EPOCH_BYTES)):
        assert beside is not None
        evidence = Evidence(bound(in_folder), bound(beside), BOOT)
        found.append(lost_at(end, evidence))
        record = MemoryRecord("a", evidence)
        record.begin(life, end, found[-1])
        assert record.left is not None
        in_folder = beside = record.left
        end = replace(end, epoch=life, lineage=((end.epoch, end.next), *end.lineage))
    idle_one = MemoryRecord("a", Evidence(None, bound(in_folder), BOOT))
    idle_one.begin(Epoch(bytes([9]) * EPOCH_BYTES), None, None)
    assert idle_one.left is not None
    found.append(lost_at(end, Evidence(bound(in_folder), bound(idle_one.left), BOOT)))
    assert found == [UNKNOWN, 0, 0]


@pytest.mark.parametrize(
    ("folder", "beside", "last"),
    [
        (bound(witness()), bound(witness()), True),
        (bound(witness()), bound(idle(E3, 100)), False),
        (bound(idle(E3, 100)), bound(witness()), False),
        (copied(witness()), bound(witness()), False),
        (bound(witness()), copied(witness()), False),
        (bound(witness()), UNREADABLE, False),
        (bound(witness()), None, False),
        (None, bound(witness()), False),
        (None, None, False),
    ],
)
def test_a_life_is_the_last_one_where_both_places_name_it(
    folder: Found | None, beside: Found | None, last: bool
) -> None:
    """A later life counts although it accepted nothing: it may have served sessions."""
    assert is_last(E2, Evidence(folder, beside, BOOT)) is last


# The form on disk.


@given(witnesses(), st.integers(0, MAX_OFFSET))
def test_a_witness_is_read_as_it_was_written(written: Witness, accepted: int) -> None:
    written = replace(written, accepted=max(accepted, written.begin))
    assert decode_witness(encode_witness(written)) == written
    assert len(encode_witness(written)) == WITNESS_BYTES


@given(witnesses(), st.integers(0, MAX_OFFSET))
def test_the_count_is_rewritten_in_place(written: Witness, accepted: int) -> None:
    accepted = max(accepted, written.begin)
    data = bytearray(encode_witness(written))
    memoryview(data)[COUNT_AT:].cast("Q")[0] = checked(accepted)
    assert decode_witness(bytes(data)) == replace(written, accepted=accepted)


def test_a_wrong_bit_makes_it_unreadable() -> None:
    data = bytearray(encode_witness(witness(begin=7)))
    constant = len(data[:COUNT_AT].rstrip(b"\0"))
    for bit in [*range(8 * constant), *range(8 * COUNT_AT, 8 * WITNESS_BYTES)]:
        data[bit // 8] ^= 1 << bit % 8
        assert decode_witness(bytes(data)) is None, bit
        data[bit // 8] ^= 1 << bit % 8
    assert decode_witness(bytes(data)) is not None


@pytest.mark.parametrize("length", [0, 1, 200, WITNESS_BYTES - 1, WITNESS_BYTES + 1])
def test_a_file_of_another_size_is_none(length: int) -> None:
    assert decode_witness(encode_witness(witness()).ljust(length, b"\0")[:length]) is None


def test_a_count_below_the_beginning_is_refused() -> None:
    assert decode_witness(encode_witness(witness(begin=7, accepted=6))) is None
    assert decode_witness(encode_witness(witness(begin=7, accepted=7))) is not None


def test_a_zeroed_count_is_not_taken_for_nothing_accepted() -> None:
    data = encode_witness(witness(accepted=0))[:COUNT_AT] + bytes(8)
    assert decode_witness(data) is None


def test_a_life_begins_where_the_recovered_end_is() -> None:
    found = Evidence(None, None, BOOT)
    began = begun("a", E3, END, 4, found)
    assert (began.begin, began.accepted, began.previous, began.lost) == (100, 100, E2, 4)
    assert began.boot == BOOT
    assert begun("a", E3, None, None, found).begin == 0

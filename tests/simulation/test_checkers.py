"""Every checker refuses what breaks its part of the guarantee, and accepts all else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from tests.simulation.checkers import (
    Held,
    Parted,
    Told,
    Violation,
    answers_publishers_in_time,
    bounded,
    no_duplicate,
    no_false_alarm,
    no_gap,
    no_phantom,
    own_loss_is_told,
    passed_is_not_read_again,
    placed_as_told,
    third_loss_is_told,
    told_as_it_parts,
    told_in_time,
)
from tests.simulation.checkers import Published as Publish
from tests.simulation.history import (
    Closed,
    Event,
    Filtered,
    Forgotten,
    Got,
    History,
    Kept,
    Lost,
    Moved,
    Opened,
    Stands,
)
from tests.simulation.truth import NOWHERE, Place, Published, StreamTruth, Truth

from pubsubd_protocol.attach import Reason

E1, E2, E3 = "e1", "e2", "e3"

LONG_AGO, BIRTH, LATER = 0, 10, 20


def stream(
    messages: int = 10, *, oldest: int = 0, epoch: str = E1, at: int = LATER, topic: str = "t"
) -> StreamTruth:
    """A stream whose ring went from nothing to `oldest..messages`."""
    truth = StreamTruth()
    truth.begin(epoch)
    truth.held(0)
    fill(truth, epoch, 0, messages, at=at, topic=topic)
    truth.held(oldest)
    return truth


def fill(
    truth: StreamTruth, epoch: str, first: int, end: int, *, at: int = LATER, topic: str = "t"
) -> None:
    for offset in range(first, end):
        truth.publish(epoch, offset, message(offset, epoch, at=at, topic=topic))


def message(
    offset: int, epoch: str = E1, *, at: int = LATER, topic: str = "t", publisher: bytes = b"p"
) -> Published:
    return Published(topic, f"{epoch}/{offset}".encode(), publisher, None, at)


def restarted() -> StreamTruth:
    """Ten messages under E1. A later life of the producer has forgotten them, and has five."""
    truth = stream(10)
    truth.begin(E2)
    truth.held(0)
    fill(truth, E2, 0, 5)
    truth.held(0)
    return truth


def continued(cut_short: int = 8) -> StreamTruth:
    """Ten messages under E1; E2 continues the first eight, and has twelve."""
    truth = stream(10)
    truth.begin(E2, (E1, cut_short))
    truth.held(0)
    fill(truth, E2, cut_short, 12)
    truth.held(0)
    return truth


def got(*offsets: int, epoch: str = E1, topic: str = "t") -> list[Event]:
    return [Got("a", epoch, o, topic, f"{epoch}/{o}".encode()) for o in offsets]


def lost(
    reason: Reason,
    place: Place,
    *,
    oldest: int | None,
    missed: int | None = None,
    own: bool = False,
) -> Lost:
    return Lost("a", reason, missed, place, oldest, own)


def opened(kept: Kept = Kept.NOTHING, at: Place | None = (E1, 0), **more: object) -> Opened:
    return Opened(BIRTH, kept, {} if at is None else {"a": at}, **more)  # type: ignore[arg-type]


def history(*events: Event | list[Event], earliest: bool = False) -> History:
    seen = History("s", lambda published: published.topic == "t", earliest)
    for event in events:
        for one in event if isinstance(event, list) else [event]:
            seen.add(one)
    return seen


def refuses(check: Callable[[], None], *words: str) -> None:
    with pytest.raises(Violation) as refused:
        check()
    for word in words:
        assert word in str(refused.value)


# G1


@pytest.mark.parametrize(
    "good",
    [
        [opened(), *got(0, 1, 2)],
        [opened(at=(E1, 4)), *got(4, 5)],
        [opened(at=None), Stands("a", (E1, 0)), *got(0, 1)],
        [opened(), *got(0), Moved("a", (E1, 1)), *got(1)],
        [opened(), *got(0), lost(Reason.OVERWRITTEN, (E1, 7), oldest=3, missed=6), *got(7)],
        [opened(), *got(0, 1), opened(Kept.STORED, (E1, 2)), *got(2)],
        [opened(), *got(0, 1), opened(Kept.BROKER, (E1, 1)), *got(1, 2)],
        [opened(), *got(0, 1), opened(Kept.PRODUCERS, None), Stands("a", (E1, 0)), *got(0)],
    ],
)
def test_no_gap_accepts_messages_in_order(good: list[Event]) -> None:
    messages = stream(10, at=LONG_AGO if isinstance(good[0], Opened) and good[0].places else LATER)
    no_gap(history(good), {"a": messages})


def test_no_gap_accepts_skipped_messages_for_others() -> None:
    truth = stream(3)
    fill(truth, E1, 3, 6, topic="other")
    fill(truth, E1, 6, 8)
    no_gap(history(opened(), got(0, 1, 2, 6, 7)), {"a": truth})
    no_gap(history(opened(), got(0, 1, 2), Moved("a", (E1, 6)), got(6)), {"a": truth})


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ([opened(), *got(0, 2)], "1 of e1 is missing"),
        ([opened(), *got(1)], "0 of e1 is missing"),
        ([opened(), *got(0), Moved("a", (E1, 3))], "1 of e1 is missing"),
        ([opened(), *got(0, 1, 0)], "after it stood at"),
        ([opened(), *got(0, 1), Moved("a", (E1, 1))], "after it stood at"),
        ([opened(at=None), *got(0)], "told no place"),
        ([opened(at=None), Stands("a", (E1, 2))], "was owed 0"),
        ([opened(at=(E1, 2))], "was owed 0"),
        ([opened(), *got(0), Stands("a", (E1, 1))], "as a new stream"),
        ([opened(), *got(0), opened(Kept.STORED, (E1, 3))], "next life begins at"),
        ([opened(), *got(0), opened(Kept.BROKER, (E1, 3))], "next life begins at"),
        ([opened(), *got(0, 1), Moved("a", ("never", 2))], "never had"),
    ],
)
def test_no_gap_refuses(bad: list[Event], word: str) -> None:
    refuses(lambda: no_gap(history(bad), {"a": stream(10)}), "G1", word)


def test_no_gap_refuses_a_silent_change_of_epoch() -> None:
    refuses(
        lambda: no_gap(history(opened(), got(0, 1), got(2, epoch=E2)), {"a": restarted()}),
        "without a word",
    )
    told = lost(Reason.STATE_LOST, (E2, 2), oldest=0)
    no_gap(history(opened(), got(0, 1), told, got(2, epoch=E2)), {"a": restarted()})


def test_no_gap_refuses_a_life_behind_its_remembered_place() -> None:
    """Only the producer knew the session's place."""
    begins = opened(Kept.PRODUCERS, None, remembered={"a": (E1, 3)})
    seen = history(opened(), got(0, 1, 2), begins, Stands("a", (E1, 5)))
    refuses(lambda: no_gap(seen, {"a": stream(10)}), "G1", "producer knew")
    no_gap(history(opened(), got(0, 1, 2), begins, Stands("a", (E1, 3))), {"a": stream(10)})


def test_no_gap_accepts_the_step_to_a_continuing_epoch() -> None:
    events = [opened(), *got(*range(10)), *got(10, 11, epoch=E2)]
    no_gap(history(events), {"a": continued(cut_short=10)})
    # Entries keep the epoch under which they were placed: an older name may come again.
    events = [opened(at=(E2, 0)), *got(0, 1), Moved("a", (E2, 2)), *got(2)]
    no_gap(history(events, earliest=True), {"a": continued()})


def test_no_gap_refuses_a_step_beyond_the_lineage() -> None:
    events = [opened(), *got(*range(9)), *got(9, epoch=E2)]
    refuses(lambda: no_gap(history(events), {"a": continued()}), "without a word")


def test_no_gap_refuses_a_message_missing_at_a_restart() -> None:
    events = [opened(), *got(*range(6)), *got(8, epoch=E2)]
    refuses(lambda: no_gap(history(events), {"a": continued()}), "6 of e2 is missing")


def test_no_gap_judges_each_message_by_its_filter() -> None:
    truth = stream(3)
    fill(truth, E1, 3, 6, topic="u")
    changed = Filtered({"a": (E1, 4)}, lambda published: published.topic == "u")
    no_gap(history(opened(), got(0, 1, 2), changed, got(4, 5, topic="u")), {"a": truth})
    late = Filtered({"a": (E1, 3)}, lambda published: published.topic == "u")
    refuses(
        lambda: no_gap(history(opened(), got(0, 1, 2), late, got(4, topic="u")), {"a": truth}),
        "3 of e1 is missing",
    )
    # The new filter is announced before it counts: messages before that place are still judged by the old one.
    refuses(
        lambda: no_gap(history(opened(), got(0, 1), changed, got(4, topic="u")), {"a": truth}),
        "2 of e1 is missing",
    )


# G2


def test_no_phantom_accepts_published_messages() -> None:
    no_phantom(history(opened(), got(0, 1, 2)), {"a": stream(10)})
    no_phantom(history(opened(), got(7), got(8, epoch=E2)), {"a": continued()})


def test_no_phantom_refuses_an_invented_message() -> None:
    refuses(
        lambda: no_phantom(history(opened(), got(10)), {"a": stream(10)}), "G2", "never published"
    )
    refuses(
        lambda: no_phantom(history(opened(), got(0, epoch=E3)), {"a": stream(10)}),
        "never published",
    )


def test_no_phantom_refuses_other_bytes_and_another_topic() -> None:
    bytes_of_another = Got("a", E1, 3, "t", b"e1/4")
    refuses(lambda: no_phantom(history(opened(), bytes_of_another), {"a": stream(10)}), "G2")
    topic_of_another = Got("a", E1, 3, "u", b"e1/3")
    refuses(lambda: no_phantom(history(opened(), topic_of_another), {"a": stream(10)}), "G2")


def test_no_phantom_refuses_a_message_for_others() -> None:
    truth = stream(3, topic="u")
    seen = history(opened(), got(0, topic="u"))
    refuses(lambda: no_phantom(seen, {"a": truth}), "not for it")


def test_no_phantom_refuses_a_message_under_a_later_epoch() -> None:
    seen = history(opened(), [Got("a", E2, 3, "t", b"e1/3")])
    refuses(lambda: no_phantom(seen, {"a": continued()}), "never published")


def test_no_phantom_refuses_a_cut_off_message() -> None:
    seen = history(opened(), [Got("a", E2, 9, "t", b"e1/9")])
    refuses(lambda: no_phantom(seen, {"a": continued()}), "published was")


def publish(
    offsets: range = range(3),
    *,
    first: int | None = 0,
    epoch: str | None = E1,
    refused: bool = False,
    waited_ns: int | None = None,
    written: str = E1,
) -> Publish:
    payloads = tuple(f"{written}/{offset}".encode() for offset in offsets)
    return Publish("p", "a", payloads, epoch, first, refused, waited_ns)


def test_placed_as_told_accepts_true_receipts() -> None:
    placed_as_told([publish(), publish(range(3, 5), first=3)], {"a": stream(10)})
    placed_as_told([publish(range(50, 51), first=None, epoch=None)], {"a": stream(10)})
    placed_as_told([publish(range(50, 51), first=None, epoch=None, refused=True)], {"a": stream()})


@pytest.mark.parametrize(
    "bad",
    [
        publish(first=1),
        publish(epoch=E2),
        publish(range(8, 12), first=8),
        publish(range(3, 4), first=None, epoch=None, refused=True),
    ],
)
def test_placed_as_told_refuses(bad: Publish) -> None:
    refuses(lambda: placed_as_told([bad], {"a": stream(10)}), "G2")


def test_placed_as_told_refuses_one_payload_at_two_places() -> None:
    truth = stream(3)
    truth.publish(E1, 3, message(1))
    refuses(lambda: placed_as_told([], {"a": truth}), "G2", "twice")


def test_placed_as_told_accepts_a_retry_in_another_life() -> None:
    truth = continued()
    truth.publish(E2, 12, message(3))
    placed_as_told([], {"a": truth})
    truth.publish(E2, 13, message(3))
    refuses(lambda: placed_as_told([], {"a": truth}), "twice")


# G3


@pytest.mark.parametrize(
    "good",
    [
        [opened(), *got(0, 1, 2)],
        [opened(), *got(0), *got(0, epoch=E2)],
        [opened(), *got(0, 1), opened(Kept.BROKER, (E1, 1)), *got(1)],
        [opened(), *got(0, 1), opened(Kept.PRODUCERS, (E1, 0)), *got(0, 1)],
        [opened(), *got(0, 1), opened(Kept.STORED, (E1, 2)), *got(2)],
    ],
)
def test_no_duplicate_accepts(good: list[Event]) -> None:
    no_duplicate(history(good))


@pytest.mark.parametrize(
    "bad",
    [
        [opened(), *got(0, 0)],
        [opened(), *got(0, 1, 2, 1)],
        [opened(), *got(0, 1), lost(Reason.OVERWRITTEN, (E1, 1), oldest=1), *got(1)],
        [opened(), *got(0, 1), opened(Kept.STORED, (E1, 1)), *got(1)],
        [opened(), opened(Kept.BROKER, (E1, 0)), *got(0, 0)],
    ],
)
def test_no_duplicate_refuses(bad: list[Event]) -> None:
    refuses(lambda: no_duplicate(history(bad)), "G3", "a second time")


# G4


def overrun(at: int, missed: int | None, *, oldest: int = 6, capacity: int | None = None) -> None:
    truth = stream(10, oldest=6)
    truth.capacity = capacity
    told = lost(Reason.OVERWRITTEN, (E1, 10), oldest=oldest, missed=missed)
    no_false_alarm(history(opened(), got(*range(at)), told), {"a": truth})


def test_no_false_alarm_accepts_an_overrun_with_its_count() -> None:
    overrun(5, 5)
    overrun(0, 10)
    overrun(5, 5, capacity=4)


@pytest.mark.parametrize(
    ("at", "missed", "oldest"),
    [
        (6, 4, 6),
        (9, 1, 6),
        (5, 4, 6),
        (5, 6, 6),
        (5, None, 6),
        (5, 5, 7),
    ],
)
def test_no_false_alarm_refuses_a_false_overrun(at: int, missed: int | None, oldest: int) -> None:
    refuses(lambda: overrun(at, missed, oldest=oldest), "G4")


def test_no_false_alarm_refuses_an_overrun_of_held_messages() -> None:
    refuses(lambda: overrun(5, 5, capacity=5), "G4", "the ring holds 5")


def test_no_false_alarm_accepts_a_merged_notice() -> None:
    truth = stream(4)
    fill(truth, E1, 4, 6, topic="other")
    fill(truth, E1, 6, 10)
    truth.held(6)
    for missed in (8, 9, 10):
        told = lost(Reason.OVERWRITTEN, (E1, 10), oldest=6, missed=missed)
        no_false_alarm(history(opened(), told), {"a": truth})
    told = lost(Reason.OVERWRITTEN, (E1, 10), oldest=6, missed=7)
    refuses(lambda: no_false_alarm(history(opened(), told), {"a": truth}), "G4")


@pytest.mark.parametrize(
    ("reason", "missed"),
    [
        (Reason.OVERWRITTEN, 5),
        (Reason.AHEAD, None),
        (Reason.UNSEEN, None),
        (Reason.STATE_LOST, 5),
    ],
)
def test_only_a_lost_state_is_true_across_epochs(reason: Reason, missed: int | None) -> None:
    told = lost(reason, (E2, 5), oldest=0, missed=missed)
    seen = history(opened(), got(0, 1), told)
    refuses(lambda: no_false_alarm(seen, {"a": restarted()}), "G4")
    told = lost(Reason.STATE_LOST, (E2, 5), oldest=0)
    no_false_alarm(history(opened(), got(0, 1), told), {"a": restarted()})


def test_a_lost_state_is_false_in_one_history() -> None:
    told = lost(Reason.STATE_LOST, (E1, 10), oldest=6)
    refuses(
        lambda: no_false_alarm(history(opened(), got(0), told), {"a": stream(10, oldest=6)}), "G4"
    )
    told = lost(Reason.STATE_LOST, (E2, 12), oldest=0)
    refuses(lambda: no_false_alarm(history(opened(), got(0), told), {"a": continued()}), "G4")


@pytest.mark.parametrize(("at", "true"), [(9, True), (10, True), (8, False), (3, False)])
def test_a_reader_beyond_the_lineage_is_ahead(at: int, true: bool) -> None:
    told = lost(Reason.AHEAD, (E2, 12), oldest=0)
    seen = history(opened(), got(*range(at)), told)
    if true:
        no_false_alarm(seen, {"a": continued(cut_short=8)})
    else:
        refuses(lambda: no_false_alarm(seen, {"a": continued(cut_short=8)}), "G4")


def test_a_reader_beyond_the_lineage_is_only_told_ahead() -> None:
    for reason, missed in ((Reason.OVERWRITTEN, 3), (Reason.STATE_LOST, None)):
        told = lost(reason, (E2, 12), oldest=0, missed=missed)
        seen = history(opened(), got(*range(9)), told)
        refuses(lambda seen=seen: no_false_alarm(seen, {"a": continued()}), "G4")  # type: ignore[misc]


@pytest.mark.parametrize(("after", "true"), [((E1, 8), True), ((E2, 12), False)])
def test_a_reader_may_have_joined_a_history_lost_later(after: Place, true: bool) -> None:
    truth = stream(10)
    truth.begin(E2, (E1, 10))
    fill(truth, E2, 10, 12)
    truth.held(0)
    # The recovered history may be older than E2, as after a power loss that took more than one life.
    truth.begin(E3, after)
    fill(truth, E3, after[1], 14)
    truth.held(0)
    told = lost(Reason.STATE_LOST, (E3, 14), oldest=0)
    seen = history(opened(), got(0), told)
    if true:
        no_false_alarm(seen, {"a": truth})
    else:
        refuses(lambda: no_false_alarm(seen, {"a": truth}), "G4")


def test_unseen_is_only_for_readers_without_a_place() -> None:
    told = lost(Reason.UNSEEN, (E1, 10), oldest=6)
    truth: Truth = {"a": stream(10, oldest=6)}
    no_false_alarm(history(opened(at=None), told), truth)
    refuses(lambda: no_false_alarm(history(opened(), got(0), told), truth), "G4")
    other = lost(Reason.OVERWRITTEN, (E1, 10), oldest=6, missed=10)
    refuses(lambda: no_false_alarm(history(opened(at=None), other), truth), "told no place")


def test_unseen_is_false_while_the_ring_holds_the_first_message() -> None:
    told = lost(Reason.UNSEEN, (E1, 10), oldest=0)
    refuses(
        lambda: no_false_alarm(history(opened(at=None), told), {"a": stream(10)}), "first message"
    )


def test_a_life_without_a_known_place_is_told_unseen_again() -> None:
    truth = stream(10, oldest=3)
    fill(truth, E1, 10, 20)
    truth.held(13)
    first = lost(Reason.UNSEEN, (E1, 10), oldest=3)
    again = lost(Reason.UNSEEN, (E1, 20), oldest=13)
    begins = opened(Kept.BROKER, None, unknown=frozenset({"a"}))
    no_false_alarm(history(opened(at=None), first, begins, again), {"a": truth})
    knows = opened(Kept.BROKER, None)
    seen = history(opened(at=None), first, knows, again)
    refuses(lambda: no_false_alarm(seen, {"a": truth}), "G4")


def test_a_ring_that_never_was_is_refused() -> None:
    told = lost(Reason.OVERWRITTEN, (E1, 9), oldest=6, missed=9)
    seen = history(opened(), told)
    refuses(lambda: no_false_alarm(seen, {"a": stream(10, oldest=6)}), "never was")


def test_a_session_older_than_its_broker_is_told_so_once() -> None:
    told = lost(Reason.STATE_LOST, (E1, 5), oldest=0, own=True)
    no_false_alarm(history(opened(), got(0, 1), Forgotten(), told), {"a": stream(10)})
    # Its broker has kept its name, or the application knows its place.
    knows = history(opened(), got(0, 1), Forgotten(knows=True), told)
    refuses(lambda: no_false_alarm(knows, {"a": stream(10)}), "G4")
    told = lost(Reason.STATE_LOST, (E1, 5), oldest=0)
    refuses(lambda: no_false_alarm(history(opened(), got(0, 1), told), {"a": stream(10)}), "G4")


def test_an_earlier_lifes_loss_may_merge_with_ahead() -> None:
    truth = restarted()
    truth.begin(E3, (E2, 2))
    truth.held(0)
    # The name stood in E1, began anew in E2, and read more of E2 than E3 continues.
    begun = [opened(), *got(0, 1), opened(Kept.PRODUCERS, (E2, 0)), *got(0, 1, 2, epoch=E2)]
    told = lost(Reason.STATE_LOST, (E3, 2), oldest=0, own=True)
    no_false_alarm(history(*begun, told), {"a": truth})
    # Not for another node, nor for a name without an earlier life, nor for one that has taken the loss in.
    of_another = lost(Reason.STATE_LOST, (E3, 2), oldest=0)
    first_life = [opened(at=(E2, 0)), *got(0, 1, 2, epoch=E2)]
    heard = [*begun, lost(Reason.STATE_LOST, (E2, 3), oldest=0, own=True)]
    for bad in ([*begun, of_another], [*first_life, told], [*heard, told]):
        refuses(partial(no_false_alarm, history(*bad), {"a": truth}), "further than that history")


# G5


def test_bounded_accepts_a_full_part_and_refuses_one_more() -> None:
    bounded([Held("a", "messages of a", 0, 10), Held("a", "messages of a", 10, 10)])
    refuses(lambda: bounded([Held("a", "messages of a", 11, 10)]), "G5", "held 11")


@pytest.mark.parametrize("held", [11, 12, 1000, 10**9])
def test_bounded_refuses_one_bad_sample_among_good_ones(held: int) -> None:
    good = Held("a", "bytes of b", 10, 10)
    refuses(lambda: bounded([good, Held("b", "bytes of a", held, 10), good]), "G5", "b: bytes of a")


def test_bounded_refuses_any_amount_above_a_bound_of_0() -> None:
    refuses(lambda: bounded([Held("a", "items", 1, 0)]), "G5")


# G6


def test_answers_in_time_accepts_waits_within_the_bound() -> None:
    answers_publishers_in_time([publish(waited_ns=0), publish(waited_ns=100), publish()], 100)


def test_readers_may_hold_a_publisher_once_for_each_batch() -> None:
    two_before = replace(publish(waited_ns=130), ahead=2)
    answers_publishers_in_time([two_before], 100, 10)
    late = replace(two_before, waited_ns=131)
    refuses(lambda: answers_publishers_in_time([late], 100, 10), "G6", "behind 2")
    # A second publisher of the same node has its turns in between; a publisher of another node has not.
    answers_publishers_in_time([late, replace(publish(), publisher="q")], 100, 10)
    elsewhere = replace(publish(), publisher="q", node="b")
    refuses(lambda: answers_publishers_in_time([late, elsewhere], 100, 10), "G6", "behind 2")


def test_readers_may_hold_publishers_once_for_each_quarter() -> None:
    # Eleven batches of three messages, in a ring whose quarter is thirty: one quarter and a bit, and both ends.
    ten_before = replace(publish(waited_ns=130), ahead=10)
    answers_publishers_in_time([ten_before], 100, 10, 30)
    late = replace(ten_before, waited_ns=131)
    refuses(lambda: answers_publishers_in_time([late], 100, 10, 30), "G6", "behind 10")
    answers_publishers_in_time([late], 100, 10)


@pytest.mark.parametrize("waited_ns", [101, 200, 10**9, 10**12])
def test_answers_in_time_refuses_a_longer_wait(waited_ns: int) -> None:
    waits = [publish(waited_ns=1), publish(waited_ns=waited_ns)]
    refuses(lambda: answers_publishers_in_time(waits, 100), "G6", f"waited {waited_ns}")


# Names that are dropped, lives that begin without a place, and readers that ask for the earliest.


@pytest.mark.parametrize(
    ("truth", "held", "rightly"),
    [
        (stream(10, oldest=4), (E1, 4), True),
        (restarted(), (E2, 0), True),
        (stream(10, oldest=3), (E1, 3), False),
        (continued(), (E2, 3), False),
    ],
)
def test_g4_a_name_is_dropped_only_if_something_was_lost(
    truth: StreamTruth, held: Place, rightly: bool
) -> None:
    begins = opened(Kept.FORGOTTEN, None, acknowledged={"a": (E1, 3)}, held={"a": held})
    seen = history(opened(), got(0, 1, 2), begins)
    if rightly:
        no_false_alarm(seen, {"a": truth})
    else:
        refuses(partial(no_false_alarm, seen, {"a": truth}), "G4", "forgotten")


def test_g4_claims_nothing_of_a_name_unknown_to_its_broker() -> None:
    seen = history(opened(), got(0), opened(Kept.FORGOTTEN, None, held={"a": (E1, 0)}))
    no_false_alarm(seen, {"a": stream(10)})


def test_g4_a_life_keeps_its_place_before_a_lost_end() -> None:
    """The broker has gone back to an older state, and may be told by producers of a later one: that changes nothing."""
    truth = stream(10)
    truth.begin(E2, (E1, 10), proven=False)
    truth.held(0)
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E2, 0)})
    seen = history(opened(), got(*range(9)), nowhere)
    refuses(partial(no_false_alarm, seen, {"a": truth}), "begins without a place")
    # A name at the end has only the loss before it.
    no_false_alarm(history(opened(), got(*range(10)), nowhere), {"a": truth})


def test_g4_a_life_without_a_loss_keeps_its_place() -> None:
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 0)})
    refuses(
        partial(no_false_alarm, history(opened(), got(0, 1), nowhere), {"a": stream(10)}),
        "G4",
        "begins without a place",
    )
    # It had lost messages, and may not have taken that in; or the ring has moved past its place.
    told = lost(Reason.UNSEEN, (E1, 10), oldest=4)
    no_false_alarm(history(opened(at=None), told, nowhere), {"a": stream(10, oldest=4)})
    # It has taken the loss in, and its broker knows; or it died before its broker heard that.
    goes_on = [opened(at=None), told, *got(10, 11)]
    truth = stream(10, oldest=4)
    fill(truth, E1, 10, 12)
    held = {"a": (E1, 4)}
    heard = opened(Kept.BROKER, NOWHERE, held=held, acknowledged={"a": (E1, 12)})
    refuses(
        partial(no_false_alarm, history(*goes_on, heard), {"a": truth}),
        "G4",
        "begins without a place",
    )
    unheard = opened(Kept.BROKER, NOWHERE, held=held)
    no_false_alarm(history(*goes_on, unheard), {"a": truth})
    moved_on = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 3)})
    no_false_alarm(history(opened(), got(0, 1), moved_on), {"a": stream(10)})


@pytest.mark.parametrize("knows", [True, False])
def test_g4_a_kept_name_loses_its_own_place_only_by_a_loss(
    knows: bool,
) -> None:
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 0)})
    seen = history(opened(), got(0, 1), Forgotten(knows), nowhere)
    seen.node = "a"
    if knows:
        refuses(partial(no_false_alarm, seen, {"a": stream(10)}), "begins without a place")
    else:
        no_false_alarm(seen, {"a": stream(10)})


@pytest.mark.parametrize("heard", [False, True])
def test_g4_a_name_met_as_new_loses_its_place_by_an_old_loss(
    heard: bool,
) -> None:
    again = [opened(Kept.PRODUCERS, (E2, 0)), opened(Kept.BROKER, (E2, 0))]
    told_of_it: list[Event] = (
        [lost(Reason.STATE_LOST, (E2, 0), oldest=0, own=True)] if heard else []
    )
    held: dict[str, object] = {"held": {"a": (E2, 0)}, "acknowledged": {"a": (E2, 0)}}
    nowhere = opened(Kept.BROKER, NOWHERE, **held)
    seen = history(opened(), got(0, 1), again[0], told_of_it, again[1], nowhere)
    seen.node = "a"
    if not heard:
        # Its next life as well, if the last one ended before it was told.
        seen.add(nowhere)
    check = partial(no_false_alarm, seen, {"a": restarted()})
    if heard:
        refuses(check, "begins without a place")
    else:
        check()


@pytest.mark.parametrize(
    ("begin", "true"),
    [(NOWHERE, True), ((E1, 3), True), ((E1, 5), True), ((E1, 7), False), ((E2, 12), False)],
)
def test_g1_a_name_unknown_to_its_broker_begins_no_later(begin: Place, true: bool) -> None:
    again = Opened(BIRTH, Kept.BROKER, {"a": begin}, unknown=frozenset("a"))
    seen = history(opened(), got(*range(5)), again)
    if true:
        no_gap(seen, {"a": continued()})
    else:
        refuses(lambda: no_gap(seen, {"a": continued()}), "G1", "it stood at")


@pytest.mark.parametrize(("begin", "true"), [((E1, 2), True), ((E1, 3), False)])
def test_g1_an_untold_life_without_a_place_moves_nothing(begin: Place, true: bool) -> None:
    again = opened(Kept.BROKER, begin)
    seen = history(opened(), got(0, 1), opened(Kept.BROKER, NOWHERE), again)
    if true:
        no_gap(seen, {"a": stream(10)})
    else:
        refuses(lambda: no_gap(seen, {"a": stream(10)}), "G1", "the last one ended at")


def test_g1_the_earliest_is_the_oldest_offset_of_a_ring() -> None:
    truth = {"a": stream(10, oldest=4, at=LONG_AGO)}
    for begin in (0, 4):
        no_gap(history(opened(at=None), Stands("a", (E1, begin)), earliest=True), truth)
    late = history(opened(at=None), Stands("a", (E1, 6)), earliest=True)
    refuses(partial(no_gap, late, truth), "G1", "the ring held 4")


def test_g1_the_earliest_includes_all_after_the_subscription() -> None:
    stream_a = stream(3, at=LONG_AGO)
    fill(stream_a, E1, 3, 10)
    for oldest in (2, 3, 4):
        stream_a.held(oldest)
    for begin in (2, 3):
        no_gap(history(opened(at=None), Stands("a", (E1, begin)), earliest=True), {"a": stream_a})
    late = history(opened(at=None), Stands("a", (E1, 4)), earliest=True)
    refuses(partial(no_gap, late, {"a": stream_a}), "G1", "was owed 3")
    no_gap(
        history(opened(at=None), unseen_at(4), got(*range(4, 10)), earliest=True), {"a": stream_a}
    )


def test_g1_a_life_may_begin_at_a_place_its_producer_forgot() -> None:
    """The broker had asked the producer before."""
    truth = {"a": stream(10, oldest=4)}
    first, again = [opened(), *got(*range(6))], opened(Kept.PRODUCERS, None)
    no_gap(history(first, again, Stands("a", (E1, 6)), earliest=True), truth)
    late = history(first, again, Stands("a", (E1, 7)), earliest=True)
    refuses(partial(no_gap, late, truth), "G1", "the ring held 4")
    new = history(first, opened(Kept.NOTHING, None), Stands("a", (E1, 6)), earliest=True)
    refuses(partial(no_gap, new, truth), "G1", "the ring held 4")


@pytest.mark.parametrize(("begin", "true"), [((E1, 4), True), ((E2, 7), True), ((E2, 9), False)])
def test_g1_a_life_may_begin_earlier_in_the_same_history(begin: Place, true: bool) -> None:
    first = [opened(), *got(*range(7)), Moved("a", (E2, 7))]
    seen = history(first, opened(Kept.PRODUCERS, None), Stands("a", begin), earliest=True)
    truth = {"a": continued()}
    truth["a"].held(3)
    if true:
        no_gap(seen, truth)
    else:
        refuses(partial(no_gap, seen, truth), "G1", "the ring held")


def unseen_at(begin: int, oldest: int | None = None) -> Lost:
    """The notice for a reader in its first life that asked for the earliest."""
    held = begin if oldest is None else oldest
    return Lost("a", Reason.UNSEEN, None, (E1, begin), held, reborn=False)


@pytest.mark.parametrize(
    ("told", "false"),
    [
        (unseen_at(4), None),
        (unseen_at(10, oldest=4), None),  # The notice merged with a later one.
        (unseen_at(0), "still held the first message"),
        (unseen_at(5), "which never was"),
        (unseen_at(4, oldest=3), "which never was"),
        (replace(unseen_at(4), missed=4), "told no place there"),
        (replace(unseen_at(4), reason=Reason.OVERWRITTEN), "told no place there"),
    ],
)
def test_g4_a_reader_of_the_earliest_goes_on_at_the_oldest(told: Lost, false: str | None) -> None:
    truth = {"a": stream(10, oldest=4)}
    check = partial(no_false_alarm, history(opened(at=None), told, earliest=True), truth)
    if false is None:
        check()
    else:
        refuses(check, "G4", false)


def test_g4_only_a_reader_of_the_earliest_goes_on_there() -> None:
    truth = {"a": stream(10, oldest=4)}
    check = partial(no_false_alarm, history(opened(at=None), unseen_at(4)), truth)
    refuses(check, "G4", "which never was")


def test_g1_an_unread_life_may_be_lost_in_silence() -> None:
    """The notice names that life. The reader's message is of an earlier life, which a third one continues."""
    truth = continued()
    truth.begin(E3, (E1, 10))
    truth.held(0)
    told = lost(Reason.UNSEEN, (E2, 4), oldest=4)
    no_gap(history(opened(at=None), told, got(*range(4, 10))), {"a": truth})
    behind = lost(Reason.UNSEEN, (E2, 9), oldest=9)
    refuses(partial(no_gap, history(opened(at=None), behind, got(9)), {"a": truth}), "G1")


def test_g1_an_idle_whole_life_may_be_lost_in_silence() -> None:
    truth = stream(10)
    truth.begin(E2, (E1, 10))
    truth.held(4)
    truth.begin(E3, (E1, 10))
    truth.held(4)
    fill(truth, E3, 10, 12)
    told = lost(Reason.UNSEEN, (E2, 10), oldest=10)
    no_gap(history(opened(at=None), told, got(10, 11, epoch=E3)), {"a": truth})


def test_g1_a_later_life_may_begin_behind_messages_for_others() -> None:
    stream_a = stream(3)
    fill(stream_a, E1, 3, 5, topic="not for it")
    fill(stream_a, E1, 5, 10)
    stream_a.held(0)
    truth = {"a": stream_a}
    no_gap(history(opened(), got(0, 1, 2), opened(Kept.BROKER, (E1, 5))), truth)
    skipped = history(opened(), got(0, 1), opened(Kept.BROKER, (E1, 5)))
    refuses(partial(no_gap, skipped, truth), "G1", "its next life begins at")


# The loss of a reader's own node, and the order of publishes.


def on_b(*events: Event | list[Event]) -> History:
    seen = history(*events)
    seen.node = "b"
    return seen


def test_g1_a_remembered_name_is_told_its_nodes_history_ended() -> None:
    truth = {"a": stream(10), "b": stream(0)}
    lives_on = opened(Kept.PRODUCERS, None, remembered={"a": (E1, 3)})
    told_of_b = Lost("b", Reason.STATE_LOST, None, (E2, 0), 0, own=True)
    stands = Stands("a", (E1, 3))
    own_loss_is_told(on_b(opened(), lives_on, told_of_b, stands), truth)
    again = opened(Kept.BROKER)
    own_loss_is_told(on_b(opened(), lives_on, stands, again, told_of_b), truth)
    # Its broker has not met the producer that knows, or that producer has begun anew.
    own_loss_is_told(on_b(opened(), lives_on), truth)
    own_loss_is_told(on_b(opened(), lives_on, Stands("a", (E2, 0))), truth)
    for never in (on_b(opened(), lives_on, stands), on_b(opened(), lives_on, stands, again)):
        refuses(partial(own_loss_is_told, never, truth), "G1", "history ended")


def test_a_loss_that_a_third_node_knows_must_be_told() -> None:
    truth = {"a": restarted(), "b": stream(3)}
    third = {"a": {"b": ((E1, 4), E1)}}
    forgot = opened(Kept.PRODUCERS, (E2, 0), third=third)
    meets, told = Stands("b", (E1, 3)), Lost("a", Reason.STATE_LOST, None, (E2, 5), 0)
    third_loss_is_told(history(opened(), forgot, told, meets), truth)
    third_loss_is_told(history(opened(), forgot, meets, opened(Kept.BROKER), told), truth)
    # Its broker has forgotten that as well, before or after it met the third node.
    third_loss_is_told(history(opened(), forgot, meets, Forgotten()), truth)
    third_loss_is_told(history(opened(), forgot, Forgotten(), meets), truth)
    # The third node was not met, or has begun anew; or the history goes on; or the broker knows the name itself.
    third_loss_is_told(history(opened(), forgot), truth)
    third_loss_is_told(history(opened(), forgot, Stands("b", (E2, 0))), truth)
    third_loss_is_told(history(opened(), forgot, meets), {"a": continued(), "b": stream(3)})
    third_loss_is_told(history(opened(), opened(Kept.BROKER, (E2, 0), third=third), meets), truth)
    never = history(opened(), forgot, meets)
    refuses(partial(third_loss_is_told, never, truth), "G1", "which a third node knew")


def test_a_name_with_a_recovered_place_has_lost_nothing() -> None:
    told = Lost("a", Reason.STATE_LOST, None, (E2, 12), 0, own=True, recalled=(E1, 5))
    seen = history(opened(at=(E1, 5)), told)
    refuses(partial(no_false_alarm, seen, {"a": continued()}), "G4", "was recovered with that")


def test_batches_of_a_publisher_out_of_order_are_refused() -> None:
    truth = stream(0)
    for offset, payload in enumerate((b"1", b"3", b"2")):
        truth.publish(E1, offset, Published("t", payload, b"p", None, LATER))
    publishes = [Publish("p", "a", (each,), None, None, False, None) for each in (b"1", b"2", b"3")]
    refuses(partial(placed_as_told, publishes, {"a": truth}), "order", "b'2'")
    other = stream(0)
    for offset, payload in enumerate((b"1", b"3", b"2")):
        publisher = b"q" if payload == b"3" else b"p"
        other.publish(E1, offset, Published("t", payload, publisher, None, LATER))
    placed_as_told(publishes, {"a": other})


def passed(at: int, *, topic: str = "busy", life: int = 1, **more: object) -> None:
    """A reader got the first two of ten, closed at `at` when its broker had passed all ten, and begins again at
    `again`.
    """
    truth = stream(2)
    fill(truth, E1, 2, 10, topic=topic)
    again = more.pop("again", at)
    seen = history(
        opened(broker_life=1),
        got(0, 1),
        Moved("a", (E1, at)),
        Closed({"a": (E1, 10)}, 1),
        opened(Kept.BROKER, (E1, again), broker_life=life),  # type: ignore[arg-type]
    )
    seen.wants = lambda message: message.topic == "t"
    passed_is_not_read_again(seen, {"a": truth})


def test_g4_a_closed_reader_stands_behind_all_passed_offsets() -> None:
    passed(10)
    refuses(lambda: passed(9), "G4", "had passed ('e1', 10)")
    refuses(lambda: passed(2), "G4", "had passed ('e1', 10)")


def test_g4_a_closed_reader_stands_before_its_next_message() -> None:
    passed(2, topic="t")


def test_g4_the_next_life_begins_behind_passed_offsets() -> None:
    refuses(lambda: passed(10, again=2), "G4", "begins at ('e1', 2)")
    passed(10, again=2, life=2)


@pytest.mark.parametrize("told", [0, 4])
def test_g4_a_resting_reader_is_told_before_the_log_moves_on(told: int) -> None:
    good = Told("a", "s", "b", 5, 5)
    told_in_time([good, replace(good, told=9)])
    refuses(lambda: told_in_time([good, replace(good, told=told)]), "G4", "holds from 5")


def test_g4_a_stopping_broker_has_told_its_last_place() -> None:
    good = Parted("a", "s", "b", 5, 5)
    told_as_it_parts([good])
    refuses(lambda: told_as_it_parts([good, replace(good, told=4)]), "G4", "it has come to 5")

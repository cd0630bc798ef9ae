"""Every checker refuses what breaks its part of the guarantee, and accepts what does not."""

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
    bounded,
    no_duplicate,
    no_false_alarm,
    no_gap,
    no_phantom,
    nobody_stops_a_publisher,
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
    """Ten messages under E1; a later life of the producer has forgotten them, and has five."""
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
def test_no_gap_accepts_what_follows_on(good: list[Event]) -> None:
    messages = stream(10, at=LONG_AGO if isinstance(good[0], Opened) and good[0].places else LATER)
    no_gap(history(good), {"a": messages})


def test_no_gap_accepts_that_messages_for_others_are_left_out() -> None:
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


def test_no_gap_refuses_another_epoch_without_a_word() -> None:
    refuses(
        lambda: no_gap(history(opened(), got(0, 1), got(2, epoch=E2)), {"a": restarted()}),
        "without a word",
    )
    told = lost(Reason.STATE_LOST, (E2, 2), oldest=0)
    no_gap(history(opened(), got(0, 1), told, got(2, epoch=E2)), {"a": restarted()})


def test_no_gap_refuses_a_life_that_begins_behind_what_its_producer_remembered() -> None:
    """Nobody else knew where the session stood."""
    begins = opened(Kept.PRODUCERS, None, remembered={"a": (E1, 3)})
    seen = history(opened(), got(0, 1, 2), begins, Stands("a", (E1, 5)))
    refuses(lambda: no_gap(seen, {"a": stream(10)}), "G1", "producer knew")
    no_gap(history(opened(), got(0, 1, 2), begins, Stands("a", (E1, 3))), {"a": stream(10)})


def test_no_gap_goes_from_an_epoch_to_the_one_that_continues_it() -> None:
    events = [opened(), *got(*range(10)), *got(10, 11, epoch=E2)]
    no_gap(history(events), {"a": continued(cut_short=10)})
    # Entries keep the epoch under which they were placed: an older name may come again.
    events = [opened(at=(E2, 0)), *got(0, 1), Moved("a", (E2, 2)), *got(2)]
    no_gap(history(events, earliest=True), {"a": continued()})


def test_no_gap_refuses_to_go_on_beyond_what_the_lineage_reaches() -> None:
    events = [opened(), *got(*range(9)), *got(9, epoch=E2)]
    refuses(lambda: no_gap(history(events), {"a": continued()}), "without a word")


def test_no_gap_refuses_a_message_missing_across_the_restart() -> None:
    events = [opened(), *got(*range(6)), *got(8, epoch=E2)]
    refuses(lambda: no_gap(history(events), {"a": continued()}), "6 of e2 is missing")


def test_no_gap_judges_every_message_by_the_filter_that_counted_there() -> None:
    truth = stream(3)
    fill(truth, E1, 3, 6, topic="u")
    changed = Filtered({"a": (E1, 4)}, lambda published: published.topic == "u")
    no_gap(history(opened(), got(0, 1, 2), changed, got(4, 5, topic="u")), {"a": truth})
    late = Filtered({"a": (E1, 3)}, lambda published: published.topic == "u")
    refuses(
        lambda: no_gap(history(opened(), got(0, 1, 2), late, got(4, topic="u")), {"a": truth}),
        "3 of e1 is missing",
    )
    # It is announced before it counts: what is left before that place is still judged by the old one.
    refuses(
        lambda: no_gap(history(opened(), got(0, 1), changed, got(4, topic="u")), {"a": truth}),
        "2 of e1 is missing",
    )


# G2


def test_no_phantom_accepts_what_was_published() -> None:
    no_phantom(history(opened(), got(0, 1, 2)), {"a": stream(10)})
    no_phantom(history(opened(), got(7), got(8, epoch=E2)), {"a": continued()})


def test_no_phantom_refuses_what_nobody_published() -> None:
    refuses(lambda: no_phantom(history(opened(), got(10)), {"a": stream(10)}), "G2", "nobody")
    refuses(lambda: no_phantom(history(opened(), got(0, epoch=E3)), {"a": stream(10)}), "nobody")


def test_no_phantom_refuses_other_bytes_and_another_topic() -> None:
    bytes_of_another = Got("a", E1, 3, "t", b"e1/4")
    refuses(lambda: no_phantom(history(opened(), bytes_of_another), {"a": stream(10)}), "G2")
    topic_of_another = Got("a", E1, 3, "u", b"e1/3")
    refuses(lambda: no_phantom(history(opened(), topic_of_another), {"a": stream(10)}), "G2")


def test_no_phantom_refuses_what_is_not_for_the_reader() -> None:
    truth = stream(3, topic="u")
    seen = history(opened(), got(0, topic="u"))
    refuses(lambda: no_phantom(seen, {"a": truth}), "not for it")


def test_no_phantom_refuses_a_message_under_an_epoch_that_only_took_it_over() -> None:
    seen = history(opened(), [Got("a", E2, 3, "t", b"e1/3")])
    refuses(lambda: no_phantom(seen, {"a": continued()}), "nobody")


def test_no_phantom_refuses_what_was_cut_off_under_the_epoch_that_goes_on_without_it() -> None:
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


def test_placed_as_told_accepts_receipts_that_are_true() -> None:
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


def test_placed_as_told_accepts_that_a_retry_is_placed_again_in_another_life() -> None:
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
def test_no_false_alarm_refuses_an_overrun_of_what_was_held_or_a_wrong_count(
    at: int, missed: int | None, oldest: int
) -> None:
    refuses(lambda: overrun(at, missed, oldest=oldest), "G4")


def test_no_false_alarm_refuses_an_overrun_within_what_the_ring_holds_for_certain() -> None:
    refuses(lambda: overrun(5, 5, capacity=5), "G4", "the ring holds 5")


def test_no_false_alarm_leaves_room_for_what_was_passed_between_two_merged_notices() -> None:
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
def test_across_epochs_only_a_lost_state_is_true(reason: Reason, missed: int | None) -> None:
    told = lost(reason, (E2, 5), oldest=0, missed=missed)
    seen = history(opened(), got(0, 1), told)
    refuses(lambda: no_false_alarm(seen, {"a": restarted()}), "G4")
    told = lost(Reason.STATE_LOST, (E2, 5), oldest=0)
    no_false_alarm(history(opened(), got(0, 1), told), {"a": restarted()})


def test_a_lost_state_is_false_where_the_epoch_is_the_same_or_continued() -> None:
    told = lost(Reason.STATE_LOST, (E1, 10), oldest=6)
    refuses(
        lambda: no_false_alarm(history(opened(), got(0), told), {"a": stream(10, oldest=6)}), "G4"
    )
    told = lost(Reason.STATE_LOST, (E2, 12), oldest=0)
    refuses(lambda: no_false_alarm(history(opened(), got(0), told), {"a": continued()}), "G4")


@pytest.mark.parametrize(("at", "true"), [(9, True), (10, True), (8, False), (3, False)])
def test_ahead_is_who_stands_beyond_what_the_lineage_reaches(at: int, true: bool) -> None:
    told = lost(Reason.AHEAD, (E2, 12), oldest=0)
    seen = history(opened(), got(*range(at)), told)
    if true:
        no_false_alarm(seen, {"a": continued(cut_short=8)})
    else:
        refuses(lambda: no_false_alarm(seen, {"a": continued(cut_short=8)}), "G4")


def test_whoever_stands_beyond_the_lineage_is_told_nothing_else() -> None:
    for reason, missed in ((Reason.OVERWRITTEN, 3), (Reason.STATE_LOST, None)):
        told = lost(reason, (E2, 12), oldest=0, missed=missed)
        seen = history(opened(), got(*range(9)), told)
        refuses(lambda seen=seen: no_false_alarm(seen, {"a": continued()}), "G4")  # type: ignore[misc]


@pytest.mark.parametrize(("after", "true"), [((E1, 8), True), ((E2, 12), False)])
def test_a_reader_may_have_gone_on_in_a_history_that_was_then_lost(
    after: Place, true: bool
) -> None:
    truth = stream(10)
    truth.begin(E2, (E1, 10))
    fill(truth, E2, 10, 12)
    truth.held(0)
    # What comes back may be older than E2, as after a power loss that took more than one life.
    truth.begin(E3, after)
    fill(truth, E3, after[1], 14)
    truth.held(0)
    told = lost(Reason.STATE_LOST, (E3, 14), oldest=0)
    seen = history(opened(), got(0), told)
    if true:
        no_false_alarm(seen, {"a": truth})
    else:
        refuses(lambda: no_false_alarm(seen, {"a": truth}), "G4")


def test_unseen_is_only_for_those_who_were_told_no_place() -> None:
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


def test_a_life_that_nobody_knew_of_a_stream_is_told_unseen_again() -> None:
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


def test_a_session_older_than_its_broker_is_told_so_once_of_its_own_node() -> None:
    told = lost(Reason.STATE_LOST, (E1, 5), oldest=0, own=True)
    no_false_alarm(history(opened(), got(0, 1), Forgotten(), told), {"a": stream(10)})
    # Its broker has kept its name, or the application knows where it stands.
    knows = history(opened(), got(0, 1), Forgotten(knows=True), told)
    refuses(lambda: no_false_alarm(knows, {"a": stream(10)}), "G4")
    told = lost(Reason.STATE_LOST, (E1, 5), oldest=0)
    refuses(lambda: no_false_alarm(history(opened(), got(0, 1), told), {"a": stream(10)}), "G4")


def test_the_loss_of_an_earlier_life_of_a_name_may_be_one_notice_with_that_it_is_ahead() -> None:
    truth = restarted()
    truth.begin(E3, (E2, 2))
    truth.held(0)
    # The name stood in E1, began anew in E2, and read more of that than E3 goes on with.
    begun = [opened(), *got(0, 1), opened(Kept.PRODUCERS, (E2, 0)), *got(0, 1, 2, epoch=E2)]
    told = lost(Reason.STATE_LOST, (E3, 2), oldest=0, own=True)
    no_false_alarm(history(*begun, told), {"a": truth})
    # Not of another node, nor of a name without an earlier life, nor of one that has taken the loss in.
    of_another = lost(Reason.STATE_LOST, (E3, 2), oldest=0)
    first_life = [opened(at=(E2, 0)), *got(0, 1, 2, epoch=E2)]
    heard = [*begun, lost(Reason.STATE_LOST, (E2, 3), oldest=0, own=True)]
    for bad in ([*begun, of_another], [*first_life, told], [*heard, told]):
        refuses(partial(no_false_alarm, history(*bad), {"a": truth}), "further than that history")


# G5


def test_bounded_accepts_what_is_full_and_refuses_one_more() -> None:
    bounded([Held("a", "messages of a", 0, 10), Held("a", "messages of a", 10, 10)])
    refuses(lambda: bounded([Held("a", "messages of a", 11, 10)]), "G5", "held 11")


@pytest.mark.parametrize("held", [11, 12, 1000, 10**9])
def test_bounded_refuses_one_bad_sample_among_good_ones(held: int) -> None:
    good = Held("a", "bytes of b", 10, 10)
    refuses(lambda: bounded([good, Held("b", "bytes of a", held, 10), good]), "G5", "b: bytes of a")


def test_bounded_refuses_what_may_hold_nothing_and_does() -> None:
    refuses(lambda: bounded([Held("a", "items", 1, 0)]), "G5")


# G6


def test_nobody_stops_a_publisher_accepts_waits_within_the_bound_and_unknown_ones() -> None:
    nobody_stops_a_publisher([publish(waited_ns=0), publish(waited_ns=100), publish()], 100)


def test_readers_may_hold_a_publisher_once_for_each_batch_before_it_in_its_turn() -> None:
    two_before = replace(publish(waited_ns=130), ahead=2)
    nobody_stops_a_publisher([two_before], 100, 10)
    late = replace(two_before, waited_ns=131)
    refuses(lambda: nobody_stops_a_publisher([late], 100, 10), "G6", "behind 2")
    # A second publisher of the same node has its turns in between; one of another node has not.
    nobody_stops_a_publisher([late, replace(publish(), publisher="q")], 100, 10)
    elsewhere = replace(publish(), publisher="q", node="b")
    refuses(lambda: nobody_stops_a_publisher([late, elsewhere], 100, 10), "G6", "behind 2")


def test_readers_may_hold_publishers_once_for_each_quarter_of_the_ring() -> None:
    # Eleven batches of three messages, in a ring of which thirty are a quarter: one and a bit, and both ends.
    ten_before = replace(publish(waited_ns=130), ahead=10)
    nobody_stops_a_publisher([ten_before], 100, 10, 30)
    late = replace(ten_before, waited_ns=131)
    refuses(lambda: nobody_stops_a_publisher([late], 100, 10, 30), "G6", "behind 10")
    nobody_stops_a_publisher([late], 100, 10)


@pytest.mark.parametrize("waited_ns", [101, 200, 10**9, 10**12])
def test_nobody_stops_a_publisher_refuses_one_that_waited_longer(waited_ns: int) -> None:
    waits = [publish(waited_ns=1), publish(waited_ns=waited_ns)]
    refuses(lambda: nobody_stops_a_publisher(waits, 100), "G6", f"waited {waited_ns}")


# Names that are dropped, lives that begin nowhere, and those that ask for the earliest.


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


def test_g4_of_a_name_that_its_broker_never_heard_of_in_a_stream_nothing_is_claimed() -> None:
    seen = history(opened(), got(0), opened(Kept.FORGOTTEN, None, held={"a": (E1, 0)}))
    no_false_alarm(seen, {"a": stream(10)})


def test_g4_no_life_begins_nowhere_before_messages_that_are_held_up_to_a_lost_end() -> None:
    """Its broker has gone back to an older state, and may be told by producers of a later one: that changes nothing."""
    truth = stream(10)
    truth.begin(E2, (E1, 10), proven=False)
    truth.held(0)
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E2, 0)})
    seen = history(opened(), got(*range(9)), nowhere)
    refuses(partial(no_false_alarm, seen, {"a": truth}), "begins nowhere")
    # One that stands at the end has nothing but the loss before it.
    no_false_alarm(history(opened(), got(*range(10)), nowhere), {"a": truth})


def test_g4_no_life_begins_nowhere_that_has_lost_nothing() -> None:
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 0)})
    refuses(
        partial(no_false_alarm, history(opened(), got(0, 1), nowhere), {"a": stream(10)}),
        "G4",
        "begins nowhere",
    )
    # It had lost something, and may not have taken that in; or the ring has moved past where it stood.
    told = lost(Reason.UNSEEN, (E1, 10), oldest=4)
    no_false_alarm(history(opened(at=None), told, nowhere), {"a": stream(10, oldest=4)})
    # It has taken it in, and told so; or it died before anybody heard that.
    goes_on = [opened(at=None), told, *got(10, 11)]
    truth = stream(10, oldest=4)
    fill(truth, E1, 10, 12)
    held = {"a": (E1, 4)}
    heard = opened(Kept.BROKER, NOWHERE, held=held, acknowledged={"a": (E1, 12)})
    refuses(
        partial(no_false_alarm, history(*goes_on, heard), {"a": truth}),
        "G4",
        "begins nowhere",
    )
    unheard = opened(Kept.BROKER, NOWHERE, held=held)
    no_false_alarm(history(*goes_on, unheard), {"a": truth})
    moved_on = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 3)})
    no_false_alarm(history(opened(), got(0, 1), moved_on), {"a": stream(10)})


@pytest.mark.parametrize("knows", [True, False])
def test_g4_a_name_that_its_broker_has_kept_begins_nowhere_in_its_own_stream_only_for_a_loss(
    knows: bool,
) -> None:
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 0)})
    seen = history(opened(), got(0, 1), Forgotten(knows), nowhere)
    seen.node = "a"
    if knows:
        refuses(partial(no_false_alarm, seen, {"a": stream(10)}), "begins nowhere")
    else:
        no_false_alarm(seen, {"a": stream(10)})


@pytest.mark.parametrize("heard", [False, True])
def test_g4_a_name_that_its_broker_met_as_a_new_one_begins_nowhere_for_what_it_had_lost_before(
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
        # Its next life as well, if it ended before it was told.
        seen.add(nowhere)
    check = partial(no_false_alarm, seen, {"a": restarted()})
    if heard:
        refuses(check, "begins nowhere")
    else:
        check()


@pytest.mark.parametrize(
    ("begin", "true"),
    [(NOWHERE, True), ((E1, 3), True), ((E1, 5), True), ((E1, 7), False), ((E2, 12), False)],
)
def test_g1_a_name_whose_place_its_broker_lacks_begins_where_it_stood_or_before(
    begin: Place, true: bool
) -> None:
    again = Opened(BIRTH, Kept.BROKER, {"a": begin}, unknown=frozenset("a"))
    seen = history(opened(), got(*range(5)), again)
    if true:
        no_gap(seen, {"a": continued()})
    else:
        refuses(lambda: no_gap(seen, {"a": continued()}), "G1", "it stood at")


@pytest.mark.parametrize(("begin", "true"), [((E1, 2), True), ((E1, 3), False)])
def test_g1_a_life_that_began_nowhere_and_ended_untold_moves_nothing(
    begin: Place, true: bool
) -> None:
    again = opened(Kept.BROKER, begin)
    seen = history(opened(), got(0, 1), opened(Kept.BROKER, NOWHERE), again)
    if true:
        no_gap(seen, {"a": stream(10)})
    else:
        refuses(lambda: no_gap(seen, {"a": stream(10)}), "G1", "the last one ended at")


def test_g1_whoever_asks_for_the_earliest_begins_with_what_a_ring_held_from() -> None:
    truth = {"a": stream(10, oldest=4, at=LONG_AGO)}
    for begin in (0, 4):
        no_gap(history(opened(at=None), Stands("a", (E1, begin)), earliest=True), truth)
    late = history(opened(at=None), Stands("a", (E1, 6)), earliest=True)
    refuses(partial(no_gap, late, truth), "G1", "the ring held 4")


def test_g1_whoever_asks_for_the_earliest_is_owed_what_was_published_after_it_subscribed() -> None:
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


def test_g1_a_life_may_begin_where_the_last_one_stood_though_its_producer_has_forgotten_that() -> (
    None
):
    """Its broker had asked the producer before."""
    truth = {"a": stream(10, oldest=4)}
    first, again = [opened(), *got(*range(6))], opened(Kept.PRODUCERS, None)
    no_gap(history(first, again, Stands("a", (E1, 6)), earliest=True), truth)
    late = history(first, again, Stands("a", (E1, 7)), earliest=True)
    refuses(partial(no_gap, late, truth), "G1", "the ring held 4")
    new = history(first, opened(Kept.NOTHING, None), Stands("a", (E1, 6)), earliest=True)
    refuses(partial(no_gap, new, truth), "G1", "the ring held 4")


@pytest.mark.parametrize(("begin", "true"), [((E1, 4), True), ((E2, 7), True), ((E2, 9), False)])
def test_g1_a_life_may_begin_at_an_earlier_place_of_the_history_in_which_the_last_one_stood(
    begin: Place, true: bool
) -> None:
    first = [opened(), *got(*range(7)), Moved("a", (E2, 7))]
    seen = history(first, opened(Kept.PRODUCERS, None), Stands("a", begin), earliest=True)
    truth = {"a": continued()}
    truth["a"].held(3)
    if true:
        no_gap(seen, truth)
    else:
        refuses(partial(no_gap, seen, truth), "G1", "the ring held")


def unseen_at(begin: int, oldest: int | None = None) -> Lost:
    """What a reader in its first life is told that asked for the earliest."""
    held = begin if oldest is None else oldest
    return Lost("a", Reason.UNSEEN, None, (E1, begin), held, reborn=False)


@pytest.mark.parametrize(
    ("told", "false"),
    [
        (unseen_at(4), None),
        (unseen_at(10, oldest=4), None),  # It merged with a later one.
        (unseen_at(0), "still held the first message"),
        (unseen_at(5), "which never was"),
        (unseen_at(4, oldest=3), "which never was"),
        (replace(unseen_at(4), missed=4), "told no place there"),
        (replace(unseen_at(4), reason=Reason.OVERWRITTEN), "told no place there"),
    ],
)
def test_g4_whoever_asks_for_the_earliest_goes_on_at_what_a_ring_held_from(
    told: Lost, false: str | None
) -> None:
    truth = {"a": stream(10, oldest=4)}
    check = partial(no_false_alarm, history(opened(at=None), told, earliest=True), truth)
    if false is None:
        check()
    else:
        refuses(check, "G4", false)


def test_g4_only_whoever_asks_for_the_earliest_goes_on_there() -> None:
    truth = {"a": stream(10, oldest=4)}
    check = partial(no_false_alarm, history(opened(at=None), unseen_at(4)), truth)
    refuses(check, "G4", "which never was")


def test_g1_a_life_of_which_nothing_was_read_may_be_lost_without_a_word() -> None:
    """The notice names it. What the reader gets is of an earlier life, which a third one goes on with."""
    truth = continued()
    truth.begin(E3, (E1, 10))
    truth.held(0)
    told = lost(Reason.UNSEEN, (E2, 4), oldest=4)
    no_gap(history(opened(at=None), told, got(*range(4, 10))), {"a": truth})
    behind = lost(Reason.UNSEEN, (E2, 9), oldest=9)
    refuses(partial(no_gap, history(opened(at=None), behind, got(9)), {"a": truth}), "G1")


def test_g1_an_idle_life_that_ended_whole_may_be_lost_without_a_word() -> None:
    truth = stream(10)
    truth.begin(E2, (E1, 10))
    truth.held(4)
    truth.begin(E3, (E1, 10))
    truth.held(4)
    fill(truth, E3, 10, 12)
    told = lost(Reason.UNSEEN, (E2, 10), oldest=10)
    no_gap(history(opened(at=None), told, got(10, 11, epoch=E3)), {"a": truth})


def test_g1_a_later_life_may_begin_behind_what_was_not_for_it() -> None:
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


def test_g1_whoever_is_remembered_is_told_that_its_own_nodes_history_ended() -> None:
    truth = {"a": stream(10), "b": stream(0)}
    lives_on = opened(Kept.PRODUCERS, None, remembered={"a": (E1, 3)})
    told_of_b = Lost("b", Reason.STATE_LOST, None, (E2, 0), 0, own=True)
    stands = Stands("a", (E1, 3))
    own_loss_is_told(on_b(opened(), lives_on, told_of_b, stands), truth)
    again = opened(Kept.BROKER)
    own_loss_is_told(on_b(opened(), lives_on, stands, again, told_of_b), truth)
    # Nobody has met the producer that knows, or it has begun anew.
    own_loss_is_told(on_b(opened(), lives_on), truth)
    own_loss_is_told(on_b(opened(), lives_on, Stands("a", (E2, 0))), truth)
    for never in (on_b(opened(), lives_on, stands), on_b(opened(), lives_on, stands, again)):
        refuses(partial(own_loss_is_told, never, truth), "G1", "history ended")


def test_a_loss_that_a_third_node_knows_of_has_to_be_told() -> None:
    truth = {"a": restarted(), "b": stream(3)}
    third = {"a": {"b": ((E1, 4), E1)}}
    forgot = opened(Kept.PRODUCERS, (E2, 0), third=third)
    meets, told = Stands("b", (E1, 3)), Lost("a", Reason.STATE_LOST, None, (E2, 5), 0)
    third_loss_is_told(history(opened(), forgot, told, meets), truth)
    third_loss_is_told(history(opened(), forgot, meets, opened(Kept.BROKER), told), truth)
    # Its broker has forgotten that as well, before or after it met the third node.
    third_loss_is_told(history(opened(), forgot, meets, Forgotten()), truth)
    third_loss_is_told(history(opened(), forgot, Forgotten(), meets), truth)
    # The third node was not met, or has begun anew; the history goes on; or the broker knows the name itself.
    third_loss_is_told(history(opened(), forgot), truth)
    third_loss_is_told(history(opened(), forgot, Stands("b", (E2, 0))), truth)
    third_loss_is_told(history(opened(), forgot, meets), {"a": continued(), "b": stream(3)})
    third_loss_is_told(history(opened(), opened(Kept.BROKER, (E2, 0), third=third), meets), truth)
    never = history(opened(), forgot, meets)
    refuses(partial(third_loss_is_told, never, truth), "G1", "which a third node knew")


def test_a_name_whose_place_was_recovered_is_not_told_that_its_stream_is_lost() -> None:
    told = Lost("a", Reason.STATE_LOST, None, (E2, 12), 0, own=True, recalled=(E1, 5))
    seen = history(opened(at=(E1, 5)), told)
    refuses(partial(no_false_alarm, seen, {"a": continued()}), "G4", "was recovered with that")


def test_what_one_publisher_published_out_of_order_is_refused() -> None:
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
    """It got the first two of ten, closed at `at` when its broker had passed all ten, and begins again at `again`."""
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


def test_g4_a_reader_that_closed_stands_behind_all_that_its_broker_had_passed() -> None:
    passed(10)
    refuses(lambda: passed(9), "G4", "had passed ('e1', 10)")
    refuses(lambda: passed(2), "G4", "had passed ('e1', 10)")


def test_g4_a_reader_that_closed_before_a_message_for_it_stands_before_that() -> None:
    passed(2, topic="t")


def test_g4_the_next_life_begins_behind_what_was_passed_as_the_last_one_closed() -> None:
    refuses(lambda: passed(10, again=2), "G4", "begins at ('e1', 2)")
    passed(10, again=2, life=2)


@pytest.mark.parametrize("told", [0, 4])
def test_g4_a_resting_reader_is_told_its_place_before_the_log_lets_go_of_it(told: int) -> None:
    good = Told("a", "s", "b", 5, 5)
    told_in_time([good, replace(good, told=9)])
    refuses(lambda: told_in_time([good, replace(good, told=told)]), "G4", "holds from 5")


def test_g4_a_broker_that_parts_has_told_how_far_it_has_come() -> None:
    good = Parted("a", "s", "b", 5, 5)
    told_as_it_parts([good])
    refuses(lambda: told_as_it_parts([good, replace(good, told=4)]), "G4", "it has come to 5")

"""The reading of logs, and logs of a broken guarantee, which the checks refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.faults.application import Keeps, Settings
from tests.faults.evidence import Log, check, histories_of
from tests.faults.logbook import Follower, Logbook, Record
from tests.simulation.history import Got, Kept, Lost, Moved, Opened, Stands
from tests.simulation.violation import Violation

OLD, NEW, OWN = "0" * 32, "1" * 32, "b" * 32
EPOCHS = {"a": [OLD, NEW], "b": [OWN]}


def publisher(*records: Record) -> Log:
    return Log(Settings("publisher", "pa", "a", "", ""), list(records))


def reader(*records: Record, keeps: Keeps = "nothing") -> Log:
    return Log(Settings("reader", "rb", "b", "", "", keeps=keeps), list(records))


def attempt(number: int, *texts: str, t: int = 10, to: str | None = None) -> Record:
    payloads = [[text, len(text)] for text in texts]
    return {"t": t, "attempt": number, "life": 0, "topic": "a", "to": to, "payloads": payloads}


def outcome(number: int, *told: Any) -> Record:
    return {"t": 20, "outcome": number, "life": 0, "told": [*told]}


def accepted(*texts: str, epoch: str = OLD, first: int = 0, t: int = 10) -> Log:
    """A publisher with one receipt for each message."""
    places = [["a", epoch, first + i] for i in range(len(texts))]
    return publisher(attempt(1, *texts, t=t), outcome(1, *places))


def opened(t: int = 5, presented: Any = None, resumed: bool = False, **position: Any) -> Record:
    return {"t": t, "opened": presented, "resumed": resumed, "position": position}


def got(*messages: tuple[int, str], epoch: str = OLD) -> Record:
    told = [[offset, "a", text, len(text)] for offset, text in messages]
    position = {"a": [epoch, messages[-1][0] + 1]}
    return {"t": 30, "got": ["a", epoch, told], "position": position}


def lost(
    reason: str, missed: int | None, epoch: str, offset: int, before: dict[str, Any]
) -> Record:
    position = {**before, "a": [epoch, offset]}
    return {
        "t": 40,
        "lost": ["a", reason, missed, epoch, offset],
        "before": before,
        "position": position,
    }


def refused(text: str, *logs: Log, capacity: int = 10) -> None:
    """Checks that these logs are refused."""
    with pytest.raises(Violation, match=text):
        passes(*logs, capacity=capacity)


def passes(*logs: Log, capacity: int = 10) -> None:
    publishers = [log for log in logs if log.settings.role == "publisher"]
    readers = [log for log in logs if log.settings.role == "reader"]
    check(EPOCHS, publishers, readers, capacity)


def test_what_was_accepted_and_arrived_in_order_passes() -> None:
    reads = reader(opened(a=[OLD, 0]), got((0, "x"), (1, "y")), got((2, "z")))
    passes(accepted("x", "y", "z"), reads)


def test_a_message_that_is_missing_is_refused() -> None:
    refused("G1", accepted("x", "y", "z"), reader(opened(a=[OLD, 0]), got((0, "x"), (2, "z"))))


def test_a_message_missing_for_one_of_two_readers_is_refused() -> None:
    unanswered = publisher(attempt(1, "x", "y", "z"))
    whole = reader(opened(a=[OLD, 0]), got((0, "x"), (1, "y"), (2, "z")))
    holed = reader(opened(a=[OLD, 0]), got((0, "x"), (2, "z")))
    passes(unanswered, whole)
    refused("G1", unanswered, whole, holed)


def test_a_reader_that_begins_too_late_is_refused() -> None:
    owes = accepted("x", "y", t=10)
    passes(owes, reader(opened(t=11), got((1, "y"))))
    refused("G1", owes, reader(opened(t=9), got((1, "y"))))


def test_an_invented_message_is_refused() -> None:
    refused("G2", accepted("x"), reader(opened(a=[OLD, 0]), got((0, "x"), (1, "made up"))))


def test_a_refused_or_unsent_message_must_not_arrive() -> None:
    reads = reader(opened(a=[OLD, 0]), got((0, "x")))
    for error in ("PublishRejected", "BrokerUnavailable"):
        refused("G2", publisher(attempt(1, "x"), outcome(1, error)), reads)
    passes(publisher(attempt(1, "x"), outcome(1, "PublishUnknown")), reads)


def test_two_readers_that_differ_about_a_place_are_refused() -> None:
    unanswered = publisher(attempt(1, "x", "y"))
    one, other = (reader(opened(a=[OLD, 0]), got((0, text))) for text in "xy")
    refused("G2", unanswered, one, other)


def test_a_retry_may_leave_a_second_copy_in_an_earlier_life_only() -> None:
    reads = reader(opened(a=[OLD, 0]), got((0, "x")))
    passes(accepted("x", epoch=NEW), reads)
    late = reader(opened(a=[NEW, 0]), got((0, "x"), epoch=NEW))
    refused("G2", accepted("x", epoch=OLD), late)


def test_a_message_at_two_places_of_one_life_is_refused() -> None:
    unanswered = publisher(attempt(1, "x"))
    refused("G2", unanswered, reader(opened(a=[OLD, 0]), got((0, "x"), (1, "x"))))


def test_two_receipts_for_one_place_are_refused() -> None:
    both = publisher(attempt(1, "x", "y"), outcome(1, ["a", OLD, 0], ["a", OLD, 0]))
    refused("both were told|both told", both)


def test_messages_of_one_publisher_out_of_order_are_refused() -> None:
    refused("order", publisher(attempt(1, "x", "y"), outcome(1, ["a", OLD, 1], ["a", OLD, 0])))


def test_a_message_that_comes_twice_is_refused() -> None:
    reads = reader(opened(a=[OLD, 0]), got((0, "x")), got((0, "x")))
    refused("G1|G3", accepted("x"), reads)


def test_a_stored_position_excludes_messages_read_before_it() -> None:
    first = [opened(a=[OLD, 0]), got((0, "x"), (1, "y"))]
    again = opened(presented={"a": [OLD, 1]}, a=[OLD, 1])
    refused("G3", accepted("x", "y"), reader(*first, again, got((1, "y")), keeps="position"))
    on = opened(presented={"a": [OLD, 2]}, a=[OLD, 2])
    passes(accepted("x", "y", "z"), reader(*first, on, got((2, "z")), keeps="position"))


def test_a_named_session_resumes_at_its_acknowledged_place() -> None:
    first = [opened(a=[OLD, 0], b=[OWN, 0])]
    first.append({**got((0, "x")), "position": {"a": [OLD, 1], "b": [OWN, 0]}})
    again = opened(resumed=True, a=[OLD, 0], b=[OWN, 0])
    passes(accepted("x", "y"), reader(*first, again, got((0, "x"), (1, "y")), keeps="name"))
    # Two more messages at once look like a move over other topics. So the session's topics decide.
    further = opened(resumed=True, a=[OLD, 2], b=[OWN, 0])
    refused("G1", accepted("x", "y"), reader(*first, further, keeps="name"))


def test_an_older_named_session_is_told_of_its_brokers_new_life() -> None:
    def own(before: dict[str, Any]) -> Record:
        record = lost("state_lost", None, OWN, 0, before)
        return {**record, "lost": ["b", *record["lost"][1:]]}

    first = opened(b=["c" * 32, 7])
    passes(reader(first, opened(), own({}), keeps="name"))
    refused("G4", reader(opened(), own({}), keeps="name"))


def test_an_alarm_within_what_the_ring_holds_is_refused() -> None:
    overrun = reader(opened(a=[OLD, 0]), lost("overwritten", 12, OLD, 12, {"a": [OLD, 0]}))
    published = accepted(*"abcdefghijklm")
    passes(published, overrun, capacity=11)
    refused("the ring holds", published, overrun, capacity=12)


def test_messages_still_in_the_ring_are_never_unseen() -> None:
    unseen = reader(opened(), lost("unseen", None, OLD, 12, {}))
    passes(accepted("x", "y"), unseen, capacity=1)
    refused("held everything", accepted("x", "y"), unseen, capacity=2)


def test_an_alarm_for_the_wrong_reason_is_refused() -> None:
    before = {"a": [OLD, 0]}
    passes(reader(opened(a=[OLD, 0]), lost("state_lost", None, NEW, 0, before)))
    refused("G4", reader(opened(a=[OLD, 0]), lost("state_lost", None, OLD, 0, before)))
    refused("G4", reader(opened(a=[OLD, 0]), lost("overwritten", 3, NEW, 0, before)))


def test_an_unknown_history_is_refused() -> None:
    refused("no life", reader(opened(a=[OLD, 0]), lost("state_lost", None, "f" * 32, 0, {})))


def test_an_error_that_no_fault_explains_is_refused() -> None:
    refused("ProtocolError", reader({"t": 1, "failed": "ProtocolError", "text": "a hole"}))


def test_records_become_the_events_that_the_application_saw() -> None:
    (history,) = histories_of(
        reader(
            opened(b=[OWN, 3]),
            {**got((4, "x")), "position": {"a": [OLD, 5], "b": [OWN, 7]}},
            lost("state_lost", None, NEW, 2, {"a": [OLD, 6], "b": [OWN, 7]}),
        )
    )
    assert [type(event) for event in history.events] == [
        *(Opened, Stands, Stands, Got, Moved, Moved, Lost)
    ]
    assert history.at == {"a": (NEW, 2), "b": (OWN, 7)}


def test_a_reader_without_memory_is_new_after_each_restart() -> None:
    assert len(histories_of(reader(opened(), opened()))) == 2
    (one,) = histories_of(reader(opened(), opened(presented={}), keeps="position"))
    assert [e.kept for e in one.events if isinstance(e, Opened)] == [Kept.NOTHING, Kept.STORED]


def test_a_line_torn_by_a_crash_has_not_happened(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Logbook(path).write({"n": 1})
    with path.open("ab") as file:
        file.write(json.dumps({"n": 2}).encode()[:-2])
    follower = Follower(path)
    assert follower.news() == [{"n": 1}]
    again = Logbook(path)
    assert again.records == [{"n": 1}]
    again.write({"n": 3})
    assert follower.news() == [{"n": 3}]
    assert Logbook(path).records == [{"n": 1}, {"n": 3}]

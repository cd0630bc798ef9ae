"""G1 and G4: the checkers judge the losses of forgotten names, and the places of closed readers."""

from __future__ import annotations

from functools import partial

from tests.simulation.checkers import (
    no_false_alarm,
    own_loss_is_told,
    passed_is_not_read_again,
    third_loss_is_told,
)
from tests.simulation.history import (
    Closed,
    Event,
    Forgotten,
    History,
    Kept,
    Lost,
    Moved,
    Stands,
)
from tests.simulation.made_histories import (
    E1,
    E2,
    continued,
    fill,
    got,
    history,
    opened,
    refuses,
    restarted,
    stream,
)

from pubsubd_protocol.attach import Reason


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
    # Its broker has forgotten the name again: the place that the application presents counts.
    own_loss_is_told(on_b(opened(), lives_on, Forgotten(), stands), truth)
    own_loss_is_told(on_b(opened(), lives_on, stands, Forgotten()), truth)
    kept = Forgotten(knows=True)
    for seen in (
        on_b(opened(), lives_on, stands),
        on_b(opened(), lives_on, stands, again),
        on_b(opened(), lives_on, kept, stands),
    ):
        refuses(partial(own_loss_is_told, seen, truth), "G1", "history ended")


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
    told = Lost("a", Reason.STATE_LOST, None, (E2, 12), 0, own=True, recovered=(E1, 5))
    seen = history(opened(at=(E1, 5)), told)
    refuses(partial(no_false_alarm, seen, {"a": continued()}), "G4", "was recovered with that")


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

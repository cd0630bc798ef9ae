"""G2 and G6 for publishers: the checkers refuse false receipts, a wrong order, and long waits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.simulation.made_histories import (
    E1,
    E2,
    LATER,
    continued,
    message,
    publish,
    refuses,
    stream,
)
from tests.simulation.receipts import Published as Publish
from tests.simulation.receipts import answers_publishers_in_time, placed_as_told
from tests.simulation.truth import Published


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

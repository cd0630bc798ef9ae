"""A subscription knows the nodes that are not heard, and the SDK notices a silent broker."""

from __future__ import annotations

from pubsubd.health import NodeBack, NodeLost, SubscriptionHealth
from pubsubd.pulse import Pulse

# SubscriptionHealth.


def test_a_change_is_reported_once() -> None:
    health = SubscriptionHealth()
    assert health.told({"b": 1500}, 100.0) == [NodeLost("b", 98.5)]
    assert health.told({"b": 2500}, 101.0) == []
    assert health.unreachable == {"b": 98.5}
    assert health.told({}, 102.0) == [NodeBack("b")]
    assert health.unreachable == {}


def test_the_loss_of_the_own_broker_keeps_what_is_known_of_others() -> None:
    health = SubscriptionHealth()
    health.told({"b": 0}, 100.0)
    assert health.broker_lost("own", 101.0) == [NodeLost("own", 101.0)]
    assert health.broker_lost("own", 105.0) == []
    assert health.unreachable == {"own": 101.0, "b": 100.0}
    assert set(health.told({"b": 8000}, 108.0)) == {NodeBack("own")}
    assert health.unreachable == {"b": 100.0}


def test_an_iteration_gets_each_difference_once_and_none_in_the_past() -> None:
    health = SubscriptionHealth()
    assert health.take() is None
    health.told({"b": 0}, 100.0)
    health.told({}, 101.0)
    assert not health.news
    assert health.take() is None
    health.told({"b": 0, "c": 0}, 102.0)
    assert [health.take(), health.take(), health.take()] == [
        NodeLost("b", 102.0),
        NodeLost("c", 102.0),
        None,
    ]
    health.told({"c": 1000}, 103.0)
    assert health.news
    assert [health.take(), health.take()] == [NodeBack("b"), None]


# Pulse.


def beats(pulse: Pulse, times: list[float], *, heard: bool = False, reads: bool = True) -> bool:
    return any(pulse.beat(now_s, heard=heard, reads=reads) for now_s in times)


def test_a_broker_that_says_nothing_is_silent_in_time_and_not_before() -> None:
    pulse = Pulse(2.0, 6.0, 0.0)
    assert not beats(pulse, [2.0, 4.0])
    assert beats(pulse, [6.0])


def test_a_broker_that_is_heard_is_never_silent() -> None:
    assert not beats(Pulse(2.0, 6.0, 0.0), [2.0 * i for i in range(1, 100)], heard=True)


def test_a_client_that_does_not_read_does_not_accuse_its_broker() -> None:
    pulse = Pulse(2.0, 6.0, 0.0)
    assert not beats(pulse, [2.0, 4.0, 6.0, 8.0, 10.0], reads=False)
    assert not beats(pulse, [12.0, 14.0])
    assert beats(pulse, [16.0])


def test_a_client_whose_loop_stood_still_does_not_blame_its_broker() -> None:
    pulse = Pulse(2.0, 6.0, 0.0)
    assert not beats(pulse, [60.0, 62.0, 64.0])
    assert beats(pulse, [66.0])

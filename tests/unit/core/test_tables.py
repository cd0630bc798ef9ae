"""Pure formulas and small records, as tables: liveness, lag, naming, histogram, notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.builders import at, entry, log_of

from pubsubd_broker.core.limits import LAG_WARNING_EVERY_NS, LAG_WARNING_SHARE
from pubsubd_broker.core.links.liveness import is_silent
from pubsubd_broker.core.links.naming import conflict
from pubsubd_broker.core.observe.histogram import BOUNDS_S, Histogram
from pubsubd_broker.core.observe.notices import MAX_NOTICES, Level, Notice, Notices
from pubsubd_broker.core.streams.lag import LagWarning, lag_share
from pubsubd_broker.core.streams.registry import CursorRegistry

# Liveness.


@pytest.mark.parametrize(
    ("heard", "now", "silent"), [(100, 100, False), (100, 110, False), (100, 111, True)]
)
def test_silence_is_longer_than_the_timeout(heard: int, now: int, silent: bool) -> None:
    assert is_silent(heard, now, 10) == silent


# Lag.


@pytest.mark.parametrize(
    ("held", "capacity", "lag", "share"),
    [
        (0, 10, 5, 0.0),  # an empty ring: nothing to divide by
        (10, 10, 0, 0.0),
        (10, 10, 4, 0.4),
        (10, 10, 10, 1.0),
        (10, 10, 99, 1.0),
        (5, 10, 5, 0.5),
        (1, 1, 1, 1.0),
    ],
)
def test_the_share_of_a_lag_is_of_the_capacity(
    held: int, capacity: int, lag: int, share: float
) -> None:
    log = log_of(*(entry(offset) for offset in range(held)), max_messages=capacity)
    assert lag_share(lag, log) == pytest.approx(share)


def test_the_share_of_a_lag_is_by_bytes_where_they_are_scarcer() -> None:
    log = log_of(entry(0, 2), entry(2, 2), max_messages=1000)
    log.max_bytes = 2 * log.bytes
    assert lag_share(4, log) == pytest.approx(0.5)
    assert lag_share(2, log) == pytest.approx(0.25)


def _registry(**cursors: int) -> CursorRegistry:
    registry = CursorRegistry(10)
    for consumer, offset in cursors.items():
        registry.acknowledge(consumer, at(offset), {}, now_ns=0)
    return registry


@pytest.mark.parametrize(
    ("cursors", "warned"),
    [
        ({}, None),
        ({"b": 7}, None),  # lags by 3 of 10
        ({"b": 6}, ("b", 4)),  # by 4 of 10: the threshold
        ({"b": 6, "c": 2, "d": 9}, ("c", 8)),  # the slowest
        ({"b": 0}, ("b", 10)),
    ],
)
def test_the_slowest_consumer_is_warned_of_from_the_threshold_on(
    cursors: dict[str, int], warned: tuple[str, int] | None
) -> None:
    log = log_of(*(entry(offset) for offset in range(10)), max_messages=10)
    fields = LagWarning().check(log, _registry(**cursors), now_ns=0)
    assert (fields and (fields["consumer"], fields["lag_messages"])) == warned
    if fields is not None:
        assert fields["threshold"] == LAG_WARNING_SHARE


def test_a_consumer_that_has_expired_is_not_warned_of_any_more() -> None:
    log = log_of(*(entry(offset) for offset in range(20)), max_messages=10)
    assert LagWarning().check(log, _registry(b=9), now_ns=0) is None
    fields = LagWarning().check(log, _registry(b=9, c=10), now_ns=0)
    assert fields is not None
    assert fields["consumer"] == "c"


def test_there_is_at_most_one_warning_in_a_while() -> None:
    log = log_of(*(entry(offset) for offset in range(10)), max_messages=10)
    warning, registry = LagWarning(), _registry(b=0)
    assert warning.check(log, registry, now_ns=5) is not None
    assert warning.check(log, registry, now_ns=6) is None
    assert warning.check(log, registry, now_ns=4 + LAG_WARNING_EVERY_NS) is None
    assert warning.check(log, registry, now_ns=5 + LAG_WARNING_EVERY_NS) is not None


# Naming.

LIFE, OTHER, THIRD = b"1" * 16, b"2" * 16, b"3" * 16


@pytest.mark.parametrize(
    ("name", "life", "live", "code"),
    [
        ("b", OTHER, [], None),
        ("b", OTHER, [OTHER], None),  # the same broker, by another link
        ("b", OTHER, [OTHER, OTHER], None),
        ("b", OTHER, [THIRD], "name_in_use"),
        ("b", OTHER, [OTHER, THIRD], "name_in_use"),
        ("a", LIFE, [], "self"),
        ("a", OTHER, [], "name_in_use"),
    ],
)
def test_a_name_is_free_unless_another_life_has_it(
    name: str, life: bytes, live: list[bytes], code: str | None
) -> None:
    clash = conflict(name, life, "a", LIFE, live)
    assert (clash and clash[0]) == code


def test_a_refusal_of_a_name_says_the_name_and_what_to_do() -> None:
    clash = conflict("b", OTHER, "a", LIFE, [THIRD])
    assert clash is not None
    assert "'b'" in clash[1]
    assert "--node" in clash[1]


# Histogram.


def test_an_observation_counts_in_its_bucket_and_all_above() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.00005, 0.00006, 0.2, 1.0, 7.0):
        histogram.observe(seconds)
    counts = dict(histogram.cumulative())
    assert counts[0.00005] == 2
    assert counts[0.0001] == 3
    assert counts[0.05] == 3
    assert counts[0.25] == 4
    assert counts[1.0] == 5
    assert histogram.count == 6
    assert histogram.sum_s == pytest.approx(8.20011)


@given(st.lists(st.floats(0, 10)))
def test_a_histogram_is_cumulative_and_counts_everything(observed: list[float]) -> None:
    histogram = Histogram()
    for seconds in observed:
        histogram.observe(seconds)
    for bound, count in histogram.cumulative():
        assert count == sum(seconds <= bound for seconds in observed)
    assert [bound for bound, _ in histogram.cumulative()] == list(BOUNDS_S)
    assert histogram.count == len(observed)


# Notices.


def test_notices_are_taken_once_in_order() -> None:
    notices = Notices()
    notices.info("a.happened", n=1)
    notices.warning("b.happened")
    notices.error("c.happened")
    assert notices.take() == [
        Notice("a.happened", Level.INFO, {"n": 1}),
        Notice("b.happened", Level.WARNING, {}),
        Notice("c.happened", Level.ERROR, {}),
    ]
    assert notices.take() == []


def test_noise_is_bounded_and_dropped_notices_are_counted() -> None:
    notices = Notices()
    for n in range(MAX_NOTICES + 30):
        notices.info("noise", n=n)
    taken = notices.take()
    assert len(taken) == MAX_NOTICES + 1
    assert taken[-1] == Notice("notices.dropped", Level.WARNING, {"count": 30})
    notices.info("noise")
    assert len(notices.take()) == 1


SECOND = 1_000_000_000


def refusal(**fields: object) -> Notice:
    return Notice("connection.refused", Level.WARNING, fields)


def test_a_cause_is_logged_once_and_then_its_repetitions_counted() -> None:
    notices = Notices(repeat_ns=60 * SECOND)
    # The clock's zero is not the start: the first period begins with the first tick.
    notices.tick(10**15)
    for _ in range(50):
        notices.repeatable(refusal(), "secret", "address 10.0.0.1")
    notices.repeatable(refusal(), "secret", "address 10.0.0.2")
    assert notices.take() == [refusal(), refusal()]
    notices.tick(10**15 + 59 * SECOND)
    assert notices.take() == []
    notices.tick(10**15 + 60 * SECOND)
    fields: dict[str, object] = {
        "of": "connection.refused",
        "why": "secret",
        "origin": "address 10.0.0.1",
        "times": 49,
    }
    assert notices.take() == [Notice("log.repeated", Level.WARNING, fields)]
    notices.repeatable(refusal(), "secret", "address 10.0.0.1")
    assert notices.take() == [refusal()]


def test_what_happens_before_the_first_tick_counts_from_there() -> None:
    notices = Notices(repeat_ns=60 * SECOND)
    notices.repeatable(refusal(), "secret", "address 10.0.0.1")
    notices.tick(10**15)
    notices.repeatable(refusal(), "secret", "address 10.0.0.1")
    assert notices.take() == [refusal()]

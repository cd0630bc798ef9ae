"""Histories and streams made by hand, for the tests of the checkers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.simulation.history import (
    Event,
    Got,
    History,
    Kept,
    Lost,
    Opened,
)
from tests.simulation.receipts import Published as Publish
from tests.simulation.truth import Place, Published, StreamTruth
from tests.simulation.violation import Violation

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

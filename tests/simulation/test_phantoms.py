"""G2 and G3: the checkers refuse invented messages and duplicates."""

from __future__ import annotations

import pytest
from tests.simulation.checkers import no_duplicate, no_phantom
from tests.simulation.history import (
    Event,
    Got,
    Kept,
)
from tests.simulation.made_histories import (
    E1,
    E2,
    E3,
    continued,
    got,
    history,
    lost,
    opened,
    refuses,
    stream,
)

from pubsubd_protocol.attach import Reason


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
    refuses(lambda: no_phantom(seen, {"a": truth}), "not for the reader")


def test_no_phantom_refuses_a_message_under_a_later_epoch() -> None:
    seen = history(opened(), [Got("a", E2, 3, "t", b"e1/3")])
    refuses(lambda: no_phantom(seen, {"a": continued()}), "never published")


def test_no_phantom_refuses_a_cut_off_message() -> None:
    seen = history(opened(), [Got("a", E2, 9, "t", b"e1/9")])
    refuses(lambda: no_phantom(seen, {"a": continued()}), "published was")


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

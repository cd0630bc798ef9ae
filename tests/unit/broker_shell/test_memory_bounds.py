"""Memory at the bounds, as computed. `tests/integration/test_memory_at_bounds.py` measures it."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from tests.memory_bounds import memory_at_bounds

from pubsubd_broker.core.config import Config
from pubsubd_broker.settings.bounds import BOUNDS
from pubsubd_broker.settings.values import Settings

PLAIN = Settings(Config("a"), "/run/s", peers=(("b", 1),), journal="/var/j")

NO_MEMORY = {
    "max-connections-per-uid": "a share of all connections",
    "max-connections-per-address": "a share of all connections",
    "handshake-timeout": "a time",
    "http-timeout": "a time",
    "log-repeat": "a time",
    "max-batch": "what a batch takes is bounded by max-frame",
    "max-batch-topics": "what a batch takes is bounded by max-frame",
    "max-message": "what a message takes is bounded by max-frame",
    "ring-messages": "an entry that is held counts its overhead as bytes of the ring",
    "replica-messages": "the same",
    "max-producers": "those that are configured are counted",
}


def changed(part: Any, field: str, value: object) -> Any:
    """A copy of `part` with another value in `field`. Dots lead into parts of it."""
    first, _, rest = field.partition(".")
    return replace(part, **{first: changed(getattr(part, first), rest, value) if rest else value})


def total(settings: Settings) -> int:
    return sum(memory_at_bounds(settings).values())


@pytest.mark.parametrize(
    "field",
    [setting.field for setting in BOUNDS if setting.name not in NO_MEMORY],
)
def test_each_bound_that_takes_memory_is_counted(field: str) -> None:
    # A session is a connection: both have to grow.
    roomy = changed(PLAIN, "core.limits.connections", 100_000)
    assert total(changed(roomy, field, 2 * attrgetter(field)(roomy))) > total(roomy)


def test_each_further_peer_takes_a_replica() -> None:
    two = replace(PLAIN, peers=(("b", 1), ("c", 1)))
    assert total(two) - total(PLAIN) > PLAIN.core.replica_bytes


def test_what_is_switched_off_takes_nothing() -> None:
    parts = memory_at_bounds(replace(PLAIN, journal=None, http=None))
    assert (parts["journal"], parts["http"], parts["tls"]) == (0, 0, 0)
    assert memory_at_bounds(replace(PLAIN, tls_cert="c"))["tls"] > 0

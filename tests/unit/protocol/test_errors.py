"""Refusals that time can lift are told apart from final ones."""

from __future__ import annotations

import pytest

from pubsubd_protocol.errors import ConnectionRefused


@pytest.mark.parametrize(
    "code",
    [
        *("draining", "recovering", "name_in_use", "replaced", "handshake_timeout"),
        *("too_many_connections", "too_many_sessions", "too_many_consumers"),
        *("too_many_of_one", "too_many_producers", "too_many_commands"),
        *("too_much_unfinished", "too_much_unsent"),
    ],
)
def test_a_passing_refusal_can_be_tried_again(code: str) -> None:
    assert ConnectionRefused(code, "later").retriable


@pytest.mark.parametrize(
    "code", ["version", "protocol", "role", "invalid_topic", "self", "new", "too_many_patterns"]
)
def test_a_lasting_refusal_is_no_use_to_try_again(code: str) -> None:
    refused = ConnectionRefused(code, "an operator has to act")
    assert not refused.retriable
    assert str(refused) == f"an operator has to act ({code})"

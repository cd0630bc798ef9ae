"""Copies of clients and subscriptions: they carry the configuration, and nothing of what is open or in flight."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import pubsubd
from pubsubd.health import State
from pubsubd_protocol.frames import Hello

COPIES = pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)


def greeting(client: pubsubd.Client) -> Hello:
    return client._dialler.identity.hello("publisher")


@COPIES
def test_a_copied_client_has_its_own_identity_and_the_configuration(
    copied: Callable[[Any], Any],
) -> None:
    client = pubsubd.connect("/run/s", name="one", codec=pubsubd.JSON, publish_timeout_s=3.0)
    first = greeting(client)
    other = copied(client)
    assert (other.socket, other.name, other.state) == ("/run/s", "one", State.CONNECTING)
    assert other._publish_timeout_s == 3.0
    assert greeting(other).sender_id != first.sender_id
    assert greeting(client) == first, "one object keeps its identity"


@COPIES
def test_a_copy_of_a_subscription_is_as_this_one_was_made(copied: Callable[[Any], Any]) -> None:
    client = pubsubd.connect("/run/s")
    subscription = client.subscribe("a.>", "b", name="n")
    other = copied(subscription)
    assert other is not subscription
    assert other.patterns == ("a.>", "b")
    assert other.state is State.CONNECTING


@COPIES
def test_a_copy_of_a_closed_client_can_be_opened(copied: Callable[[Any], Any]) -> None:
    client = pubsubd.connect("/run/s")
    client.state = State.CLOSED
    assert copied(client).state is State.CONNECTING


ERRORS = [
    pubsubd.BrokerUnavailable("/run/s", "it hangs"),
    pubsubd.ConnectionRefused("draining", "it stops"),
    pubsubd.CursorExpired("a", pubsubd.Reason.UNSEEN, None, 7, "0" * 32),
    pubsubd.DecodeError("t", "a", 3, "json", "not JSON"),
    pubsubd.EncodeError("t", "set", "json", "not JSON"),
    pubsubd.InvalidArgument("timeout is a number of seconds"),
    pubsubd.MessageTooLarge("a message", 2, 1),
    pubsubd.NameInUse("n", "held"),
    pubsubd.ProtocolError("sequence", "it goes back"),
    pubsubd.PublishRejected("too_large", "a batch is too large", 2, 1),
    pubsubd.PublishUnknown("it was sent"),
]


@COPIES
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_copied_or_pickled_error_keeps_its_text_and_figures(
    copied: Callable[[Any], Any], error: pubsubd.PubSubError
) -> None:
    """A pool of processes would hang at an error that its worker can send and that it cannot read."""
    error.add_note("a note")
    other = copied(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))

"""The loss of a publisher's connection, and its meaning for the unanswered batches. Pure."""

from __future__ import annotations

from typing import Final

from pubsubd.batching import OutgoingBatch
from pubsubd.errors import BrokerUnavailable
from pubsubd.identity import Identity
from pubsubd.outbox import Outbox
from pubsubd_protocol.errors import ConnectionRefused, PubSubError

DISOWNED: Final = frozenset({"protocol", "replaced"})
"""Refusals after which a publisher gives up its id."""


def cut_off(outbox: Outbox, identity: Identity, why: PubSubError) -> list[OutgoingBatch]:
    """Keep the unanswered batches for a retry. Returns those that fail, because they cannot be sent again."""
    # A broker that stops answers all accepted batches before it says "draining".
    code = why.code if isinstance(why, ConnectionRefused) else None
    if code in DISOWNED:
        # Another process may publish under the same id; its answers are not for this one.
        identity.renew()
        return outbox.disowned(reason(why))
    outbox.disconnected(reason(why), turned_away=code == "draining")
    return []


def reason(why: PubSubError) -> str:
    """The error's text without the socket, for an error that names the socket already."""
    return why.detail if isinstance(why, BrokerUnavailable) else str(why)

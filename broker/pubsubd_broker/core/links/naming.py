"""Names of nodes: each is unique among the brokers that are linked. Judged from the words of both ends of a new link."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pubsubd_protocol.positions import Epoch


@dataclass(slots=True)
class BrokerIdentity:
    """A node as it shows itself to peers. `secret`: known to the brokers of its cluster alone; None: it asks for none."""

    node: str
    epoch: Epoch
    cluster: str
    secret: bytes | None


def conflict(
    name: str, epoch: bytes, own_name: str, own_epoch: bytes, live: Iterable[bytes]
) -> tuple[str, str] | None:
    """The refusal of a broker that calls itself `name`, in the epoch `epoch`; None if it is welcome.

    `live`: the epochs of the brokers of that name with which a link is up. A dead one's name is free again once
    its links are gone, at the latest after the peer timeout. Returns a refusal's code and detail.
    """
    if name == own_name:
        if epoch == own_epoch:
            return "self", f"this is {own_name} itself: one of its peer addresses leads back to it"
        return (
            "name_in_use",
            f"this broker is called {name!r} too: node names are unique, give one another --node",
        )
    if any(epoch != other for other in live):
        detail = (
            f"another broker called {name!r} is connected: node names are unique, give one another --node; "
            "if this one was restarted, its old name is free again after the peer timeout"
        )
        return "name_in_use", detail
    return None

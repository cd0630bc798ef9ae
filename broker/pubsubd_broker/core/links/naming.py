"""Who may use a node's name: judged from what both ends of a new link say they are."""

from __future__ import annotations

from collections.abc import Iterable


def conflict(
    name: str, life: bytes, own_name: str, own_life: bytes, live: Iterable[bytes]
) -> tuple[str, str] | None:
    """Why a broker that calls itself `name`, in the life `life`, is turned away; None if it is welcome.

    `live`: the lives of brokers of that name with which a link is up. A dead one's name is free again once
    its links are gone, at the latest after the peer timeout. Returns a refusal's code and detail.
    """
    if name == own_name:
        if life == own_life:
            return "self", f"this is {own_name} itself: one of its peer addresses leads back to it"
        return (
            "name_in_use",
            f"this broker is called {name!r} too: node names are unique, give one another --node",
        )
    if any(life != other for other in live):
        detail = (
            f"another broker called {name!r} is connected: node names are unique, give one another --node; "
            "if this one was restarted, its old name is free again after the peer timeout"
        )
        return "name_in_use", detail
    return None

"""Settings of this room, as the composition root fills them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pubsubd_broker.core.access.permissions import AllowedUsers, Rights, TopicRules
from pubsubd_broker.core.limits import Limits
from pubsubd_broker.core.links.liveness import Timeouts
from pubsubd_protocol.frames import Welcome


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Settings that the links of one node share. Each part is given those that it needs."""

    node: str
    cluster: str
    secret: bytes | None = field(repr=False)
    allowed_users: AllowedUsers
    """The local users that may connect."""
    topic_rules: TopicRules
    limits: Limits
    client_timeouts: Timeouts
    peer_timeouts: Timeouts
    max_frame: int
    ring: tuple[int, int]
    """The most messages and bytes of this node's stream."""
    replica: tuple[int, int]
    """The most messages and bytes of each peer's stream."""
    cursor_ttl_ns: int
    recovers_from_peers: bool
    welcome: Callable[[Rights], Welcome]
    """The frame that welcomes a remote end with these rights."""

"""The core's settings, completed by what is known only at the start."""

from __future__ import annotations

from dataclasses import replace

from pubsubd_broker.core.access.permissions import AllowedUsers, TopicRules
from pubsubd_broker.core.config import Config
from pubsubd_broker.settings.values import Settings


def config_of(settings: Settings, secret: bytes | None, uid: int) -> Config:
    """`secret`: content of the file of the cluster's secret. `uid`: the broker's own."""
    return replace(
        settings.core,
        secret=secret,
        allowed_users=AllowedUsers(
            frozenset(settings.allow_uids), frozenset(settings.allow_gids), uid
        ),
        topic_rules=TopicRules(settings.topic_rules),
    )

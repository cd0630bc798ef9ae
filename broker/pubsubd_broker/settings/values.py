"""Settings: the values that a broker runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pubsubd_broker.core.access.permissions import TopicRule
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.limits import Limits
from pubsubd_protocol.addresses import Address


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of all settings. Sizes in bytes, durations in the unit at the end of the name."""

    core: Config
    """The core's part, with all its bounds. Secret and permissions come to it at the start."""
    socket: str
    listen: Address | None = ("127.0.0.1", 7420)
    peers: tuple[Address, ...] = ()
    journal: str | None = None
    fsync: Literal["off", "snapshot", "interval", "always"] = "interval"
    fsync_interval_s: float = 0.05
    http: Address | None = ("127.0.0.1", 9420)
    cluster_secret_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    insecure: bool = False
    socket_mode: int = 0o600
    allow_uids: tuple[int, ...] = ()
    allow_gids: tuple[int, ...] = ()
    topic_rules: tuple[TopicRule, ...] = ()
    http_max_connections: int = 64
    http_max_head: int = 16 << 10
    http_timeout_s: float = 5.0
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def node(self) -> str:
        return self.core.node

    @property
    def limits(self) -> Limits:
        return self.core.limits


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Settings of values by field, with dots as in `core.limits.patterns`."""
    parts: dict[str, dict[str, Any]] = {"": {}, "core": {}, "core.limits": {}}
    for field, value in values.items():
        part, _, name = field.rpartition(".")
        parts[part][name] = value
    limits = Limits(**parts["core.limits"])
    return Settings(core=Config(**parts["core"], limits=limits), **parts[""])

"""One table of settings. Command line options, `PUBSUBD_*` variables, TOML keys and `config show` come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from pubsubd_broker.core.dialling import Address
from pubsubd_broker.setting_forms import (
    COUNT,
    FOLDER,
    LISTEN,
    MAX_FRAME_BYTES,
    NODE,
    PEER,
    SOCKET,
    SWITCH,
    Form,
    choice,
    duration,
    size,
)
from pubsubd_broker.settings_rules import FRAME_OVERHEAD_BYTES

ENVIRONMENT_PREFIX = "PUBSUBD_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a broker runs on."""

    node: str
    socket: str
    listen: Address | None = ("127.0.0.1", 7420)
    peers: tuple[Address, ...] = ()
    ring_messages: int = 100_000
    ring_bytes: int = 64 << 20
    replica_messages: int = 100_000
    replica_bytes: int = 16 << 20
    pace_s: float = 0.25
    journal: str | None = None
    fsync: Literal["off", "snapshot", "interval", "always"] = "interval"
    fsync_interval_s: float = 0.05
    recover_from_peers: bool = False
    cursor_ttl_s: float = 86_400.0
    heartbeat_s: float = 2.0
    peer_timeout_s: float = 6.0
    max_message: int = 1 << 20
    max_frame: int = 16 << 20
    http: Address | None = ("127.0.0.1", 9420)
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `name` is the option and the TOML key, `field` the field of `Settings`."""

    name: str
    field: str
    form: Form
    help: str
    repeatable: bool = False
    switch_off: str | None = None
    """What `--no-NAME` means; None if the setting can't be switched off."""

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace("-", "_").upper()

    @property
    def off_variable(self) -> str:
        return f"{ENVIRONMENT_PREFIX}NO_{self.name.replace('-', '_').upper()}"

    @property
    def allowed(self) -> str:
        return self.form.allowed

    def show(self, value: Any) -> Any:
        """The value as it stands in TOML: `false` for one that is off, a list for a repeatable one."""
        if self.repeatable:
            return [self.form.show(each) for each in value]
        if value is None:
            return False
        return self.form.show(value)


SETTINGS: Final = (
    Setting(
        "node", "node", NODE, "Name of this node, unique in its cluster. Default: the host name."
    ),
    Setting("socket", "socket", SOCKET, "The clients' Unix socket."),
    Setting(
        "listen",
        "listen",
        LISTEN,
        "Where peers connect; port 0 picks a free one.",
        switch_off="Take no peers: a single node, or one that only reads from its peers.",
    ),
    Setting("peer", "peers", PEER, "A broker to read from; may be repeated.", repeatable=True),
    Setting("ring-messages", "ring_messages", COUNT, "How many messages the ring holds."),
    Setting("ring-bytes", "ring_bytes", size(1), "How many bytes the ring holds."),
    Setting("replica-messages", "replica_messages", COUNT, "Messages kept of each peer."),
    Setting("replica-bytes", "replica_bytes", size(1), "Bytes kept of each peer."),
    Setting(
        "pace",
        "pace_s",
        duration(0.0),
        "How long publishers wait, each time, for a reader that is about to be overrun; 0: never.",
    ),
    Setting(
        "journal",
        "journal",
        FOLDER,
        "Keep the stream in this folder, so that a restart is not a loss. Default: none.",
        switch_off="Keep nothing on disk.",
    ),
    Setting(
        "fsync",
        "fsync",
        choice("off", "snapshot", "interval", "always"),
        "When the journal survives the machine: off: as the system likes; snapshot: written at a clean stop "
        "only; interval: every --fsync-interval; always: before anybody is told of it.",
    ),
    Setting(
        "fsync-interval",
        "fsync_interval_s",
        duration(0.001),
        "What --fsync interval may lose at the most when the machine dies.",
    ),
    Setting(
        "recover-from-peers",
        "recover_from_peers",
        SWITCH,
        "After a restart without a journal, begin with what peers still hold of this node's stream.",
    ),
    Setting(
        "cursor-ttl",
        "cursor_ttl_s",
        duration(0.0),
        "How long the cursor of a consumer that is away is kept after it has expired.",
    ),
    Setting("heartbeat", "heartbeat_s", duration(0.01), "Time between heartbeats to a peer."),
    Setting(
        "peer-timeout", "peer_timeout_s", duration(0.01), "A peer silent for so long is cut off."
    ),
    Setting("max-message", "max_message", size(1, MAX_FRAME_BYTES), "The largest payload."),
    Setting(
        "max-frame",
        "max_frame",
        size(FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES),
        "The largest frame, thus the largest batch.",
    ),
    Setting(
        "http",
        "http",
        LISTEN,
        "Metrics, health and status over HTTP.",
        switch_off="No HTTP.",
    ),
    Setting(
        "log-format",
        "log_format",
        choice("console", "json"),
        "Form of the log. Default: console on a terminal, else json.",
    ),
    Setting(
        "log-level",
        "log_level",
        choice("debug", "info", "warning", "error"),
        "The least level that is logged.",
    ),
)

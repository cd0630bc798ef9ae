"""Rules for pairs of settings: values that are allowed alone and contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, Protocol

from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.settings.forms import FRAME_OVERHEAD_BYTES, is_loopback
from pubsubd_broker.settings.origin import Origin
from pubsubd_broker.settings.sizes import format_duration, format_size
from pubsubd_broker.settings.values import Settings
from pubsubd_protocol.addresses import format_address
from pubsubd_protocol.framing import BUFFER_BYTES


class RefuseSetting(Protocol):
    def __call__(self, name: str, problem: str) -> NoReturn:
        """Raises the error that says what is wrong with the setting `name`."""


def check_together(
    settings: Settings, origins: Mapping[str, Origin], refuse: RefuseSetting
) -> None:
    """Calls `refuse` for the first that contradicts another."""
    core = settings.core
    if core.peer_timeout_ns <= core.heartbeat_ns:
        refuse(
            "peer-timeout",
            f"{_written(core.peer_timeout_ns)} is not longer than heartbeat "
            f"{_written(core.heartbeat_ns)} (from {origins['heartbeat']}); "
            "allowed: longer than heartbeat, best three times as long",
        )
    if core.pace_ns >= core.peer_timeout_ns:
        refuse(
            "pace",
            f"{_written(core.pace_ns)} is not shorter than peer-timeout "
            f"{_written(core.peer_timeout_ns)} (from {origins['peer-timeout']}); "
            "allowed: shorter, because a broker that waits for its readers does not hear its peer",
        )
    if core.max_frame < core.max_message + FRAME_OVERHEAD_BYTES:
        refuse(
            "max-message",
            f"{format_size(core.max_message)} does not fit in max-frame "
            f"{format_size(core.max_frame)} (from {origins['max-frame']}); "
            f"allowed: at least {format_size(FRAME_OVERHEAD_BYTES)} less than max-frame",
        )
    if core.max_frame > core.limits.receive_bytes + BUFFER_BYTES:
        refuse(
            "max-receive-bytes",
            f"{format_size(core.limits.receive_bytes)} has no room for a frame of max-frame "
            f"{format_size(core.max_frame)} (from {origins['max-frame']}); allowed: max-frame or more",
        )
    # A small ring with the default max-message is fine: what does not fit is refused with figures. Two
    # written values that contradict each other are a mistake.
    if origins["max-message"].source != "default" and core.ring_bytes < core.max_message:
        refuse(
            "ring-bytes",
            f"{format_size(core.ring_bytes)} cannot hold one message of max-message "
            f"{format_size(core.max_message)} (from {origins['max-message']}); "
            "allowed: max-message or more",
        )
    # An operator who asks for it believes that messages are kept.
    if settings.journal is None and settings.fsync in ("snapshot", "always"):
        refuse(
            "fsync",
            f"{settings.fsync} without a journal keeps nothing; allowed: with --journal DIR",
        )
    if origins["journal"].source == "default" and settings.fsync != "snapshot":
        refuse(
            "fsync",
            f"{settings.fsync} needs a journal; allowed: with --journal DIR, "
            "or snapshot, which needs none",
        )
    if settings.journal is not None and settings.fsync != "snapshot" and core.recover_from_peers:
        refuse(
            "recover-from-peers",
            f"cannot be combined with a journal (from {origins['journal']}); allowed: one of the two, "
            "or --fsync snapshot, which leaves nothing after a crash",
        )
    if settings.http is not None and settings.http == settings.listen and settings.http[1] != 0:
        refuse(
            "http",
            f"{format_address(settings.http)} is the address of listen, too (from {origins['listen']}); "
            "allowed: an address of its own",
        )
    _check_trust(settings, origins, refuse)


def _check_trust(settings: Settings, origins: Mapping[str, Origin], refuse: RefuseSetting) -> None:
    """Whether this broker knows whom it takes for a peer."""
    tls = {
        "tls-cert": settings.tls_cert,
        "tls-key": settings.tls_key,
        "tls-ca": settings.tls_ca,
    }
    for name, path in tls.items():
        if path is None and any(tls.values()):
            given = next(other for other, value in tls.items() if value is not None)
            refuse(
                name,
                f"is missing beside {given} (from {origins[given]}); allowed: all three or none",
            )
    knows_peers = settings.tls_cert is not None or settings.cluster_secret_file is not None
    if settings.listen is None or knows_peers or settings.insecure:
        return
    if not is_loopback(settings.listen[0]):
        refuse(
            "listen",
            f"{format_address(settings.listen)} takes peers from other machines, and any machine can be one; allowed: "
            "with --cluster-secret-file or --tls-cert, --tls-key and --tls-ca; an address of this machine alone, "
            "as 127.0.0.1; or --insecure if the network keeps strangers out",
        )
    kept_out = {
        "allow-uid": settings.allow_uids,
        "allow-gid": settings.allow_gids,
        "topic-rule": settings.topic_rules,
    }
    for name, listed in kept_out.items():
        if listed:
            refuse(
                name,
                f"does not keep out users that connect as a peer to {format_address(settings.listen)} (from {origins['listen']}), "
                "and any user of this machine can do so; allowed: with --cluster-secret-file or --tls-cert, --tls-key and "
                "--tls-ca; with --no-listen; or with --insecure if that is intended",
            )


def _written(duration_ns: int) -> str:
    return format_duration(duration_ns / SECOND_NS)

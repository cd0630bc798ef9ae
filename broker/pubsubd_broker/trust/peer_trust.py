"""Proofs by which this broker knows its peers: a secret, certificates, both, or none."""

from __future__ import annotations

from dataclasses import dataclass, field

from pubsubd_broker.settings.values import Settings
from pubsubd_broker.trust.secret_files import SecretFile
from pubsubd_broker.trust.tls import Tls


@dataclass(frozen=True, slots=True)
class PeerTrust:
    """`secret`: proved by the brokers of the cluster to each other. `tls`: encrypts links between them."""

    secret: SecretFile | None = field(default=None, repr=False)
    tls: Tls | None = None


def load_peer_trust(settings: Settings) -> PeerTrust:
    """Reads the files that the settings name. Raises `SecretError` or `TlsError`."""
    secret, tls = None, None
    if settings.cluster_secret_file is not None:
        secret = SecretFile(settings.cluster_secret_file)
    if settings.tls_cert is not None:
        assert settings.tls_key is not None
        assert settings.tls_ca is not None
        tls = Tls(settings.tls_cert, settings.tls_key, settings.tls_ca, node=settings.node)
    return PeerTrust(secret, tls)

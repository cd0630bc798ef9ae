"""The steps of the tests of TLS between brokers: certificates in files, and connections that show them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from tests.certificates import Authority, Files, write
from tests.integration.broker import Broker
from tests.integration.cluster import Cluster
from tests.integration.hostile import RawConnection
from tests.integration.steps import address_of

from pubsubd_broker.trust.channel import ALPN
from pubsubd_protocol.frames import Frame

SECRET: Final = b"Five boxing wizards jump quickly"


NO_TLS: Final = (
    "it does not speak TLS: give all brokers --tls-cert, --tls-key and --tls-ca, or none"
)


def own(authority: Authority, node: str, *names: str) -> Files:
    """A certificate for `names`, or for the node's own name, in files of this node alone."""
    made = authority.certificate(*(names or (node,)))
    files = Files(*(f"{authority.folder}/{node}.{kind}" for kind in ("cert", "key", "ca")))
    put(made, files, "cert", "key", "ca")
    return files


def put(source: Files, target: Files, *kinds: str) -> None:
    """Replace the target's files of these kinds by the source's."""
    for kind in kinds:
        write(getattr(target, kind), Path(getattr(source, kind)).read_bytes())


def options(files: Files) -> dict[str, str]:
    return {"tls_cert": files.cert, "tls_key": files.key, "tls_ca": files.ca}


def options_of(files: dict[str, Files]) -> dict[str, dict[str, str]]:
    return {node: options(each) for node, each in files.items()}


def client_context(files: Files | None = None, protocol: str = ALPN) -> ssl.SSLContext:
    """A context that accepts any certificate of the other end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([protocol])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


def server_context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols([ALPN])
    context.load_cert_chain(files.cert, files.key)
    return context


def encrypted(broker: Broker, files: Files | None, protocol: str = ALPN) -> RawConnection:
    """A connection whose handshake is done, as far as its dialler can tell."""
    raw = RawConnection(address_of(broker))
    try:
        raw.socket = client_context(files, protocol).wrap_socket(raw.socket)
    except BaseException:
        raw.close()
        raise
    return raw


def knock(broker: Broker, files: Files | None, protocol: str = ALPN) -> Frame | None:
    """The answer to the peer `visitor` with this certificate; None if it is cut off without an answer."""
    with encrypted(broker, files, protocol) as raw:
        try:
            return raw.greet("peer", name="visitor")
        except (ssl.SSLError, ConnectionError):
            return None


def shown_by(broker: Broker, files: Files) -> bytes:
    """The certificate that a dialler is shown now."""
    with encrypted(broker, files) as raw:
        assert isinstance(raw.socket, ssl.SSLSocket)
        certificate = raw.socket.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


def certificate_in(path: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(path).read_text())


def lines_of(broker: Broker, *events: str) -> list[dict[str, Any]]:
    return [line for line in list(broker.logs) if line["event"] in events]


def error_at(cluster: Cluster, consumer: str, producer: str) -> str:
    """The reason why `consumer` cannot pull from `producer`, as it logs it."""
    address = cluster.link(consumer, producer).endpoint
    return str(cluster[consumer].wait_log("peer.unreachable", address=address)["error"])

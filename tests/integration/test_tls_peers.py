"""TLS between brokers: a peer needs the right certificate, all others are told the reason, and files may change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from pathlib import Path

from tests.asynchronous import async_test
from tests.certificates import HOUR, Authority, Files, write
from tests.integration.between import Between, unchanged
from tests.integration.cluster import Cluster
from tests.integration.commands import error_of
from tests.integration.relay import DIRECTIONS
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    address_of,
    payloads_to,
    say,
    subscribed,
    why_not_ready,
)
from tests.integration.tls_steps import (
    NO_TLS,
    SECRET,
    client_context,
    error_at,
    knock,
    lines_of,
    options,
    options_of,
    own,
    server_context,
)
from tests.integration.waiting import wait_until

import pubsubd
from pubsubd_protocol.frames import Refused, Welcome

# Peers that belong to the cluster.


@async_test
async def test_three_brokers_deliver_and_an_eavesdropper_sees_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    names = "a", "b", "c"
    files = {node: own(authority, node) for node in names}
    cluster = Cluster(tmp_path, names, per_node=options_of(files))
    links = [cluster.link(*pair) for pair in itertools.permutations(names, 2)]
    for link in links:
        link.record()
    payload = os.urandom(16 * 1024).hex()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(cluster)
        readers = [await stack.enter_async_context(subscribed(each)) for each in cluster]
        client = await stack.enter_async_context(pubsubd.connect(cluster["a"].socket))
        await client.publish("orders.confidential", payload)
        for reader in readers:
            assert await payloads_to(reader, payload) == [payload]
        wire = b"".join(link.recorded(way) for link in links for way in DIRECTIONS)
    assert len(wire) > 2 * len(payload)
    for word in (payload[:32].encode(), b"orders.confidential", b"orders"):
        assert word not in wire


def test_tls_and_a_secret_go_together(
    start_cluster: StartCluster, authority: Authority, tmp_path: Path
) -> None:
    files = {node: own(authority, node) for node in ("a", "b")}
    cluster = start_cluster(2, per_node=options_of(files), **secret_in(tmp_path))
    asyncio.run(say(cluster["a"], cluster["b"], "from a"))
    # The certificate alone is not enough.
    answer = knock(cluster["a"], authority.certificate("visitor"))
    assert getattr(answer, "code", None) == "secret"


def secret_in(folder: Path) -> dict[str, str]:
    write(f"{folder}/secret", SECRET)
    return {"cluster_secret_file": f"{folder}/secret"}


# Callers that do not belong.


def test_a_stranger_is_refused_with_a_reason_on_both_sides(
    start_cluster: StartCluster, authority: Authority, tmp_path: Path
) -> None:
    per_node = options_of(
        {
            "a": own(authority, "a"),
            "stranger": own(Authority(tmp_path, "other"), "stranger"),
        }
    )
    names = [*per_node, "plain"]
    began = time.monotonic()
    cluster = start_cluster(names, wait_ready=False, per_node=per_node)
    a, stranger, plain = cluster

    for us, other in ((a, stranger), (stranger, a)):
        assert "its certificate is not accepted" in error_at(cluster, us.node, other.node)
        assert "--tls-ca" in error_at(cluster, us.node, other.node)
        ended = "it ended the TLS handshake: its log says why"
        assert other.wait_log("connection.refused", detail=ended)["code"] == "tls"

    assert error_at(cluster, "a", "plain") == NO_TLS
    violated = plain.wait_log("protocol.violated", kind="frame_length")
    assert "begins like TLS" in violated["detail"]
    assert "may ask for TLS" in error_at(cluster, "plain", "a")
    assert a.wait_log("connection.refused", detail=NO_TLS)["code"] == "tls"

    for broker in cluster:
        causes = why_not_ready(broker)
        assert len(causes) == 2, causes
        assert broker.metric("peer_connected") == broker.metric("consumer_connected") == 0
        assert not lines_of(broker, "peer.attached", "consumer.attached")
    assert a.metric("connections_refused_total", reason="tls") >= 2
    assert plain.metric("protocol_errors_total", kind="frame_length") >= 1
    # Again and again, and not too often: after 0.05 s at the least, 0.1 s, 0.2 s, 0.4 s.
    links = [cluster.link(*pair) for pair in itertools.permutations(names, 2) if "a" in pair]
    wait_until(lambda: min(link.accepted for link in links) >= 5, what="a fifth attempt of each")
    assert max(link.accepted for link in links) <= most_attempts(time.monotonic() - began)
    # Each is logged once, not each time.
    assert len(lines_of(a, "peer.unreachable")) == 2


def most_attempts(seconds: float) -> int:
    """The most dials of a target in that time, if chance always draws the shortest wait."""
    waits = (min(5.0, 0.1 * 2**attempt) / 2 for attempt in itertools.count())
    return 1 + sum(
        1 for _ in itertools.takewhile(lambda at: at < seconds, itertools.accumulate(waits))
    )


def test_a_visitors_certificate_decides_and_refusals_are_counted(
    start_broker: StartBroker, authority: Authority, tmp_path: Path
) -> None:
    a = start_broker("a", **options(own(authority, "a")))
    assert isinstance(knock(a, authority.certificate("visitor")), Welcome)
    assert isinstance(knock(a, authority.certificate("elsewhere", "visitor")), Welcome)
    refused: list[tuple[Files | None, str]] = [
        (None, "it shows no certificate: give it --tls-cert and --tls-key"),
        (authority.certificate("visitor", until=-HOUR / 60), "certificate has expired"),
        (authority.certificate("visitor", since=HOUR), "certificate is not yet valid"),
        (Authority(tmp_path, "other").certificate("visitor"), "its certificate is not accepted"),
    ]
    for count, (files, reason) in enumerate(refused, 1):
        mark = a.mark()
        assert knock(a, files) is None, reason
        assert reason in a.wait_log("connection.refused", since=mark, code="tls")["detail"]
        assert a.metric("connections_refused_total", reason="tls") == count
    for names in (["elsewhere"], ["*"]):
        answer = knock(a, authority.certificate(*names))
        assert getattr(answer, "code", None) == "certificate", answer
    # Nor does a certificate that speaks another protocol over TLS.
    answer = knock(a, authority.certificate("visitor"), protocol="http/1.1")
    assert answer == Refused(
        "certificate",
        "nothing is proved by visitor's TLS connection: the other end did not agree to speak pubsubd/1",
    )
    assert a.metric("connections_refused_total", reason="certificate") == 3
    assert a.status()["consumers"] == []


def test_a_producer_with_another_nodes_certificate_is_refused(
    start_broker: StartBroker, authority: Authority
) -> None:
    b = start_broker("b", **options(own(authority, "b")))
    stolen = authority.certificate("elsewhere")
    with Between(
        address_of(b),
        unchanged,
        accepting=server_context(stolen),
        dialling=client_context(authority.certificate("a")),
    ) as between:
        a = start_broker("a", peers=[between.endpoint], **options(own(authority, "a")))
        wrong = (
            "b came with a certificate for elsewhere: "
            "a node's certificate has its --node name as a DNS name"
        )
        assert a.wait_log("peer.unreachable")["error"] == wrong
        assert wrong in why_not_ready(a)[0]
        assert a.wait_log("connection.refused", code="certificate")["detail"] == wrong
        assert b.wait_log("connection.refused", code="certificate")["detail"] == wrong
        assert a.metric("connections_refused_total", reason="certificate") >= 1
        assert lines_of(a, "peer.attached") == []


def test_a_broker_does_not_start_with_another_nodes_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    line = error_of(*start(tmp_path, authority.certificate("elsewhere")), code=2)
    assert "it speaks for elsewhere: give one with the --node name b as a DNS name" in line


def start(folder: Path, files: Files) -> list[str]:
    """The node b, without effect on others, should it start after all."""
    flags = (f"--{name.replace('_', '-')}={path}" for name, path in options(files).items())
    return ["start", "--node", "b", "--no-http", "--socket", f"{folder}/s", *flags]


def test_an_expired_certificate_is_reported_on_both_sides(
    start_broker: StartBroker, authority: Authority, tmp_path: Path
) -> None:
    expired = authority.certificate("b", until=-HOUR / 60)
    line = error_of(*start(tmp_path, expired), code=2)
    assert f"--tls-cert {expired.cert}: " in line
    assert "certificate has expired: renew it" in line
    unused = ("127.0.0.1", 1)
    with Between(unused, unchanged, accepting=server_context(expired)) as between:
        a = start_broker("a", peers=[between.endpoint], **options(own(authority, "a")))
        error = a.wait_log("peer.unreachable")["error"]
    assert "its certificate is not accepted: certificate has expired" in error


def test_a_dialler_suspects_its_own_refused_certificate(
    start_broker: StartBroker, authority: Authority, tmp_path: Path
) -> None:
    # It trusts the other's authority, and the other does not trust its own.
    other = Authority(tmp_path, "other")
    ours = own(other, "b")
    write(ours.ca, authority.pem + other.pem)
    a = start_broker("a", **options(own(authority, "a")))
    b = start_broker("b", peers=[a.listen], **options(ours))
    assert "it may not accept this node's certificate" in b.wait_log("peer.unreachable")["error"]
    refused = a.wait_log("connection.refused", code="tls")
    assert "its certificate is not accepted" in refused["detail"]
    assert "it may not accept this node's certificate" in why_not_ready(b)[0]


def test_stolen_certificates_do_not_replace_the_secret(
    start_broker: StartBroker, authority: Authority, tmp_path: Path
) -> None:
    a = start_broker("a", **options(own(authority, "a")), **secret_in(tmp_path))
    stolen = {node: authority.certificate(node) for node in ("a", "b")}
    with Between(
        address_of(a),
        unchanged,
        accepting=server_context(stolen["a"]),
        dialling=client_context(stolen["b"]),
    ) as between:
        files = own(authority, "b")
        b = start_broker("b", peers=[between.endpoint], **options(files), **secret_in(tmp_path))
        assert "do not have the same secret" in b.wait_log("peer.unreachable")["error"]
        a.wait_log("connection.refused", code="secret")
        assert Welcome not in {type(frame) for _, frame in between.passed}
    assert a.status()["consumers"] == []

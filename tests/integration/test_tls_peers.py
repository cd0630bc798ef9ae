"""TLS between brokers: a peer needs the right certificate, all others are told the reason, and files may change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import ssl
import time
import urllib.error
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from tests.certificates import HOUR, Authority, Files, write
from tests.integration.asynchronous import async_test
from tests.integration.between import Between, unchanged
from tests.integration.cluster import Broker, Cluster, wait_until
from tests.integration.commands import error_of
from tests.integration.hostile import RawConnection
from tests.integration.relay import DIRECTIONS
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    in_thread,
    payloads_to,
    subscribed,
    within,
)

import pubsubd
from pubsubd_broker.trust.channel import ALPN
from pubsubd_protocol.frames import Frame, Refused, Welcome

SECRET: Final = b"Five boxing wizards jump quickly"
NO_TLS: Final = (
    "it does not speak TLS: give all brokers --tls-cert, --tls-key and --tls-ca, or none"
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


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


def address_of(broker: Broker) -> tuple[str, int]:
    host, _, port = broker.listen.rpartition(":")
    return host, int(port)


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


async def say(at: Broker, heard_at: Broker, what: str) -> None:
    """Messages of the one broker come out at the other."""
    async with (
        subscribed(heard_at, start="earliest") as subscription,
        pubsubd.connect(at.socket) as client,
    ):
        await client.publish("t", what)
        assert (await payloads_to(subscription, what))[-1] == what


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


def why_not_ready(broker: Broker) -> list[str]:
    """The causes in a 503 answer of `/readyz`."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        broker.get("/readyz")
    with caught.value:
        body = json.load(caught.value)
    (causes,) = (value for value in body.values() if isinstance(value, list))
    return list(causes)


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


# Files that change.


@contextlib.asynccontextmanager
async def stream_of_numbers(at: Broker, heard_at: Broker) -> AsyncIterator[None]:
    """Publish numbers at the one while the context lasts.

    All of them must have come out at the other, in order, at its end.
    """
    topic = f"numbers.{at.node}"
    async with subscribed(heard_at, topic) as subscription, pubsubd.connect(at.socket) as client:
        ending = asyncio.Event()

        async def publish() -> int:
            for number in itertools.count():
                await client.publish(topic, number)
                if ending.is_set():
                    return number
                await asyncio.sleep(0.002)
            raise AssertionError("numbers have no end")

        publishing = asyncio.create_task(publish())
        try:
            yield
        finally:
            ending.set()
            last = await within(publishing, "the last number")
        assert await payloads_to(subscription, last) == list(range(last + 1))


def renew(node: Files, fresh: Files, broker: Broker, *kinds: str) -> None:
    """Replace files of a running broker, and wait until it has them."""
    mark = broker.mark()
    put(fresh, node, *kinds)
    broker.wait_log("tls.reloaded", since=mark)


@async_test
async def test_a_renewed_certificate_is_shown_without_a_cut(
    start_cluster: StartCluster, authority: Authority
) -> None:
    files = {node: own(authority, node) for node in ("a", "b")}
    cluster = start_cluster(2, per_node=options_of(files))
    a, b = cluster
    fresh = authority.certificate("a", until=3 * HOUR)
    visitor = authority.certificate("visitor")
    accepted = cluster.link("b", "a").accepted
    async with stream_of_numbers(a, b), stream_of_numbers(b, a):
        before = await in_thread(shown_by, a, visitor)
        assert before == certificate_in(files["a"].cert)
        first_expiry = a.metric("tls_certificate_expiry_seconds")
        await in_thread(renew, files["a"], fresh, a, "cert", "key")
        now_shown = await in_thread(shown_by, a, visitor)
        assert now_shown == certificate_in(fresh.cert) != before
        assert isinstance(await in_thread(knock, a, visitor), Welcome)

        # The present file cannot be used: logged once, and the last good one stays in force.
        mark = a.mark()
        write(files["a"].key, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        failed = await in_thread(lambda: a.wait_log("tls.reload_failed", since=mark))
        assert files["a"].key in failed["reason"]
        assert failed["level"] == "error"
        assert await in_thread(shown_by, a, visitor) == certificate_in(fresh.cert)
        assert isinstance(await in_thread(knock, a, visitor), Welcome)

        # Nor a good certificate of another node.
        mark = a.mark()
        put(authority.certificate("elsewhere"), files["a"], "cert", "key")
        await in_thread(lambda: wait_until(lambda: reload_failed_over(a, mark, "elsewhere")))
        assert await in_thread(shown_by, a, visitor) == certificate_in(fresh.cert)

        await in_thread(renew, files["a"], fresh, a, "cert", "key")
    assert a.metric("tls_certificate_expiry_seconds") == pytest.approx(
        time.time() + 3 * 3600, abs=300
    )
    assert first_expiry == pytest.approx(time.time() + 24 * 3600, abs=300)
    assert (
        len(
            [
                line
                for line in lines_of(a, "tls.reload_failed")
                if line["reason"] == failed["reason"]
            ]
        )
        == 1
    )
    assert not lines_of(a, "peer.lost", "consumer.lost") + lines_of(b, "peer.lost", "consumer.lost")
    assert cluster.link("b", "a").accepted == accepted
    # And the next time they meet it is with the new one.
    cluster.link("b", "a").drop()
    await in_thread(lambda: b.wait_log("peer.lost"))
    await in_thread(lambda: cluster.wait_connected("b", "a"))


def reload_failed_over(broker: Broker, since: int, word: str) -> bool:
    lines = list(broker.logs)[since:]
    return any(line["event"] == "tls.reload_failed" and word in line["reason"] for line in lines)


def test_without_tls_there_is_no_expiry_to_be_seen(start_broker: StartBroker) -> None:
    a = start_broker("a")
    assert not re.search(r"^pubsubd_tls_certificate_expiry_seconds", a.metrics(), re.MULTILINE)


@async_test
async def test_an_authority_is_replaced_without_losing_a_link(
    start_cluster: StartCluster, authority: Authority, tmp_path: Path
) -> None:
    successor = Authority(tmp_path, "successor")
    both = replace(authority.certificate("both"), ca=str(tmp_path / "both.pem"))
    write(both.ca, authority.pem + successor.pem)
    files = {node: own(authority, node) for node in ("a", "b")}
    cluster = start_cluster(2, per_node=options_of(files))
    a, b = cluster
    old, new = authority.certificate("visitor"), successor.certificate("visitor")

    async def welcomed(visitors: Sequence[Files]) -> None:
        for broker in cluster:
            for visitor in (old, new):
                answer = await in_thread(knock, broker, visitor)
                assert isinstance(answer, Welcome) == (visitor in visitors)

    async def replaced(broker: Broker, fresh: Files, *kinds: str) -> None:
        await in_thread(renew, files[broker.node], fresh, broker, *kinds)

    async with stream_of_numbers(a, b), stream_of_numbers(b, a):
        await welcomed([old])
        for broker in cluster:
            await replaced(broker, both, "ca")
        await welcomed([old, new])
        for broker in cluster:
            await replaced(broker, successor.certificate(broker.node), "cert", "key")
            assert await in_thread(shown_by, broker, old) == certificate_in(files[broker.node].cert)
            await welcomed([old, new])
        for broker in cluster:
            await replaced(broker, new, "ca")
        await welcomed([new])
    for broker in cluster:
        assert not lines_of(broker, "peer.lost", "consumer.lost")
    # And a peer that has to connect again is let in.
    for pair in (("a", "b"), ("b", "a")):
        cluster.link(*pair).drop()
        await in_thread(cluster[pair[0]].wait_log, "peer.lost")
    for pair in (("a", "b"), ("b", "a")):
        await in_thread(cluster.wait_connected, *pair)


# Callers that never send a byte.


@pytest.mark.skipif(
    not Path("/proc/net").exists(), reason="needs Linux, where all of 127.0.0.0/8 is this machine"
)
def test_hundreds_of_silent_callers_keep_no_peer_out(
    start_broker: StartBroker, authority: Authority
) -> None:
    a = start_broker("a", handshake_timeout="2s", **options(own(authority, "a")))
    with ExitStack() as stack:
        first = [stack.enter_context(come_from("127.0.0.2", a)) for _ in range(140)]

        def refused(reason: str) -> float:
            return a.metric("connections_refused_total", reason=reason)

        # One address takes half of the places, three take all but an eighth.
        wait_until(lambda: refused("too_many_handshakes") == 12, what="the refusal of all over 128")
        line = a.wait_log("connection.refused", code="too_many_handshakes")
        assert "128 of 256 are taken, 128 of them by 127.0.0.2" in line["detail"]
        more = [
            stack.enter_context(come_from(f"127.0.0.{host}", a))
            for host in (3, 4)
            for _ in range(70)
        ]
        wait_until(lambda: refused("too_many_handshakes") == 56, what="the refusal of the next")
        # Callers from elsewhere get in at once, though the others still are there.
        assert isinstance(knock(a, authority.certificate("visitor")), Welcome)
        assert refused("tls") == 0
        b = start_broker("b", peers=[a.listen], **options(own(authority, "b")))
        wait_until(b.ready, what="an honest peer's link")
        wait_until(lambda: refused("tls") == 224, what="the end of their time")
        assert all(each.recv(1) == b"" for each in first + more)
    asyncio.run(say(a, b, "undisturbed"))


def test_a_peer_from_their_address_gets_in_after_their_deadline(
    start_broker: StartBroker, authority: Authority
) -> None:
    a = start_broker("a", handshake_timeout="2s", **options(own(authority, "a")))
    with ExitStack() as stack:
        for _ in range(140):
            stack.enter_context(come_from("127.0.0.1", a))
        b = start_broker("b", peers=[a.listen], **options(own(authority, "b")))
        wait_until(b.ready, what="an honest peer's link")
    assert a.metric("connections_refused_total", reason="too_many_handshakes") >= 12


def come_from(host: str, broker: Broker) -> socket.socket:
    """A connection that will never send a byte."""
    return socket.create_connection(address_of(broker), 10, source_address=(host, 0))

"""TLS between brokers: callers that never send a byte keep no peer out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.certificates import Authority
from tests.integration.broker import Broker
from tests.integration.steps import (
    StartBroker,
    address_of,
    say,
)
from tests.integration.tls_steps import (
    knock,
    options,
    own,
)
from tests.integration.waiting import wait_until

from pubsubd_protocol.frames import Welcome


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

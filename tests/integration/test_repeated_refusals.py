"""Refusals for the same reason again and again: each is counted, and few are logged."""

from __future__ import annotations

import os

from tests.integration.broker import Broker
from tests.integration.hostile import RawConnection
from tests.integration.steps import StartBroker
from tests.integration.waiting import wait_until

from pubsubd_protocol.frames import Refused


def refused_as_peer(broker: Broker, times: int) -> None:
    """Connections to the wrong door, each refused for the same reason."""
    for _ in range(times):
        with RawConnection(broker.socket) as raw:
            answer = raw.greet("peer", name="b")
            assert isinstance(answer, Refused)
            assert answer.code == "role"


def test_50_refusals_of_one_origin_are_one_line_and_all_counted(start_broker: StartBroker) -> None:
    a = start_broker("a", log_repeat="1m")
    refused_as_peer(a, 50)
    assert a.metric("connections_refused_total", reason="role") == 50
    assert len(a.logged("connection.refused")) == 1
    # Another cause is another line.
    with RawConnection(a.socket) as raw:
        raw.greet(lowest=7, highest=8)
    assert a.wait_log("connection.refused", code="version")
    assert len(a.logged("connection.refused")) == 2
    assert a.logged("log.repeated") == []


def test_the_number_of_repeats_is_logged_after_its_time(start_broker: StartBroker) -> None:
    a = start_broker("a", log_repeat="300ms")
    refused_as_peer(a, 50)

    def said() -> int:
        repeated = sum(line["times"] for line in a.logged("log.repeated"))
        return int(repeated) + len(a.logged("connection.refused"))

    wait_until(lambda: said() >= 50, what="the word that it was repeated")
    assert said() == 50
    line = a.wait_log("log.repeated")
    assert (line["of"], line["why"]) == ("connection.refused", "role")
    assert line["origin"] == f"uid {os.geteuid()}"
    # And that it happens again.
    mark = a.mark()

    def is_told_again() -> bool:
        refused_as_peer(a, 1)
        return any(line["event"] == "connection.refused" for line in a.logs[mark:])

    wait_until(is_told_again, what="another line")

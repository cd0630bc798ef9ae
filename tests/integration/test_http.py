"""A broker's answers over HTTP: its readiness, and its metrics, parsed by the common parsers."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.broker import Broker
from tests.integration.commands import Running, ok
from tests.integration.hostile import refused_and_violating
from tests.integration.relay import Relay
from tests.integration.steps import StartBroker, StartCluster, address_of
from tests.integration.waiting import wait_until

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"


def readiness(broker: Broker) -> tuple[int, dict[str, Any]]:
    try:
        return 200, json.loads(broker.get("/readyz"))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_broker_is_ready_once_it_reached_each_peer(start_broker: StartBroker) -> None:
    b = start_broker("b")
    host, _, port = b.listen.rpartition(":")
    with Relay() as first, Relay() as second:
        first.cut()
        a = start_broker("a", peers=[first.endpoint, second.endpoint])
        # One peer refuses, the other accepts and sends no byte.
        wait_until(lambda: "refused" in str(readiness(a)[1]), what="a reason")
        code, body = readiness(a)
        assert code == 503
        assert body["ready"] is False
        assert len(body["reasons"]) == 2
        for relay in (first, second):
            assert any(relay.endpoint in reason for reason in body["reasons"])
        assert a.get("/healthz") == b"ok"
        ok("publish", "t", "x", "--socket", a.socket)

        first.heal()
        first.target = (host, int(port))
        wait_until(lambda: len(readiness(a)[1].get("reasons", [])) == 1, what="the first peer")
        code, body = readiness(a)
        assert code == 503
        assert second.endpoint in body["reasons"][0]

        c = start_broker("c")
        host, _, port = c.listen.rpartition(":")
        second.target = (host, int(port))
        wait_until(lambda: readiness(a) == (200, {"ready": True}), what="readiness")
        # The peer was reached once; its loss afterwards is shown elsewhere.
        c.kill()
        wait_until(lambda: a.metric("peer_connected", peer="c") == 0, what="the loss of c")
        assert readiness(a) == (200, {"ready": True})


def scraped(broker: Broker, accept: str = "") -> tuple[str, str]:
    request = urllib.request.Request(f"http://{broker.http}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def documented() -> dict[str, tuple[str, set[str]]]:
    """Name to type and labels, as the page documents them."""
    text = DOCUMENTED.read_text(encoding="utf-8")
    found = {}
    for section in text.split("\n## ")[1:]:
        (name,) = re.findall(r"\A`(pubsubd_\w+)`", section)
        (kind,) = re.findall(r"^- Type: (\w+)", section, re.MULTILINE)
        (labels,) = re.findall(r"^- Labels: (.*)", section, re.MULTILINE)
        found[name] = (kind, set(re.findall(r"`(\w+)`", labels)))
    return found


def test_both_metric_formats_parse_and_match_the_page(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=10)
    a, b = cluster["a"], cluster["b"]
    # Give every labelled metric a sample: a refusal, a violation, an expired session.
    refused_and_violating(address_of(a))
    named = ("--name", "n", "--start", "earliest", "--count", "1", "--socket", a.socket)
    ok("publish", "t", "x", "--socket", a.socket)
    ok("publish", "t", "x", "--socket", b.socket)
    ok("subscribe", "t", *named)
    for _ in range(2):
        ok("publish", "t", *"123456", "--socket", a.socket)
    with Running("subscribe", ">", *named):
        wait_until(lambda: a.metric("cursor_expired_total", hop="session"), what="the expiry")
    text, content_type = scraped(a)
    assert content_type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    wanted = documented()
    assert len(wanted) > 20
    for name, (kind, _) in wanted.items():
        family = families[name.removesuffix("_total") if kind == "counter" else name]
        assert family.type == kind
        assert family.documentation
    exposed = {name + ("_total" if f.type == "counter" else "") for name, f in families.items()}
    assert exposed == wanted.keys(), "exposed metrics are documented"
    for name, family in families.items():
        documented_labels = wanted.get(name, wanted.get(f"{name}_total"))
        assert documented_labels is not None
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == documented_labels[1]

    accept = "application/openmetrics-text; version=1.0.0"
    text, content_type = scraped(a, accept)
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    read = openmetrics_parser.text_string_to_metric_families
    parsed = {f.name: f for f in read(text)}  # type: ignore[no-untyped-call]
    assert parsed.keys() == families.keys()


def test_counters_count_events(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    ok("publish", "t", "one", "two", "--socket", a.socket)
    ok("subscribe", "t", "--start", "earliest", "--count", "2", "--socket", b.socket)
    wait_until(lambda: a.metric("consumer_lag_messages", consumer="b") == 0)
    assert a.metric("messages_published_total") == 2
    assert b.metric("messages_received_total", peer="a") == 2
    assert b.metric("messages_delivered_total") == 2
    assert a.metric("ring_next_offset") == a.metric("ring_messages") == 2
    assert a.metric("publish_seconds_count") >= 1
    assert a.metric("build_info", node="a") == 1
    assert a.metric("consumer_connected", consumer="b") == 1
    b.restart(signal.SIGKILL)
    wait_until(lambda: a.metric("peer_reconnects_total", peer="b") == 1)
    for path in ("/nothing", "/metrics/"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            a.get(path)
        with caught.value as error:
            assert error.code == 404

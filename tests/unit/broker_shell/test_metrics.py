from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from tests.unit.broker_shell.a_status import a_status

from pubsubd_broker.http.exposition import render_metrics
from pubsubd_broker.http.metrics import METRICS

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

INTERFACE = """
build_info messages_published_total messages_received_total messages_delivered_total
bytes_published_total bytes_received_total bytes_delivered_total ring_messages
ring_capacity_messages ring_bytes ring_oldest_offset ring_next_offset consumer_lag_messages
consumer_connected peer_connected peer_reconnects_total cursors cursors_removed_total cursors_given_up_total
producers_given_up_total
cursor_expired_total paced_seconds_total sessions publish_seconds journal_fsync_seconds journal_backlog_bytes journal_failed
place_lost protocol_errors_total connections_refused_total publishes_rejected_total http_requests_refused_total
log_lines_dropped_total accept_pauses_total connections publishers publishers_forgotten_total fetches_dropped_total tls_certificate_expiry_seconds
event_loop_lag_seconds event_loop_tasks
"""


def exposed() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    body, _ = render_metrics(a_status(), "")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read_text(body.decode())
        for sample in family.samples
    }


def test_the_names_are_those_of_the_interface() -> None:
    assert sorted(row.name for row in METRICS) == sorted(INTERFACE.split())


def test_exposed_metrics_are_those_of_the_table() -> None:
    body, content_type = render_metrics(a_status(), "")
    assert content_type.startswith("text/plain")
    families = {family.name: family for family in read_text(body.decode())}
    assert len(families) == len(METRICS)
    for row in METRICS:
        family = families["pubsubd_" + row.name.removesuffix("_total")]
        assert family.type == row.kind
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels)
        assert family.samples


def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    body, content_type = render_metrics(a_status(), OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = list(read_openmetrics(body.decode()))  # type: ignore[no-untyped-call]
    assert len(families) == len(METRICS)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("messages_published_total", {}, 15),
        ("messages_received_total", {"peer": "b"}, 38),
        ("consumer_lag_messages", {"consumer": "c"}, 8),
        ("consumer_connected", {"consumer": "c"}, 0),
        ("peer_connected", {"peer": "b"}, 1),
        ("peer_connected", {"peer": "10.0.0.3:7420"}, 0),
        ("peer_reconnects_total", {"peer": "b"}, 3),
        ("cursors", {}, 2),
        ("sessions", {}, 1),
        ("cursor_expired_total", {"hop": "session", "reason": "unseen"}, 2),
        ("cursor_expired_total", {"hop": "peer", "reason": "state_lost"}, 0),
        ("paced_seconds_total", {"reader": "node-b"}, 0.25),
        ("paced_seconds_total", {"reader": "session"}, 0),
        ("protocol_errors_total", {"kind": "frame_length"}, 5),
        ("publish_seconds_bucket", {"le": "0.01"}, 5),
        ("publish_seconds_bucket", {"le": "+Inf"}, 6),
        ("publish_seconds_count", {}, 6),
        ("publish_seconds_sum", {}, 0.02),
        ("journal_fsync_seconds_count", {}, 4),
        ("journal_backlog_bytes", {}, 4096),
        ("journal_failed", {}, 0),
        ("place_lost", {"place": "socket"}, 0),
        ("place_lost", {"place": "journal"}, 1),
        ("publishes_rejected_total", {"reason": "too_large"}, 7),
        ("http_requests_refused_total", {"reason": "too_slow"}, 10),
        ("log_lines_dropped_total", {}, 11),
        ("accept_pauses_total", {"listener": "peers"}, 9),
        ("connections", {}, 5),
        ("publishers", {}, 3),
        ("publishers_forgotten_total", {}, 8),
        ("cursors_given_up_total", {}, 12),
        ("producers_given_up_total", {}, 13),
        ("fetches_dropped_total", {}, 11),
        ("tls_certificate_expiry_seconds", {}, 1_800_000_000),
        ("event_loop_tasks", {}, 4),
    ],
)
def test_the_figures_are_those_of_the_status(
    name: str, labels: dict[str, str], value: float
) -> None:
    assert exposed()[f"pubsubd_{name}", tuple(sorted(labels.items()))] == value


def test_a_node_behind_two_addresses_is_one_peer() -> None:
    status = a_status()
    status["peers"][1]["node"] = "b"
    body, _ = render_metrics(status, "")
    lines = body.decode().splitlines()
    assert 'pubsubd_peer_connected{peer="b"} 1.0' in lines
    assert 'pubsubd_peer_reconnects_total{peer="b"} 7.0' in lines


def test_an_infinite_last_bucket_is_not_doubled() -> None:
    status = a_status()
    status["publish_seconds"]["buckets"].append([float("inf"), 6])
    body, _ = render_metrics(status, "")
    assert body.decode().count('publish_seconds_bucket{le="+Inf"}') == 1


def test_the_document_describes_each_metric_and_no_other() -> None:
    text = DOCUMENT.read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    described = {}
    for section in sections:
        title, _, body = section.partition("\n")
        described[title.strip("`")] = body
    assert list(described) == [f"pubsubd_{row.name}" for row in METRICS]
    for row in METRICS:
        body = described[f"pubsubd_{row.name}"]
        labels = ", ".join(f"`{label}`" for label in row.labels) or "none"
        assert f"- Type: {row.kind}\n" in body
        assert f"- Labels: {labels}\n" in body
        assert re.search(r"^- Meaning: \S", body, re.MULTILINE)
        assert re.search(r"^- Alert: \S", body, re.MULTILINE)


def test_metrics_that_alerts_mention_exist() -> None:
    names = {f"pubsubd_{row.name}" for row in METRICS}
    _, *alerts = re.split(r"^- Alert: ", DOCUMENT.read_text(), flags=re.MULTILINE)
    mentioned = {name for alert in alerts for name in re.findall(r"\bpubsubd_\w+", alert)}
    assert len(mentioned) > len(METRICS) / 3
    assert {name.removesuffix("_bucket") for name in mentioned} <= names

"""Exposition of the metrics: the rows of the table in the format that a scraper accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pubsubd_broker.http.metrics import METRIC_PREFIX, METRICS, Row, StatusValues


class StatusCollector(Collector):
    """Turns one status into metric families. `status` is called once per scrape."""

    def __init__(self, status: Callable[[], StatusValues]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for row in METRICS:
            yield _histogram(row, status) if row.kind == "histogram" else _family(row, status)


def metrics_type(accept: str) -> str:
    """The content type that an Accept header is answered with."""
    _, content_type = choose_encoder(accept)
    return content_type


def render_metrics(status: StatusValues, accept: str) -> tuple[bytes, str]:
    """The body and its content type: OpenMetrics if the Accept header asks for it, else text."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(lambda: status))
    return encode(registry), content_type


def _family(row: Row, status: StatusValues) -> Metric:
    make = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family = make(METRIC_PREFIX + row.name, row.help, labels=row.labels)
    for labels, figure in row.read(status):
        family.add_metric(labels, figure)
    return family


def _histogram(row: Row, status: StatusValues) -> Metric:
    """From `{"buckets": [[le, cumulative count], …], "sum", "count"}`; the last bucket holds all."""
    measured = status[row.name]
    buckets = [(str(float(le)), float(count)) for le, count in measured["buckets"]]
    if not buckets or buckets[-1][0] != "inf":
        buckets.append(("+Inf", float(measured["count"])))
    else:
        buckets[-1] = "+Inf", buckets[-1][1]
    family = HistogramMetricFamily(METRIC_PREFIX + row.name, row.help)
    family.add_metric((), buckets, measured["sum"])
    return family

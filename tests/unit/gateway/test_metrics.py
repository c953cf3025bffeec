"""Counters, gauges and histograms of ours show what the library's would."""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from mailrelay_gateway import metrics

BOUNDS = (0.1, 1, 60)
AMOUNTS = (0.0, 0.1, 0.1000001, 1, 59.9, 60, 61, 86400.5)


def shown(
    counter: type[prometheus_client.Counter],
    bins: type[prometheus_client.Histogram],
    gauge: type[prometheus_client.Gauge],
) -> str:
    """What is served after the same was counted."""
    registry = CollectorRegistry()
    taken = counter("taken_total", "Taken.", ["by"], registry=registry)
    took = bins("took_seconds", "Took.", ["by"], buckets=BOUNDS, registry=registry)
    alone = bins("alone_seconds", "Without labels.", buckets=BOUNDS, registry=registry)
    here = gauge("here", "Here.", ["by"], registry=registry)
    here.labels("nobody")
    here.labels("us").set(7)
    here.labels("us").inc()
    here.labels("us").dec(3)
    taken.labels("nobody")
    took.labels("nobody")
    for amount in AMOUNTS:
        taken.labels("us").inc(amount)
        taken.labels("us").inc()
        took.labels("us").observe(amount)
        alone.observe(amount)
    return generate_latest(registry).decode()


def test_they_show_what_the_librarys_would() -> None:
    metrics.Metrics()  # which says that no counter has its age beside it
    ours = shown(metrics.Counter, metrics.Histogram, metrics.Gauge)
    assert ours == shown(
        prometheus_client.Counter, prometheus_client.Histogram, prometheus_client.Gauge
    )
    assert 'took_seconds_bucket{by="us",le="60.0"} 6.0' in ours

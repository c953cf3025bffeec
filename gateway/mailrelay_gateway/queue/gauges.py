"""A count of the queue as gauges and as part of `/status`. Changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from mailrelay_gateway.config import QueueStatus
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.lane import Lane
from mailrelay_gateway.queue.pages import Count


def show(count: Count, lanes: Mapping[str, Lane], metrics: Metrics, now: float) -> QueueStatus:
    """Publish a count made at Unix time `now`: what is ready at a held upstream shows as held."""
    for name, lane in lanes.items():
        ready, deferred, octets, oldest = count.by_upstream.get(name, (0, 0, 0, now))
        metrics.queue_messages(name, "ready").set(0 if lane.held else ready)
        metrics.queue_messages(name, "held").set(ready if lane.held else 0)
        metrics.queue_messages(name, "deferred").set(deferred)
        metrics.queue_bytes(name).set(octets)
        metrics.queue_oldest_seconds(name).set(max(0.0, now - oldest))
    metrics.dead_letters.set(count.dead_letters)
    return QueueStatus(
        messages=count.messages,
        oldest="" if count.oldest is None else _rfc3339(count.oldest),
        dead_letters=count.dead_letters,
    )


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

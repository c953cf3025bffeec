"""A count of the queue as gauges and as part of `/status`. Changes nothing else."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import Protocol

from mailrelay_gateway.contract.status import QueueStatus
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.store import Counts

#: What people wait for, by what the store says. A leased recipient is as good as ready.
_STATES = {
    State.READY: "ready",
    State.LEASED: "ready",
    State.DEFERRED: "deferred",
    State.UNCERTAIN: "deferred",
}


class Homes(Protocol):
    """Under whose name a route's messages are counted."""

    def home(self, route: Route) -> str:
        """The upstream."""

    def is_held(self, upstream: str) -> bool:
        """Whether it is held."""


def show(counts: Counts, homes: Homes, metrics: Metrics, now: float) -> QueueStatus:
    """Publish a count at Unix time `now`: what is ready at a held upstream shows as held."""
    waiting: defaultdict[tuple[str, str], int] = defaultdict(int)
    octets: defaultdict[str, int] = defaultdict(int)
    oldest: dict[str, float] = {}
    for (route, state), figures in counts.by_route.items():
        upstream = homes.home(route)
        label = _STATES[state]
        if label == "ready" and homes.is_held(upstream):
            label = "held"
        waiting[upstream, label] += figures.recipients
        octets[upstream] += figures.octets
        if figures.oldest is not None:
            oldest[upstream] = min(oldest.get(upstream, now), figures.oldest)
    for name in metrics.upstreams:
        for label in ("ready", "deferred", "held"):
            metrics.queue_messages(name, label).set(waiting[name, label])
        metrics.queue_bytes(name).set(octets[name])
        metrics.queue_oldest_seconds(name).set(max(0.0, now - oldest.get(name, now)))
    metrics.dead_letters.set(counts.dead_letters)
    return QueueStatus(
        messages=counts.messages,
        oldest="" if counts.oldest is None else _rfc3339(counts.oldest),
        dead_letters=counts.dead_letters,
    )


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""Publishes a count of the queue as gauges and as part of `/status`. Changes nothing else."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.status import QueueStatus
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.metrics import STATES, Metrics
from mailrelay_gateway.queue.store import Counts


class Homes(Protocol):
    """The upstream under whose name a route's messages are counted."""

    def home(self, route: Route) -> str:
        """The upstream."""

    def is_held(self, upstream: str) -> bool:
        """Whether it is held."""

    def is_lost(self, route: Route) -> bool:
        """Whether no upstream of the route is configured."""


def show(counts: Counts, homes: Homes, metrics: Metrics, now: float) -> QueueStatus:
    """Publish a count at Unix time `now`: what is ready at a held upstream shows as held."""
    recipients: defaultdict[tuple[str, str], int] = defaultdict(int)
    messages: defaultdict[tuple[str, str], int] = defaultdict(int)
    octets: defaultdict[str, int] = defaultdict(int)
    oldest: dict[str, float] = {}
    unrouted = 0
    for (route, deferred), figures in counts.by_route.items():
        if homes.is_lost(route):
            unrouted += figures.recipients
        upstream = homes.home(route)
        state = "deferred" if deferred else "held" if homes.is_held(upstream) else "ready"
        recipients[upstream, state] += figures.recipients
        messages[upstream, state] += figures.messages
        octets[upstream] += figures.octets
        if figures.oldest is not None:
            oldest[upstream] = min(oldest.get(upstream, now), figures.oldest)
    for name in metrics.upstreams:
        for state in STATES:
            metrics.queue_recipients(name, state).set(recipients[name, state])
            metrics.queue_messages(name, state).set(messages[name, state])
        metrics.queue_bytes(name).set(octets[name])
        metrics.queue_oldest_seconds(name).set(max(0.0, now - oldest.get(name, now)))
    metrics.dead_letters.set(counts.dead_letters)
    metrics.queue_unrouted_recipients.set(unrouted)
    return QueueStatus(
        messages=counts.messages,
        oldest="" if counts.oldest is None else rfc3339(counts.oldest),
        dead_letters=counts.dead_letters,
        unrouted=unrouted,
    )

"""Every metric of the operator. Labels are kinds, conditions and results, never names of objects,
whose number is unbounded.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from mailrelay_operator.api.conditions import CONDITION_TYPES

RESULTS = ("ok", "failed", "conflict")


class OperatorMetrics:
    """The metrics of one process, in its own registry; every series exists from the start."""

    def __init__(self) -> None:
        """Register all families and start all series at zero."""
        # No `_created` series: one per counter, which no query uses.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._reconciles = Counter(
            "mailrelay_reconcile",
            "Reconciles.",
            ["kind", "result"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mailrelay_reconcile_seconds",
            "Duration of one reconcile.",
            ["kind"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self._registry,
        )
        self._backlog = Gauge(
            "mailrelay_backlog",
            "Objects due for reconciliation or being reconciled.",
            registry=self._registry,
        )
        self._conditions = Gauge(
            "mailrelay_conditions",
            "Objects by kind, condition type and status.",
            ["kind", "condition", "status"],
            registry=self._registry,
        )
        self._reread = Gauge(
            "mailrelay_reread_interval_seconds",
            "Time in which all referenced Secrets and ConfigMaps are checked once.",
            registry=self._registry,
        )
        self._resync = Gauge(
            "mailrelay_resync_timestamp_seconds",
            "Unix time of the last resync of all objects.",
            registry=self._registry,
        )
        for kind in ("MailRelay", "MailSender", "MailDomain"):
            self._seconds.labels(kind)
            for result in RESULTS:
                self._reconciles.labels(kind, result)
        self.count_conditions({})

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """Count a round: `ok`, `failed`, or `conflict` (a concurrent write)."""
        self._reconciles.labels(kind, result).inc()
        self._seconds.labels(kind).observe(seconds)

    def count_backlog(self, length: Callable[[], int]) -> None:
        """Ask for the length of the backlog whenever the metrics are read."""
        self._backlog.set_function(length)

    def reread_interval(self, seconds: float) -> None:
        """Set the time in which all contents are checked once."""
        self._reread.set(seconds)

    def resynced(self, unix_time: float) -> None:
        """Set the time of the last resync."""
        self._resync.set(unix_time)

    def count_conditions(self, found: Mapping[tuple[str, str, str], int]) -> None:
        """Set the number of objects by condition: (kind, type, status) -> number."""
        tally = Tally(found)
        for kind, types in CONDITION_TYPES.items():
            for type_ in types:
                for status in ("True", "False", "Unknown"):
                    self._conditions.labels(kind, type_, status).set(tally[kind, type_, status])

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

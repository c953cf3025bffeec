"""Every metric of the gateway, with its labels.

Labels never hold an address, a message id, a reply text, a peer's IP or a free domain: their values
come from the configuration, from enums, and from the namespaces that are admitted. Children are
cached: a dictionary lookup is cheaper than `labels()`, which takes a lock and builds a key.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Generic, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from mailrelay_gateway.contract.documents import Smarthost, TlsMode
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.oauth2 import OAuth2
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.reasons import Reason

M = TypeVar("M", bound=MetricWrapperBase)

#: Seconds. Delivery spans from a local smarthost to days of retries.
DELIVERY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 28800, 86400)
ATTEMPT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)

RESULTS = ("delivered", "deferred", "failed", "held", "uncertain")
CODE_CLASSES = ("2xx", "4xx", "5xx", "none")
STATES = ("ready", "deferred", "held")
#: Reasons whose series must exist for dashboards before they first occur.
COMMON_REFUSALS = (
    (Stage.AUTH, Reason.AUTH_FAILED),
    (Stage.MAIL, Reason.AUTH_REQUIRED),
    (Stage.MAIL, Reason.SENDER_NOT_ALLOWED),
    (Stage.DATA, Reason.RATE_LIMITED),
    (Stage.END_OF_MESSAGE, Reason.SPOOL_FAILED),
    (Stage.MAIL, Reason.INSUFFICIENT_STORAGE),
)


class Counter(prometheus_client.Counter):
    """A counter of the event loop's thread: the library's takes a lock and two checks, and each
    message increments five. Any thread may read it.
    """

    def _metric_init(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Count."""
        self.value += amount

    def _child_samples(self) -> Iterable[Sample]:
        return (Sample("_total", {}, self.value, None, None),)


class Gauge(prometheus_client.Gauge):
    """A gauge that one thread sets, as Counter is counted by one."""

    def _metric_init(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """More."""
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        """Less."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Set the value."""
        self.value = float(value)

    def _child_samples(self) -> Iterable[Sample]:
        return (Sample("", {}, self.value, None, None),)


class Countdown(prometheus_client.Gauge):
    """The seconds until a point in time, computed when the metric is read. `ends_at` is of
    time.monotonic; 0 once it has passed.
    """

    def _metric_init(self) -> None:
        self.ends_at = 0.0

    def _child_samples(self) -> Iterable[Sample]:
        return (Sample("", {}, max(0.0, self.ends_at - time.monotonic()), None, None),)


class Histogram(prometheus_client.Histogram):
    """A histogram of the event loop's thread, as Counter is."""

    def _metric_init(self) -> None:
        self.total = 0.0
        self.counts = [0] * len(self._upper_bounds)

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count an amount into its bucket: the first whose bound it does not exceed."""
        self.total += amount
        self.counts[bisect_left(self._upper_bounds, amount)] += 1

    def _child_samples(self) -> Iterable[Sample]:
        running = list(accumulate(self.counts))
        words = map(floatToGoString, self._upper_bounds)
        buckets = [
            Sample("_bucket", {"le": word}, float(count), None, None)
            for word, count in zip(words, running, strict=True)
        ]
        return (
            *buckets,
            Sample("_count", {}, float(running[-1]), None, None),
            Sample("_sum", {}, self.total, None, None),
        )


class Family(Generic[M]):
    """A metric and its children by label values: `family("a", "b")` is the child, made once and
    kept.
    """

    __slots__ = ("_children", "metric")

    def __init__(self, metric: M) -> None:
        """Wrap a metric that has labels."""
        self.metric = metric
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        """The child of these label values, created with value zero if needed."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self.metric.labels(*labels)
        return child

    def keep(self, wanted: Iterable[tuple[str, ...]]) -> None:
        """Create the wanted children and drop all others, for gauges of configured
        objects.
        """
        keep = set(wanted)
        for labels in [labels for labels in self._children if labels not in keep]:
            self.metric.remove(*labels)
            del self._children[labels]
        for labels in keep:
            self(*labels)


class Metrics:
    """The gateway's metrics in a registry of their own.

    One object, made by `process`, passed to all parts.
    """

    def __init__(self) -> None:
        """Declare every metric; series appear with `configure` and with use."""
        # No `_created` series: no query uses them, and they would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.upstreams: list[str] = []  # those that are configured

        def counter(name: str, text: str, *labels: str) -> Family[Counter]:
            return Family(Counter(f"mailrelay_{name}", text, labels, registry=self.registry))

        def gauge(name: str, text: str, *labels: str) -> Family[Gauge]:
            return Family(Gauge(f"mailrelay_{name}", text, labels, registry=self.registry))

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], *labels: str
        ) -> Family[Histogram]:
            return Family(
                Histogram(
                    f"mailrelay_{name}", text, labels, buckets=buckets, registry=self.registry
                )
            )

        # --- in
        self.received_messages = counter(
            "received_messages_total",
            "Messages accepted (answered 250).",
            "listener",
            "sender_namespace",
        )
        self.received_bytes = counter(
            "received_bytes_total",
            "Size of the messages accepted.",
            "listener",
            "sender_namespace",
        )
        self.rejected = counter(
            "rejected_total",
            "Refusals, 4xx and 5xx, of commands and connections.",
            "listener",
            "stage",
            "reason",
        )
        # A registry of its own: in OpenMetrics a counter owns its name without _total too, in the
        # text format that we serve it does not.
        self._beside = CollectorRegistry()
        self.connections = Family(
            Gauge(
                "mailrelay_connections", "Open SMTP sessions.", ["listener"], registry=self._beside
            )
        )
        self.listener_up = gauge(
            "listener_up", "1: the listener serves. 0: its port cannot be bound.", "listener"
        )
        self.connections_total = counter(
            "connections_total", "SMTP sessions accepted or refused.", "listener", "result"
        )
        self.tls_handshakes = counter(
            "tls_handshakes_total", "TLS handshakes with clients.", "listener", "result"
        )
        self.auth_attempts = counter("auth_attempts_total", "AUTH commands.", "mechanism", "result")
        self.smtp_commands = counter("smtp_commands_total", "SMTP commands received.", "verb")
        self.limit_usage_ratio = gauge(
            "limit_usage_ratio",
            "Usage of the most used limit.",
            "scope",
            "sender_namespace",
        )
        self.limited = counter(
            "limited_total",
            "Messages refused by a rate limit.",
            "scope",
            "sender_namespace",
        )
        # --- the queue
        self.queue_recipients = gauge(
            "queue_recipients", "Recipients in the queue.", "upstream", "state"
        )
        self.queue_messages = gauge(
            "queue_messages",
            "Messages in the queue, each counted in every upstream and state where it has a"
            " recipient.",
            "upstream",
            "state",
        )
        self.queue_oldest_seconds = gauge(
            "queue_oldest_seconds", "Age of the oldest message in the queue.", "upstream"
        )
        self.queue_bytes = gauge("queue_bytes", "Size of the messages in the queue.", "upstream")
        self.queue_unrouted_recipients = Gauge(
            "mailrelay_queue_unrouted_recipients",
            "Recipients that wait because no route matches them or no upstream of their route is"
            " configured.",
            registry=self.registry,
        )
        self.dead_letters = Gauge(
            "mailrelay_dead_letters",
            "Dead letters kept.",
            registry=self.registry,
        )
        self.spool_commit_seconds = Histogram(
            "mailrelay_spool_commit_seconds",
            "Duration of one commit with its fsync.",
            buckets=COMMIT_BUCKETS,
            registry=self.registry,
        )
        self.spool_free_bytes = Gauge(
            "mailrelay_spool_free_bytes",
            "Free space on the spool's volume.",
            registry=self.registry,
        )
        self.spool_quarantined_databases = Gauge(
            "mailrelay_spool_quarantined_databases",
            "Damaged databases in quarantine, counted at startup.",
            registry=self.registry,
        )
        self.spool_quarantined_bodies = Gauge(
            "mailrelay_spool_quarantined_bodies",
            "Bodies in quarantine because no message refers to them, counted at startup.",
            registry=self.registry,
        )
        self.spool_quarantined_bytes = Gauge(
            "mailrelay_spool_quarantined_bytes",
            "Size of the quarantine, counted at startup.",
            registry=self.registry,
        )
        # --- out
        self.delivery_attempts = counter(
            "delivery_attempts_total",
            "Delivery attempts, counted by recipient.",
            "upstream",
            "result",
            "code_class",
        )
        self.delivery_seconds = histogram(
            "delivery_seconds", "Time from acceptance to delivery.", DELIVERY_BUCKETS, "upstream"
        )
        self.attempt_seconds = histogram(
            "attempt_seconds", "Duration of one attempt.", ATTEMPT_BUCKETS, "upstream"
        )
        self.upstream_connections = gauge(
            "upstream_connections", "Open connections to the upstream.", "upstream"
        )
        self.upstream_up = gauge(
            "upstream_up",
            "1: the upstream accepts mail, or has not been tried yet. 0: it is held.",
            "upstream",
        )
        self.upstream_paced_seconds = counter(
            "upstream_paced_seconds_total",
            "Time for which mail was delayed by the upstream's pace, throttling or quotas.",
            "upstream",
        )
        self.upstream_pace_factor = gauge(
            "upstream_pace_factor",
            "Fraction of the upstream's pace that is used: less than 1 after throttling.",
            "upstream",
        )
        self.dsn = counter("dsn_total", "Notices (DSNs) queued.", "kind")
        self.certificate_expiry_seconds = gauge(
            "certificate_expiry_seconds",
            "Time until the listener's certificate expires.",
            "listener",
        )
        self.oauth_token_expiry_seconds = Family(
            Countdown(
                "mailrelay_oauth_token_expiry_seconds",
                "Time until the access token for the upstream's login expires; 0: there is none.",
                ["upstream"],
                registry=self.registry,
            )
        )
        # --- ourselves
        self.config_reloads = counter("config_reloads_total", "Configurations read.", "result")
        self.loop_lag_seconds = Gauge(
            "mailrelay_loop_lag_seconds",
            "How late the event loop runs its timers.",
            registry=self.registry,
        )
        self.log_lines_dropped = Counter(
            "mailrelay_log_lines_dropped_total",
            "Log lines dropped because the reader of stdout was too slow.",
            registry=self.registry,
        )

    def render(self) -> bytes:
        """All metrics in Prometheus' text format (0.0.4). Takes milliseconds: call it in a
        thread.
        """
        return generate_latest(self.registry) + generate_latest(self._beside)

    def configure(self, config: GatewayConfig) -> None:
        """Create every series of the configured listeners and upstreams; `admit` creates
        tenants'.
        """
        listeners = [listener.name for listener in config.relay.listeners]
        upstreams = [upstream.name for upstream in config.relay.upstreams]
        self.upstreams = upstreams
        for listener in listeners:
            for stage, reason in COMMON_REFUSALS:
                self.rejected(listener, stage, reason)
            for result in ("accepted", "refused"):
                self.connections_total(listener, result)
            for result in ("ok", "failed"):
                self.tls_handshakes(listener, result)
        self.listener_up.keep([(listener,) for listener in listeners])
        self.certificate_expiry_seconds.keep(
            [
                (listener.name,)
                for listener in config.relay.listeners
                if listener.tls.mode is not TlsMode.NONE
            ]
        )
        for listener in listeners:  # kept for a listener that is gone: its sessions may go on
            self.connections(listener)
        for mechanism in ("PLAIN", "LOGIN"):
            for result in ("ok", "failed", "busy", "error"):
                self.auth_attempts(mechanism, result)
        for family in (self.queue_recipients, self.queue_messages):
            family.keep([(name, state) for name in upstreams for state in STATES])
        self.queue_oldest_seconds.keep([(name,) for name in upstreams])
        self.queue_bytes.keep([(name,) for name in upstreams])
        self.upstream_connections.keep([(name,) for name in upstreams])
        self.oauth_token_expiry_seconds.keep(
            [
                (upstream.name,)
                for upstream in config.relay.upstreams
                if isinstance(upstream.settings, Smarthost)
                and isinstance(upstream.settings.auth, OAuth2)
            ]
        )
        self.upstream_pace_factor.keep(
            [(upstream.name,) for upstream in config.relay.upstreams if upstream.pace]
        )
        for upstream in config.relay.upstreams:
            if upstream.pace and not self.upstream_pace_factor(upstream.name).value:
                self.upstream_pace_factor(upstream.name).set(1)
        fresh = [name for name in upstreams if (name,) not in self.upstream_up._children]
        self.upstream_up.keep([(name,) for name in upstreams])
        for name in fresh:
            self.upstream_up(name).set(1)
        for name in upstreams:
            for result in RESULTS:
                for code_class in CODE_CLASSES:
                    self.delivery_attempts(name, result, code_class)
            self.delivery_seconds(name)
            self.attempt_seconds(name)
            self.upstream_paced_seconds(name)
        for kind in ("failed", "delayed", "relayed"):
            self.dsn(kind)
        for result in ("ok", "failed"):
            self.config_reloads(result)

    def admit(self, config: GatewayConfig) -> None:
        """Create every series of the tenants. There may be thousands, at microseconds each: call it
        in a thread.
        """
        namespaces = sorted({sender.namespace for sender in config.senders})
        for namespace in namespaces:
            for listener in config.relay.listeners:
                self.received_messages(listener.name, namespace)
                self.received_bytes(listener.name, namespace)
            for rate in config.relay.limits.rates:
                self.limited(rate.scope, namespace)
                # the relay's own use has no namespace
                self.limit_usage_ratio(rate.scope, namespace if rate.scope != "Relay" else "")

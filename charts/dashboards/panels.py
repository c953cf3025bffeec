"""What the dashboard shows: its rows, panels and queries, as plain data. How Grafana wants them
written is in generate.py.

Every query is narrowed by SELECTOR, so that the variables `namespace` and `relay` act on all of it.
A panel of rates asks over `$__rate_interval`; a figure of the last hour says so in its title. The
gateway makes all series with value zero, so a panel without data means that nothing is scraped,
never that nothing happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Put into each query between `{` and `}`; more matchers may follow.
SELECTOR = 'namespace=~"$namespace", relay=~"$relay"'


class View(StrEnum):
    """How a panel looks."""

    LINES = "lines"
    STACKED = "stacked"
    FIGURE = "figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question to Prometheus, and what its series are called (`{{label}}`)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel: `unit` in Grafana's words, red from `alarm` on, yellow from `warn` on."""

    title: str
    description: str
    queries: tuple[Query, ...]
    view: View = View.LINES
    unit: str = "short"
    warn: float | None = None
    alarm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels that answer one question together."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, *, by: str = "", matchers: str = "") -> str:
    """Per second, summed over pods: `by` names the labels that stay."""
    return _sum(f"rate({_series(metric, matchers)}[$__rate_interval])", by)


def last_hour(metric: str, *, by: str = "", matchers: str = "") -> str:
    """How many in the last hour, summed over pods."""
    return _sum(f"increase({_series(metric, matchers)}[1h])", by)


def total(metric: str, *, by: str = "", matchers: str = "") -> str:
    """A gauge summed over pods."""
    return _sum(_series(metric, matchers), by)


def highest(metric: str, *, by: str = "", matchers: str = "") -> str:
    """The highest of all pods."""
    return f"max{_by(by)} ({_series(metric, matchers)})"


def lowest(metric: str, *, by: str = "", matchers: str = "") -> str:
    """The lowest of all pods."""
    return f"min{_by(by)} ({_series(metric, matchers)})"


def quantile(share: float, metric: str, *, by: str = "") -> str:
    """A quantile of a histogram over all pods; zero where nothing was observed."""
    labels = ", ".join(filter(None, ("le", by)))
    buckets = f"rate({_series(f'{metric}_bucket', '')}[$__rate_interval])"
    count = f"rate({_series(f'{metric}_count', '')}[$__rate_interval])"
    nothing = f"{_sum(count, by)} * 0"
    # Without observations the quantile is NaN, and NaN compares false with everything.
    return f"(histogram_quantile({share}, sum by ({labels}) ({buckets})) >= 0) or {nothing}"


def _series(metric: str, matchers: str) -> str:
    return f"mailrelay_{metric}{{{', '.join(filter(None, (SELECTOR, matchers)))}}}"


def _sum(expr: str, by: str) -> str:
    return f"sum{_by(by)} ({expr})"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


GLANCE = Row(
    title="At a glance",
    panels=(
        Panel(
            title="Accepted",
            description="Messages answered 250: stored, and ours to deliver.",
            queries=(Query(expr=rate("received_messages_total")),),
            view=View.FIGURE,
            unit="cps",
        ),
        Panel(
            title="Delivered",
            description="Recipients whose message an upstream took.",
            queries=(Query(expr=rate("delivery_attempts_total", matchers='result="delivered"')),),
            view=View.FIGURE,
            unit="cps",
        ),
        Panel(
            title="Queued",
            description="Recipients in the queue, in whatever state.",
            queries=(Query(expr=total("queue_recipients")),),
            view=View.FIGURE,
        ),
        Panel(
            title="Oldest in the queue",
            description="Age of the oldest message in the queue.",
            queries=(Query(expr=highest("queue_oldest_seconds")),),
            view=View.FIGURE,
            unit="s",
            warn=900,
            alarm=7200,
        ),
        Panel(
            title="Failed in the last hour",
            description="Recipients that an upstream refused for good, or that were given up.",
            queries=(Query(expr=last_hour("delivery_attempts_total", matchers='result="failed"')),),
            view=View.FIGURE,
            warn=1,
            alarm=100,
        ),
        Panel(
            title="Refused in the last hour",
            description="Commands of clients that we answered with 4xx or 5xx.",
            queries=(Query(expr=last_hour("rejected_total")),),
            view=View.FIGURE,
            warn=1,
        ),
        Panel(
            title="Upstreams held",
            description=(
                "Upstreams that refuse our login, or that we cannot reach: their mail takes the "
                "next one, or waits."
            ),
            queries=(Query(expr=f"sum (1 - {_series('upstream_up', '')})"),),
            view=View.FIGURE,
            alarm=1,
        ),
        Panel(
            title="Dead letters",
            description="Failed messages that are kept for people to see.",
            queries=(Query(expr=total("dead_letters")),),
            view=View.FIGURE,
            warn=1,
        ),
    ),
)

IN = Row(
    title="What goes in",
    panels=(
        Panel(
            title="Messages accepted, by tenant",
            description="Messages answered 250, by the namespace of the MailSender.",
            queries=(
                Query(
                    expr=rate("received_messages_total", by="sender_namespace"),
                    legend="{{sender_namespace}}",
                ),
            ),
            view=View.STACKED,
            unit="cps",
        ),
        Panel(
            title="Octets accepted, by listener",
            description="Octets of messages answered 250.",
            queries=(
                Query(expr=rate("received_bytes_total", by="listener"), legend="{{listener}}"),
            ),
            view=View.STACKED,
            unit="Bps",
        ),
        Panel(
            title="Sessions",
            description=(
                "Open now, and per second: accepted, and turned away because there were too many."
            ),
            queries=(
                Query(expr=total("connections", by="listener"), legend="{{listener}} open"),
                Query(
                    expr=rate("connections_total", by="listener, result"),
                    legend="{{listener}} {{result}} per second",
                ),
            ),
        ),
        Panel(
            title="Logins and TLS",
            description="AUTH commands by what came of them, and TLS handshakes with clients.",
            queries=(
                Query(
                    expr=rate("auth_attempts_total", by="mechanism, result"),
                    legend="AUTH {{mechanism}} {{result}}",
                ),
                Query(expr=rate("tls_handshakes_total", by="result"), legend="TLS {{result}}"),
            ),
            unit="cps",
        ),
    ),
)

REFUSED = Row(
    title="What is refused",
    panels=(
        Panel(
            title="Refusals, by reason",
            description=(
                "4xx and 5xx to clients. The reason stands in the log line and in the reference of "
                "reasons, too."
            ),
            queries=(Query(expr=rate("rejected_total", by="reason"), legend="{{reason}}"),),
            view=View.STACKED,
            unit="cps",
        ),
        Panel(
            title="Refusals, by stage",
            description="At which command of the session.",
            queries=(
                Query(
                    expr=rate("rejected_total", by="listener, stage"),
                    legend="{{listener}} {{stage}}",
                ),
            ),
            view=View.STACKED,
            unit="cps",
        ),
        Panel(
            title="Limited, by tenant",
            description=(
                "Messages deferred or rejected because a limit of limits.rates was used up."
            ),
            queries=(
                Query(
                    expr=rate("limited_total", by="scope, sender_namespace"),
                    legend="{{scope}} {{sender_namespace}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Use of limits",
            description=(
                "How full the fullest limit is. At 100 % the next message is deferred or rejected."
            ),
            queries=(
                Query(
                    expr=highest("limit_usage_ratio", by="scope, sender_namespace"),
                    legend="{{scope}} {{sender_namespace}}",
                ),
            ),
            unit="percentunit",
            warn=0.8,
            alarm=1,
        ),
    ),
)

WAITS = Row(
    title="Queue",
    panels=(
        Panel(
            title="Queued recipients, by upstream and state",
            description=(
                "Ready: next in turn, or under way. Deferred: tried, and to be tried again. Held: "
                "the upstream is held."
            ),
            queries=(
                Query(
                    expr=total("queue_recipients", by="upstream, state"),
                    legend="{{upstream}} {{state}}",
                ),
            ),
            view=View.STACKED,
        ),
        Panel(
            title="Queued messages, by upstream",
            description="A message counts for each state in which it has a recipient.",
            queries=(Query(expr=total("queue_messages", by="upstream"), legend="{{upstream}}"),),
            view=View.STACKED,
        ),
        Panel(
            title="Oldest in the queue, by upstream",
            description="Age of the oldest message. It fails when it reaches retry.giveUpAfter.",
            queries=(
                Query(expr=highest("queue_oldest_seconds", by="upstream"), legend="{{upstream}}"),
            ),
            unit="s",
        ),
        Panel(
            title="Spool",
            description=(
                "Size of the queued messages, and the space left on the volume. Below the "
                "low-water mark mail is answered 452."
            ),
            queries=(
                Query(expr=total("queue_bytes"), legend="queued"),
                Query(expr=lowest("spool_free_bytes"), legend="free, of the fullest volume"),
            ),
            unit="bytes",
        ),
        Panel(
            title="Duration of a commit",
            description="Half and 99 % of the commits with fsync. No 250 is faster than the disk.",
            queries=(
                Query(expr=quantile(0.5, "spool_commit_seconds"), legend="50 %"),
                Query(expr=quantile(0.99, "spool_commit_seconds"), legend="99 %"),
            ),
            unit="s",
        ),
    ),
)

OUT = Row(
    title="What goes out",
    panels=(
        Panel(
            title="Attempts, by result",
            description=(
                "Held: the upstream's trouble, not the message's. Uncertain: the final reply never "
                "came."
            ),
            queries=(
                Query(
                    expr=rate("delivery_attempts_total", by="upstream, result"),
                    legend="{{upstream}} {{result}}",
                ),
            ),
            view=View.STACKED,
            unit="cps",
        ),
        Panel(
            title="From accepted to delivered",
            description="Half and 99 % of the deliveries. Waiting for an upstream counts.",
            queries=(
                Query(
                    expr=quantile(0.5, "delivery_seconds", by="upstream"),
                    legend="{{upstream}} 50 %",
                ),
                Query(
                    expr=quantile(0.99, "delivery_seconds", by="upstream"),
                    legend="{{upstream}} 99 %",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Duration of an attempt",
            description=(
                "99 % of the attempts, from MAIL to the reply to the final dot: how fast the "
                "upstream is."
            ),
            queries=(
                Query(expr=quantile(0.99, "attempt_seconds", by="upstream"), legend="{{upstream}}"),
            ),
            unit="s",
        ),
        Panel(
            title="Upstreams",
            description="Open connections, and whether the upstream takes mail (1) or is held (0).",
            queries=(
                Query(
                    expr=total("upstream_connections", by="upstream"),
                    legend="{{upstream}} connections",
                ),
                Query(expr=lowest("upstream_up", by="upstream"), legend="{{upstream}} up"),
            ),
        ),
    ),
)

FAILS = Row(
    title="What fails",
    panels=(
        Panel(
            title="Attempts that did not deliver, by code",
            description="By the class of the upstream's reply; none: there was no reply.",
            queries=(
                Query(
                    expr=rate(
                        "delivery_attempts_total",
                        by="upstream, result, code_class",
                        matchers='result!="delivered"',
                    ),
                    legend="{{upstream}} {{result}} {{code_class}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Notifications to senders in the last hour",
            description="Delivery status notifications (RFC 3464), which go out like any mail.",
            queries=(Query(expr=last_hour("dsn_total", by="kind"), legend="{{kind}}"),),
        ),
        Panel(
            title="Certificates and access tokens",
            description=(
                "Until the certificate that a listener shows has ended, and the access token by "
                "which an upstream is logged in to; a token is renewed minutes before its end."
            ),
            queries=(
                Query(
                    expr=lowest("certificate_expiry_seconds", by="listener"), legend="{{listener}}"
                ),
                Query(
                    expr=lowest("oauth_token_expiry_seconds", by="upstream"),
                    legend="token for {{upstream}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="The gateway itself",
            description="How late its event loop runs, and configurations that it could not read.",
            queries=(
                Query(expr=highest("loop_lag_seconds"), legend="loop lag (s)"),
                Query(
                    expr=last_hour("config_reloads_total", by="result"),
                    legend="reloads in the last hour: {{result}}",
                ),
            ),
        ),
    ),
)

ROWS = (GLANCE, IN, REFUSED, WAITS, OUT, FAILS)

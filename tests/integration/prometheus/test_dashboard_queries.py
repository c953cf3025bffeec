"""Every query of the dashboard has an answer from a real Prometheus that scrapes a real gateway."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.integration.prometheus.rig import NAMESPACE, RELAY, Prometheus, sum_of

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "charts/mailrelay/dashboards/mailrelay.json").read_text()
)
QUERIES = {
    f"{panel['title']}: {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
}
#: What happened in `scraped` must be seen: a query that looks at the wrong thing shows nothing.
MORE_THAN_ZERO = (
    "Accepted: A",
    "Delivered: A",
    "Queued: A",
    "Oldest in the queue: A",
    "Failed in the last hour: A",
    "Refused in the last hour: A",
    "Upstreams held: A",
    "Dead letters: A",
    "Messages accepted, by tenant: A",
    "Octets accepted, by listener: A",
    "Logins and TLS: A",
    "Logins and TLS: B",
    "Refusals, by reason: A",
    "Refusals, by stage: A",
    "Limited, by tenant: A",
    "Use of limits: A",
    "Queued recipients, by upstream and state: A",
    "Queued messages, by upstream: A",
    "Spool: A",
    "Spool: B",
    "Duration of a commit: B",
    "Attempts, by result: A",
    "From accepted to delivered: B",
    "Duration of an attempt: A",
    "Attempts that did not deliver, by code: A",
    "Certificates and access tokens: A",
)


def filled_in(expr: str, *, namespace: str = NAMESPACE, relay: str = RELAY) -> str:
    """The query as Grafana sends it."""
    for name, value in {
        "$__rate_interval": "1m",
        "$namespace": namespace,
        "$relay": relay,
    }.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.mark.parametrize("query", QUERIES)
def test_a_panel_s_query_returns_numbers(query: str, scraped: Prometheus) -> None:
    series = scraped.query(filled_in(QUERIES[query]))
    assert series, QUERIES[query]
    for one in series:
        assert math.isfinite(float(one["value"][1])), one


@pytest.mark.parametrize("query", MORE_THAN_ZERO)
def test_a_panel_shows_what_happened(query: str, scraped: Prometheus) -> None:
    assert sum_of(scraped.query(filled_in(QUERIES[query]))) > 0


def test_all_is_what_the_variables_begin_with(scraped: Prometheus) -> None:
    for expr in QUERIES.values():
        assert scraped.query(filled_in(expr, namespace=".*", relay=".*"))


def test_the_variables_narrow_every_query(scraped: Prometheus) -> None:
    for expr in QUERIES.values():
        assert scraped.query(filled_in(expr, relay="another")) == []
        assert scraped.query(filled_in(expr, namespace="another")) == []


def test_the_values_of_the_variables_can_be_listed(scraped: Prometheus) -> None:
    # label_values(METRIC, LABEL) of Grafana: the variable's own metric has to carry the label.
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] != "query":
            continue
        metric, _, label = variable["query"].removeprefix("label_values(").rpartition(", ")
        series = scraped.query(filled_in(metric))
        assert {one["metric"].get(label.removesuffix(")")) for one in series} <= {NAMESPACE, RELAY}
        assert series

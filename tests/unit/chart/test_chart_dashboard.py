"""The dashboard: current, and every query asks for metrics and labels that the gateway has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from mailrelay_gateway.metrics import Metrics
from tests.unit.chart.conftest import CHART, ROOT

DASHBOARD: dict[str, Any] = json.loads((CHART / "dashboards/mailrelay.json").read_text())
#: The labels that Prometheus adds: the PodMonitor's, and a histogram's.
ADDED = {"namespace", "relay", "pod", "le"}


def test_the_file_is_what_the_code_makes() -> None:
    subprocess.run(
        [sys.executable, "charts/dashboards/generate.py", "--check"], cwd=ROOT, check=True
    )


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_every_panel_asks_something_and_says_what_it_shows() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len(panels) > 20
    for panel in panels:
        assert panel["targets"] and panel["description"].endswith("."), panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(t["datasource"]["uid"] == "${datasource}" for t in panel["targets"])


def test_every_query_is_narrowed_by_both_variables() -> None:
    for title, expr in queries():
        series = re.findall(r"mailrelay_[a-z_]+(\{[^}]*\})?", expr)
        assert series, title
        for selector in series:
            assert 'namespace=~"$namespace"' in selector, title
            assert 'relay=~"$relay"' in selector, title
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == [
        "datasource",
        "namespace",
        "relay",
    ]


def exported() -> dict[str, set[str]]:
    """Every series name that the gateway can export, with its labels."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    names: dict[str, set[str]] = {}
    for declared in vars(Metrics()).values():
        metric = getattr(declared, "metric", declared)
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            for ending in endings.get(described.type, ("",)):
                names[described.name + ending] = set(metric._labelnames)
    return names


def test_every_query_asks_for_metrics_and_labels_that_the_gateway_has() -> None:
    known = exported()
    for title, expr in queries():
        for name, matchers in re.findall(r"(mailrelay_[a-z_]+)\{([^}]*)\}", expr):
            assert name in known, f"{title}: there is no metric {name}"
            asked = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers))
            grouped = re.findall(r"by \(([^)]*)\)", expr)
            asked |= {label.strip() for group in grouped for label in group.split(",")}
            assert asked - ADDED <= known[name], title

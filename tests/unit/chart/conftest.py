"""The chart, rendered by Helm's own SDK."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts/mailrelay"
NAMESPACE = "mail-system"

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    with Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: Chart) -> Render:
    """`render(**values)`: the manifests of a release named mailrelay, in the order of the files."""

    @cache
    def from_json(values: str) -> list[Manifest]:
        files = chart.render(json.loads(values), name="mailrelay", namespace=NAMESPACE)
        return [
            manifest
            for name, text in sorted(files.items())
            if name.endswith(".yaml")
            # In C: the CRDs take Python's own parser half a second.
            for manifest in yaml.load_all(text, Loader=yaml.CSafeLoader)
            if manifest
        ]

    return lambda **values: copy.deepcopy(from_json(json.dumps(values, sort_keys=True)))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]

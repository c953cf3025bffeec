"""values.yaml, values.schema.json and README say the same; the schema refuses clearly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from helm_python import Chart, HelmValuesError

from tests.unit.chart.conftest import CHART

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
#: What Helm itself adds to a subchart's values, and a parent chart for its condition.
HELMS_OWN = {"global", "enabled"}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if reference := schema.get("$ref"):
        return SCHEMA["definitions"][reference.removeprefix("#/definitions/")]
    return schema


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(values: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    """Keys that only one of values and schema has; objects that the schema leaves open are free."""
    schema = resolved(schema)
    if "properties" not in schema:
        return
    if schema.get("additionalProperties") is not False:
        yield f"{path}: lets unknown keys through"
    properties = schema["properties"]
    optional = {"ephemeral-storage", "cpu", "memory"}
    for key in (set(properties) ^ set(values)) - HELMS_OWN - optional:
        yield f"{path}.{key}: is not in both"
    for key, value in values.items():
        if isinstance(value, dict) and key in properties:
            yield from differences(value, properties[key], f"{path}.{key}")


def test_schema_and_values_name_the_same_keys_and_the_schema_is_strict() -> None:
    assert list(differences(VALUES, SCHEMA, "values")) == []


def test_every_value_has_a_comment_right_above_it() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line.strip()
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r"\s*[a-zA-Z_]+:", line) and not before.strip().startswith("#")
    ]
    assert bare == []


def test_the_readme_lists_every_value_with_its_default() -> None:
    readme = (CHART / "README.md").read_text()
    missing = [
        row
        for path, default in leaves(VALUES)
        if (row := f"| `{path}` | `{json.dumps(default)}` |") not in readme
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 2}, "replicas"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"image": {"digest": "sha256:12"}}, "digest"),
        ({"image": {"repository": ""}}, "repository"),
        ({"watchNamespaces": "mail"}, "watchNamespaces"),
        ({"watchNamespaces": ["Mail"]}, "watchNamespaces"),
        ({"watchNamespaces": ["mail", "mail"]}, "watchNamespaces"),
        ({"logLevel": "trace"}, "logLevel"),
        ({"crds": {"enabled": "yes"}}, "crds"),
        ({"podMonitor": {"interval": "often"}}, "interval"),
        ({"resources": {"limits": {"memory": "much"}}}, "memory"),
        ({"podLabels": {"team": "a b"}}, "podLabels"),
        ({"podLabels": {"app.kubernetes.io/name": "other"}}, "podLabels"),
        ({"resources": {"limits": {"memory": -1}}}, "memory"),
        ({"runAsUser": 0}, "runAsUser"),
        ({"gateway": {"runAsUser": "10001"}}, "runAsUser"),
        ({"gateway": {"imagePullSecrets": ["registry"]}}, "imagePullSecrets"),
        ({"gateway": {"allowedRepositories": ["Registry/x"]}}, "allowedRepositories"),
        ({"monitoring": {"namespaces": "monitoring"}}, "namespaces"),
        ({"fullnameOverride": "Mail_Relay"}, "fullnameOverride"),
        ({"clusterDomain": ""}, "clusterDomain"),
        ({"tokenAudiences": ["mailrelay.dev/relay"]}, "tokenAudiences"),
        ({"tokenAudiences": ["https://kubernetes.default.svc"]}, "tokenAudiences"),
        ({"tokenAudiences": ["two, in one"]}, "tokenAudiences"),
        ({"allowedEgressCIDRs": ["10.0.0.1"]}, "allowedEgressCIDRs"),
        ({"allowedEgressCIDRs": ["127.0.0.0/8"]}, "allowedEgressCIDRs"),
        ({"allowedEgressCIDRs": ["169.254.169.254/32"]}, "allowedEgressCIDRs"),
        ({"allowedEgressCIDRs": ["::1/128"]}, "allowedEgressCIDRs"),
        ({"allowedEgressCIDRs": ["fe80::/10"]}, "allowedEgressCIDRs"),
        ({"egressProxy": "https://proxy:3128"}, "egressProxy"),
        ({"egressProxy": "http://user:secret@proxy:3128"}, "egressProxy"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart: Chart, values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmValuesError, match=named):
        chart.validate_schema(values)


def test_the_defaults_pass(chart: Chart) -> None:
    chart.validate_schema({})
    assert chart.values == VALUES


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": True},  # condition: mailrelay.enabled of a parent chart
        {"resources": {"requests": {"cpu": 0.5, "memory": 1e9}}},
        {"resources": {"limits": {"cpu": "250m", "memory": "1e9", "ephemeral-storage": "1Ti"}}},
        {"runAsUser": None, "gateway": {"runAsUser": None}},
    ],
)
def test_what_kubernetes_and_helm_take_is_taken(chart: Chart, values: dict[str, Any]) -> None:
    chart.validate_schema(values)
    assert chart.render(values, name="mailrelay", namespace="mail-system")

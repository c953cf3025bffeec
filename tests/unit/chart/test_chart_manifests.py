"""What the chart renders: as the golden files say, valid in Kubernetes, with the least rights."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, HelmRenderError, lint

from tests.unit.chart.conftest import CHART, NAMESPACE, ROOT, Manifest, Render, of_kind

GOLDEN = ROOT / "tests/golden/chart"
#: The oldest version that the chart supports, and the newest whose schemas are here.
KUBERNETES = ("1.31", "1.37")

EVERYTHING: dict[str, Any] = {
    "fullnameOverride": "relay-operator",
    "image": {"repository": "registry.example.com/mail/operator", "tag": "1.2.3"},
    "gateway": {
        "image": {"repository": "gateway", "digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "allowedRepositories": ["registry.example.com/mail/gateway"],
        "runAsUser": None,
    },
    "runAsUser": None,
    "monitoring": {"namespaces": ["monitoring"]},
    "imagePullSecrets": [{"name": "registry"}],
    "clusterDomain": "corp.example",
    "tokenAudiences": ["my-idp"],
    "allowedEgressCIDRs": ["10.96.0.0/12"],
    "egressProxy": "http://proxy.corp.example:3128",
    "logLevel": "debug",
    "serviceAccount": {"annotations": {"example.com/note": "yes"}},
    "podLabels": {"team": "mail"},
    "podAnnotations": {"example.com/scrape": "no"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Mail"}},
}
NAMESPACED: dict[str, Any] = {
    "watchNamespaces": ["mail-system", "team-a"],
    "tokenAudiences": [],
    "podMonitor": {"enabled": True},
    "rbac": {"aggregate": False},
    "admissionPolicy": {"enabled": False},
}
CASES = {"defaults": {}, "everything": EVERYTHING, "namespaced": NAMESPACED}


def without_generated(manifests: list[Manifest]) -> list[Manifest]:
    """CRDs and the dashboard are compared with their own sources, not here."""
    shown = []
    for manifest in manifests:
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        if manifest["kind"] == "ConfigMap" and "data" in manifest:
            manifest = {**manifest, "data": sorted(manifest["data"])}
        shown.append(manifest)
    return shown


@pytest.mark.parametrize("case", CASES)
def test_the_rendered_manifests_are_those_of_the_golden_file(case: str, render: Render) -> None:
    # GOLDEN=write pytest tests/unit/chart writes them anew; look at the difference.
    text = yaml.safe_dump_all(without_generated(render(**CASES[case])), sort_keys=False, width=100)
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_helm_lint_finds_nothing() -> None:
    for values in CASES.values():
        report = lint(CHART, values, strict=True, namespace=NAMESPACE)
        findings = [m for m in report["messages"] if m["error"] != "icon is recommended"]
        assert (findings, report["errors"]) == ([], [])


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_every_manifest_is_valid_in_kubernetes(case: str, version: str, render: Render) -> None:
    # Kinds that are not Kubernetes' own have no schema there.
    known = [m for m in render(**CASES[case]) if m["apiVersion"] != "monitoring.coreos.com/v1"]
    assert len(known) > 5
    for manifest in known:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_chart_and_distribution_have_one_version(chart: Chart) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart.version, chart.metadata["appVersion"]) == (version, version)


def test_the_operator_s_pod_is_restricted_and_alone(render: Render) -> None:
    (deployment,) = of_kind(render(), "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (
        1,
        {"type": "Recreate"},
    )
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_platform_that_chooses_users_is_left_to_it(render: Render) -> None:
    (deployment,) = of_kind(render(runAsUser=None), "Deployment")
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_senders_belong_to_editors_and_relays_to_admins(render: Render) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    may: dict[str, set[str]] = {"view": set(), "edit": set(), "admin": set()}
    for role in of_kind(render(), "ClusterRole"):
        for key, value in role["metadata"]["labels"].items():
            if key.startswith(prefix) and value == "true":
                may[key.removeprefix(prefix)] |= {
                    f"{verb} {resource}"
                    for rule in role["rules"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    assert {one.split()[0] for one in may["view"]} == {"get", "list", "watch"}
    assert "create mailsenders" in may["edit"]
    assert "create mailrelays" not in may["edit"]
    assert "patch mailrelays/scale" not in may["edit"]
    assert may["edit"] < may["admin"]
    assert {"create mailrelays", "create maildomains", "patch mailrelays/scale"} <= may["admin"]
    assert not any(one.split()[0] not in {"get", "list", "watch"} and "status" in one
                   for one in may["admin"])  # fmt: skip


def test_images_take_the_digest_then_the_tag_then_the_version(chart: Chart, render: Render) -> None:
    (deployment,) = of_kind(render(**EVERYTHING), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item.get("value") for item in container["env"]}
    assert container["image"] == "registry.example.com/mail/operator:1.2.3"
    assert environment["MAILRELAY_GATEWAY_IMAGE"] == "gateway@sha256:" + "0" * 64
    (deployment,) = of_kind(render(), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":{chart.version}")


def test_a_foreign_service_account_must_be_named(chart: Chart) -> None:
    with pytest.raises(HelmRenderError, match=r"serviceAccount\.name"):
        chart.render({"serviceAccount": {"create": False}}, name="mailrelay", namespace=NAMESPACE)


def rules_of(manifests: list[Manifest]) -> list[Manifest]:
    return [
        rule
        for manifest in manifests
        if manifest["kind"] in ("ClusterRole", "Role")
        for rule in manifest["rules"]
    ]


@pytest.mark.parametrize("case", CASES)
def test_no_right_is_a_wildcard(case: str, render: Render) -> None:
    for rule in rules_of(render(**CASES[case])):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_never_listed_watched_or_deleted(case: str, render: Render) -> None:
    verbs = {
        verb
        for rule in rules_of(render(**CASES[case]))
        if "secrets" in rule["resources"]
        for verb in rule["verbs"]
    }
    assert verbs == {"get", "create", "patch"}


def test_watch_namespaces_leaves_no_right_elsewhere(render: Render) -> None:
    manifests = render(**NAMESPACED)
    assert of_kind(manifests, "ClusterRole") == of_kind(manifests, "ClusterRoleBinding") == []
    roles = {role["metadata"]["namespace"] for role in of_kind(manifests, "Role")}
    bound = {binding["metadata"]["namespace"] for binding in of_kind(manifests, "RoleBinding")}
    assert roles == bound == {"mail-system", "team-a"}


def test_the_crds_are_those_of_the_repository_and_survive_an_uninstall(render: Render) -> None:
    ours = {
        path.stem: yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
        for path in (ROOT / "crds").glob("*.yaml")
    }
    charted = of_kind(render(), "CustomResourceDefinition")
    assert sorted(ours) == ["maildomains", "mailrelays", "mailsenders"]
    for crd in charted:
        assert crd["metadata"]["annotations"].pop("helm.sh/resource-policy") == "keep"
        plain = ours.pop(crd["spec"]["names"]["plural"])
        assert crd["spec"] == plain["spec"]
        assert crd["metadata"]["name"] == plain["metadata"]["name"]
    assert ours == {}
    assert of_kind(render(crds={"enabled": False}), "CustomResourceDefinition") == []
    # Helm's own folder for CRDs is never upgraded.
    assert not (CHART / "crds").exists()


def test_the_dashboard_of_the_config_map_is_the_file(render: Render) -> None:
    (config_map,) = of_kind(render(dashboard={"enabled": True}), "ConfigMap")
    path = Path(CHART / "dashboards/mailrelay.json")
    assert json.loads(config_map["data"]["mailrelay.json"]) == json.loads(path.read_text())
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"

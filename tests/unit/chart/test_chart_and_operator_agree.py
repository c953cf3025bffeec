"""What the chart writes down of the operator is what the operator reads, names and does."""

from __future__ import annotations

import re

import pytest
import yaml
from helm_python import Chart

from mailrelay_operator.api import names
from mailrelay_operator.api.parsing import parse
from mailrelay_operator.cluster.port import KINDS
from mailrelay_operator.settings import Settings, read_settings
from tests.unit.chart.conftest import NAMESPACE, Manifest, Render, of_kind


def operator_container(manifests: list[Manifest]) -> Manifest:
    (deployment,) = of_kind(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def settings_of(manifests: list[Manifest]) -> Settings:
    environment = {
        item["name"]: item.get("value", NAMESPACE) for item in operator_container(manifests)["env"]
    }
    return read_settings(environment)


def test_the_operator_reads_the_environment_that_the_chart_gives(render: Render) -> None:
    settings = settings_of(
        render(
            watchNamespaces=["mail", "team-a"],
            clusterDomain="corp.example",
            logLevel="debug",
            gateway={"image": {"repository": "gw", "tag": "1", "pullPolicy": "Never"}},
        )
    )
    assert settings == Settings(
        gateway_image="gw:1",
        gateway_image_pull_policy="Never",
        watch_namespaces=("mail", "team-a"),
        namespace=NAMESPACE,
        cluster_domain="corp.example",
        log_level="debug",
    )
    assert settings_of(render()).watch_namespaces is None


def test_the_ports_are_those_that_the_operator_binds(render: Render) -> None:
    manifests = render()
    settings = settings_of(manifests)
    ports = {p["name"]: p["containerPort"] for p in operator_container(manifests)["ports"]}
    assert ports == {"probes": settings.probe_port, "metrics": settings.metrics_port}


def test_the_policy_admits_every_type_of_secret_that_the_operator_writes(render: Render) -> None:
    (policy,) = of_kind(render(), "ValidatingAdmissionPolicy")
    (validation,) = policy["spec"]["validations"]
    exact = set(re.findall(r'object\.type == "([^"]+)"', validation["expression"]))
    prefixes = tuple(re.findall(r'startsWith\("([^"]+)"\)', validation["expression"]))
    for type_ in names.SECRET_TYPES:
        assert type_ in exact or type_.startswith(prefixes), type_
    for foreign in ("Opaque", "kubernetes.io/basic-auth", "kubernetes.io/tls"):
        assert foreign not in exact
        assert not foreign.startswith(prefixes)


def test_the_policy_watches_the_operator_s_own_account(render: Render) -> None:
    manifests = render(serviceAccount={"name": "mailer"})
    (policy,) = of_kind(manifests, "ValidatingAdmissionPolicy")
    (condition,) = policy["spec"]["matchConditions"]
    assert f'"system:serviceaccount:{NAMESPACE}:mailer"' in condition["expression"]
    (binding,) = of_kind(manifests, "ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    (deployment,) = of_kind(manifests, "Deployment")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "mailer"


def test_the_pod_monitor_finds_the_gateways_and_nothing_else(render: Render) -> None:
    manifests = render(podMonitor={"enabled": True})
    gateways, operator = of_kind(manifests, "PodMonitor")
    wanted = gateways["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= names.relay_labels("shared").items()
    (endpoint,) = gateways["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == names.PORT_NAME_ADMIN
    label = re.sub(r"[^a-zA-Z0-9_]", "_", names.LABEL_RELAY)
    (relabeling,) = endpoint["relabelings"]
    assert relabeling["sourceLabels"] == [f"__meta_kubernetes_pod_label_{label}"]
    # The operator's own pod is the other one's.
    (deployment,) = of_kind(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert not wanted.items() <= labels.items()
    assert operator["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_there_is_a_rule_for_every_kind_that_the_operator_touches(render: Render) -> None:
    ruled = {
        (group, resource)
        for role in of_kind(render(), "ClusterRole")
        if role["metadata"]["name"].endswith(":operator")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if "/" not in resource
    }
    touched = {(kind.api_version.rpartition("/")[0], kind.plural) for kind in KINDS.values()}
    assert ruled == touched


@pytest.mark.parametrize("namespaces", [[], ["team-a", "team-b"]])
def test_the_notes_show_resources_that_are_accepted(chart: Chart, namespaces: list[str]) -> None:
    files = chart.render({"watchNamespaces": namespaces}, name="mailrelay", namespace=NAMESPACE)
    (notes,) = (text for name, text in files.items() if name.endswith("NOTES.txt"))
    shown = re.search(r"<<'YAML'\n(.*?)\n    YAML\n", notes, re.DOTALL)
    assert shown
    documents = list(yaml.safe_load_all(re.sub(r"(?m)^    ", "", shown[1])))
    assert [parse(document).kind for document in documents] == ["MailRelay", "MailSender"]
    assert {document["metadata"]["namespace"] for document in documents} == {
        namespaces[0] if namespaces else "default"
    }

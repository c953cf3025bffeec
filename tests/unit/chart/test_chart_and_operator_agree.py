"""What the chart writes down of the operator is what the operator reads, names and does."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from helm_python import Chart

from mailrelay_operator.api import names
from mailrelay_operator.api.parsing import parse
from mailrelay_operator.api.surroundings import DEFAULT_USER
from mailrelay_operator.cluster.port import KINDS
from mailrelay_operator.engine import authorities
from mailrelay_operator.settings import Settings, read_settings
from tests.unit.chart.conftest import NAMESPACE, Manifest, Render, of_kind


def operator_container(manifests: list[Manifest]) -> Manifest:
    (deployment,) = of_kind(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def settings_of(manifests: list[Manifest]) -> Settings:
    fields = {"metadata.namespace": NAMESPACE, "status.podIP": "192.0.2.1"}
    environment = {
        item["name"]: item["value"]
        if "value" in item
        else fields[item["valueFrom"]["fieldRef"]["fieldPath"]]
        for item in operator_container(manifests)["env"]
    }
    return read_settings(environment)


def test_the_operator_reads_the_environment_that_the_chart_gives(render: Render) -> None:
    settings = settings_of(
        render(
            watchNamespaces=["mail", "team-a"],
            clusterDomain="corp.example",
            logLevel="debug",
            gateway={
                "image": {"repository": "gw", "tag": "1", "pullPolicy": "Never"},
                "imagePullSecrets": [{"name": "a"}, {"name": "b"}],
                "runAsUser": None,
            },
            monitoring={"namespaces": ["monitoring", "observability"]},
            tokenAudiences=["api://AzureADTokenExchange", "my-idp"],
            allowedEgressCIDRs=["10.96.0.0/12", "fd00:10::/64"],
            egressProxy="http://proxy.corp:3128",
        )
    )
    assert settings == Settings(
        gateway_image="gw:1",
        gateway_image_pull_policy="Never",
        gateway_image_pull_secrets=("a", "b"),
        gateway_user=None,
        monitoring_namespaces=("monitoring", "observability"),
        rollout_seconds=600,
        token_audiences=("api://AzureADTokenExchange", "my-idp"),
        allowed_egress=("10.96.0.0/12", "fd00:10::/64"),
        egress_proxy="http://proxy.corp:3128",
        probe_host="192.0.2.1",
        watch_namespaces=("mail", "team-a"),
        namespace=NAMESPACE,
        cluster_domain="corp.example",
        log_level="debug",
    )
    assert settings_of(render()).watch_namespaces is None
    assert settings_of(render()).gateway_user == DEFAULT_USER


def test_the_ports_are_those_that_the_operator_binds(render: Render) -> None:
    manifests = render()
    settings = settings_of(manifests)
    ports = {p["name"]: p["containerPort"] for p in operator_container(manifests)["ports"]}
    assert ports == {"probes": settings.probe_port, "metrics": settings.metrics_port}


def policies(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The admission policies by the last part of their name."""
    found = of_kind(manifests, "ValidatingAdmissionPolicy")
    return {one["metadata"]["name"].rpartition(".")[2]: one for one in found}


def test_the_policy_admits_every_type_of_secret_that_the_operator_writes(render: Render) -> None:
    validation = policies(render())["secrets"]["spec"]["validations"][0]
    exact = set(re.findall(r'object\.type == "([^"]+)"', validation["expression"]))
    prefixes = tuple(re.findall(r'startsWith\("([^"]+)"\)', validation["expression"]))
    for type_ in names.SECRET_TYPES:
        assert type_ in exact or type_.startswith(prefixes), type_
    for foreign in ("Opaque", "kubernetes.io/basic-auth", "kubernetes.io/tls"):
        assert foreign not in exact
        assert not foreign.startswith(prefixes)


def test_the_policies_watch_the_operator_s_own_account(render: Render) -> None:
    manifests = render(serviceAccount={"name": "mailer"})
    (deployment,) = of_kind(manifests, "Deployment")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "mailer"
    account = f'"system:serviceaccount:{NAMESPACE}:mailer"'
    for name, policy in policies(manifests).items():
        conditions = policy["spec"].get("matchConditions", [])
        assert any(account in one["expression"] for one in conditions) is (name != "relayref")
        assert policy["spec"]["failurePolicy"] == "Fail"


def test_every_policy_is_bound_and_denies(render: Render) -> None:
    manifests = render()
    bound = {
        one["spec"]["policyName"]: one["spec"]["validationActions"]
        for one in of_kind(manifests, "ValidatingAdmissionPolicyBinding")
    }
    named = {one["metadata"]["name"] for one in of_kind(manifests, "ValidatingAdmissionPolicy")}
    assert bound == {key: ["Deny"] for key in named}


#: What RBAC calls a write, and what it is to an admission policy.
OPERATIONS = {"create": "CREATE", "patch": "UPDATE", "update": "UPDATE", "delete": "DELETE"}


@pytest.mark.parametrize("monitored", [False, True])
def test_every_write_of_the_operator_s_role_is_fenced(render: Render, *, monitored: bool) -> None:
    manifests = render(podMonitor={"enabled": monitored})
    asked = {
        (f"{OPERATIONS[verb]} {resource.partition('/')[0]}" + (f".{group}" if group else ""))
        + "".join(resource.partition("/")[1:])
        for role in (*of_kind(manifests, "ClusterRole"), *of_kind(manifests, "Role"))
        if role["metadata"]["name"].endswith((":operator", ":relay-cas"))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb in OPERATIONS
    }
    (others,) = policies(manifests)["others"]["spec"]["validations"]
    allowed = set(re.findall(r'"([^"]+)"', others["expression"]))
    assert allowed == asked
    fenced = {
        f"{operation} {resource}" + (f".{group}" if group else "")
        for name, policy in policies(manifests).items()
        if name not in {"others", "relayref"}
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }
    # A status says what the operator knows; everything else has a policy of its own.
    assert fenced == {one for one in allowed if not one.endswith("/status")}


def test_the_labels_that_the_policies_ask_for_are_those_of_the_operator(render: Render) -> None:
    text = yaml.safe_dump(of_kind(render(), "ValidatingAdmissionPolicy"))
    for key in (names.LABEL_NAME, names.LABEL_COMPONENT, names.LABEL_RELAY, names.LABEL_MANAGED_BY):
        assert f'[?"{key}"]' in text
    assert names.LABEL_ACCEPTING in text
    assert f'== "{names.service_account_name("")}"'.replace('== "', '+ "') in text
    assert f'containers[0].name == "{names.GATEWAY_CONTAINER}"' in " ".join(text.split())


def test_the_images_that_may_run_are_the_chart_s(render: Render) -> None:
    image = {"repository": "registry.example.com/gateway"}
    more = ["registry.example.com/fork", "registry.example.com/gateway"]
    manifests = render(gateway={"image": image, "allowedRepositories": more})
    variables = {
        one["name"]: one["expression"]
        for one in policies(manifests)["statefulsets"]["spec"]["variables"]
    }
    assert json.loads(variables["repositories"]) == [
        "registry.example.com/gateway",
        "registry.example.com/fork",
    ]


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


def test_the_pod_monitor_verifies_the_gateways_by_what_the_operator_keeps(render: Render) -> None:
    manifests = render(podMonitor={"enabled": True})
    gateways, _ = of_kind(manifests, "PodMonitor")
    (endpoint,) = gateways["spec"]["podMetricsEndpoints"]
    (config_map,) = of_kind(manifests, "ConfigMap")
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {
        "serverName": names.ADMIN_SERVER_NAME,
        "ca": {"configMap": {"name": config_map["metadata"]["name"], "key": authorities.KEY}},
    }
    assert "data" not in config_map  # Helm leaves alone what it never wrote
    assert settings_of(manifests).authorities_config_map == config_map["metadata"]["name"]
    assert settings_of(render()).authorities_config_map == ""


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
    where = namespaces[0] if namespaces else NAMESPACE
    # Not indented: a here-document would not end.
    shown = re.search(
        rf"^kubectl apply -n {where} -f - <<'YAML'\n(.*?)^YAML$", notes, re.MULTILINE | re.DOTALL
    )
    assert shown
    documents = list(yaml.safe_load_all(shown[1]))
    assert [parse(document).kind for document in documents] == ["MailRelay", "MailSender"]
    assert set(re.findall(r" -n (\S+)", notes)) == {where}

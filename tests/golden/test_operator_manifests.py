"""The objects that the operator applies, as files: a change of any of them is seen in review.

`GOLDEN=write make test ARGS="-k operator_manifests"` writes the files anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.engine.minting import mint
from mailrelay_operator.plan.actions import Apply
from mailrelay_operator.plan.facts import Absence, Lookup, ObjectKey, Place, RelayFacts
from mailrelay_operator.plan.manifests.network import network_policy
from mailrelay_operator.plan.relay import plan_relay
from mailrelay_operator.plan.survey import survey, wanted
from tests.models.manifests import mail_relay

HERE = Path(__file__).parent / "operator"
#: The oldest Kubernetes that we say we run on, and the newest that the schemas know.
VERSIONS = ("1.31", "1.36")

BOX = [{"name": "box", "sandbox": {}}]
RELAYS: Mapping[str, dict[str, Any]] = {
    "smallest": {"hostname": "relay.example.com", "upstreams": BOX},
    "ephemeral": {
        "hostname": "relay.example.com",
        "upstreams": BOX,
        "queue": {"ephemeral": {}},
        "listeners": [
            {
                "name": "plain",
                "port": 25,
                "tls": {"mode": "None"},
                "authentication": {"mode": "None", "clientCIDRs": ["10.0.0.0/8"]},
            },
            {"name": "submissions-x", "port": 465, "tls": {"mode": "Implicit"}},
        ],
    },
    "many-tenants": {
        "replicas": 3,
        "hostname": "relay.example.com",
        "upstreams": BOX,
        "allowedSenders": [
            {"name": "own", "namespaces": {"from": "Same"}},
            {
                "name": "teams",
                "namespaces": {
                    "from": "Selector",
                    "selector": {
                        "matchLabels": {"mail": "allowed"},
                        "matchExpressions": [
                            {"key": "tier", "operator": "In", "values": ["gold", "silver"]},
                            {"key": "frozen", "operator": "DoesNotExist"},
                        ],
                    },
                },
                "addresses": ["*@example.com"],
            },
        ],
        "queue": {
            "storage": {
                "size": "20Gi",
                "storageClassName": "fast",
                "accessMode": "ReadWriteOncePod",
            }
        },
    },
    "load-balancer": {
        "hostname": "relay.example.com",
        "upstreams": BOX,
        "allowedSenders": [{"name": "all", "namespaces": {"from": "All"}, "addresses": ["*"]}],
        "service": {
            "type": "LoadBalancer",
            "hostname": "smtp.example.com",
            "annotations": {"example.com/internal": "true"},
            "loadBalancerClass": "example.com/internal",
            "sourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
            "externalTrafficPolicy": "Local",
            "ipFamilies": ["IPv6", "IPv4"],
        },
        "image": "registry.example.com/mailrelay-gateway:1.2.2",
        "template": {"imagePullSecrets": [{"name": "registry"}]},
    },
}


class Nothing(dict[ObjectKey, Lookup]):
    """A namespace in which nothing was found."""

    def __missing__(self, key: ObjectKey) -> Lookup:
        return Absence.MISSING


def manifests(spec: dict[str, Any], **place: Any) -> list[dict[str, Any]]:
    """What is applied for this spec, the Secrets left out: they hold keys."""
    relay = mail_relay(metadata={"uid": "0-1-2", "generation": 1}, **spec)
    facts = RelayFacts(
        namespace="mail",
        name="out",
        relay=relay,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        place=Place(
            image="registry.example.com/mailrelay-gateway:1.2.3",
            operator_namespace="mail-system",
            monitoring_namespaces=("monitoring",),
            **place,
        ),
        objects=Nothing(),
    )
    found = survey(facts, relay)
    plan = plan_relay(found, mint(wanted(found), relay="mail/out", now=facts.now))
    assert plan.problems == ()
    applied = [one.manifest for one in plan.actions if isinstance(one, Apply)]
    return [one for one in applied if one["kind"] != "Secret"]


@pytest.mark.parametrize("name", sorted(RELAYS))
def test_the_objects_are_those_in_the_file(name: str) -> None:
    found = yaml.safe_dump_all(manifests(RELAYS[name]), sort_keys=False, width=100)
    path = HERE / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found)
    assert path.read_text() == found, "changed on purpose? GOLDEN=write writes the file anew"


def test_the_order_of_listeners_in_the_spec_restarts_no_pod() -> None:
    listeners = [
        {"name": "submissions", "port": 465, "tls": {"mode": "Implicit"}},
        {"name": "submission", "port": 587},
    ]
    spec = RELAYS["smallest"] | {"listeners": listeners}
    one, other = manifests(spec), manifests(spec | {"listeners": listeners[::-1]})
    for made in (*one, *other):
        made["metadata"].pop("annotations", None)  # a hash of the spec as it was written
    assert one == other


def test_a_platform_that_chooses_users_is_left_to_it() -> None:
    (stateful_set,) = (
        one for one in manifests(RELAYS["smallest"], user=None) if one["kind"] == "StatefulSet"
    )
    context = stateful_set["spec"]["template"]["spec"]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()


def test_pull_secrets_of_the_chart_come_after_the_relay_s_own() -> None:
    made = manifests(RELAYS["load-balancer"], image_pull_secrets=("all", "registry"))
    (stateful_set,) = (one for one in made if one["kind"] == "StatefulSet")
    pod = stateful_set["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "all"}]


def test_only_those_with_business_there_reach_the_admin_port() -> None:
    spec = RELAYS["smallest"] | {"admin": {"serviceAccounts": [{"namespace": "ops", "name": "a"}]}}
    relay = {"metadata": {"name": "out", "namespace": "mail"}, "kind": "", "apiVersion": ""}
    read = MailRelaySpec.model_validate(spec)
    place = Place(operator_namespace="mail-system", monitoring_namespaces=("monitoring",))
    admin = network_policy(relay, read, place)["spec"]["ingress"][-1]
    (peer,) = admin["from"]
    (named,) = peer["namespaceSelector"]["matchExpressions"]
    assert admin["ports"] == [{"protocol": "TCP", "port": 8025}]
    assert named == {
        "key": "kubernetes.io/metadata.name",
        "operator": "In",
        "values": ["mail-system", "monitoring", "ops"],
    }


def test_pods_of_a_network_without_logins_are_let_in_by_a_selector_too() -> None:
    listener = {
        "name": "open",
        "port": 2525,
        "tls": {"mode": "None"},
        "authentication": {"mode": "None", "clientCIDRs": ["10.0.0.0/8"]},
    }
    made = manifests(RELAYS["smallest"] | {"listeners": [listener]})
    (policy,) = (one for one in made if one["kind"] == "NetworkPolicy")
    peers = policy["spec"]["ingress"][0]["from"]
    assert peers == [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]


def test_an_ephemeral_queue_is_bounded_and_its_room_reserved() -> None:
    queue = {"ephemeral": {"size": "2Gi"}}
    made = manifests(RELAYS["smallest"] | {"queue": queue})
    (stateful_set,) = (one for one in made if one["kind"] == "StatefulSet")
    pod = stateful_set["spec"]["template"]["spec"]
    assert {"name": "spool", "emptyDir": {"sizeLimit": "2Gi"}} in pod["volumes"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"]["ephemeral-storage"] == str((2048 + 128) << 20)
    at = container["args"].index("--queue-size")
    assert container["args"][at + 1] == str(2 << 30)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(RELAYS))
def test_the_objects_follow_the_schemas_of_kubernetes(name: str, version: str) -> None:
    for manifest in manifests(RELAYS[name]):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("name", sorted(RELAYS))
def test_the_pods_are_what_the_restricted_standard_admits(name: str) -> None:
    (stateful_set,) = (one for one in manifests(RELAYS[name]) if one["kind"] == "StatefulSet")
    pod = stateful_set["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {next(key for key in one if key != "name") for one in pod["volumes"]} <= {
        "projected",
        "emptyDir",
    }
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert all(port["containerPort"] >= 1024 for port in container["ports"])
        assert all("hostPort" not in port for port in container["ports"])

"""Who reaches which port of a gateway, as Kubernetes reads the NetworkPolicy that the plan makes
(networking.k8s.io/v1): the namespaces that may have a login, and nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from mailrelay_operator.plan.facts import Place
from tests.unit.plan.build import applied, facts, plan, relay, sender, statuses

Manifest = dict[str, Any]
WHERE = "mail"
SUBMISSION, ADMIN = 10587, 8025


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Where a connection comes from: a pod of a namespace, or an address outside."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "192.0.2.1"

    @property
    def namespace_labels(self) -> dict[str, str]:
        """The labels of its namespace, with the one that the API server sets."""
        return {**self.labels, "kubernetes.io/metadata.name": self.namespace}


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """A label selector; the empty one selects everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions") or ():
        there, among = one["key"] in labels, labels.get(one["key"]) in (one.get("values") or ())
        met = {"In": among, "NotIn": not among, "Exists": there, "DoesNotExist": not there}
        if not met[one["operator"]]:
            return False
    return True


def comes_from(rule: Manifest, peer: Peer, *, own: str, pods_have_addresses: bool) -> bool:
    """Whether one entry of `from` is this peer. `pods_have_addresses`: an ipBlock may match pods
    (Calico), or never does (Cilium)."""
    if "ipBlock" in rule:
        block = rule["ipBlock"]
        inside = ipaddress.ip_address(peer.address) in ipaddress.ip_network(block["cidr"])
        return inside and (pods_have_addresses or not peer.namespace)
    if not peer.namespace:
        return False
    if "namespaceSelector" in rule:
        if not selects(rule["namespaceSelector"], peer.namespace_labels):
            return False
    elif peer.namespace != own:
        return False
    return selects(rule.get("podSelector") or {}, {})


def reaches(policy: Manifest, peer: Peer, port: int, *, pods_have_addresses: bool = False) -> bool:
    """Whether a connection to this port of a selected pod is let through."""
    for rule in policy["spec"]["ingress"]:
        ports = rule.get("ports")
        if ports and not any(one["protocol"] == "TCP" and one["port"] == port for one in ports):
            continue
        own = policy["metadata"]["namespace"]
        if not rule.get("from") or any(
            comes_from(one, peer, own=own, pods_have_addresses=pods_have_addresses)
            for one in rule["from"]
        ):
            return True
    return False


def policy_of(place: Place | None = None, **spec: Any) -> Manifest:
    (found,) = applied(plan(facts(relay(**spec), place=place or Place())), "NetworkPolicy")
    return found


ALLOWED = {"from": "Selector", "selector": {"matchLabels": {"mail": "allowed"}}}
EXPRESSIONS = {
    "from": "Selector",
    "selector": {
        "matchExpressions": [
            {"key": "team", "operator": "Exists"},
            {"key": "stage", "operator": "NotIn", "values": ["test"]},
        ]
    },
}
PEERS = (
    Peer(namespace=WHERE),
    Peer(namespace="a", labels={"mail": "allowed"}),
    Peer(namespace="b", labels={"mail": "no"}),
    Peer(namespace="c", labels={"team": "c"}),
    Peer(namespace="d", labels={"team": "d", "stage": "test"}),
    Peer(namespace="e"),
)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, {WHERE}),
        ([], {WHERE}),
        ([{"name": "n", "namespaces": {"from": "Same"}}], {WHERE}),
        ([{"name": "n", "namespaces": {"from": "All"}, "addresses": ["*"]}], None),
        ([{"name": "n", "namespaces": ALLOWED, "addresses": ["*"]}], {WHERE, "a"}),
        ([{"name": "n", "namespaces": EXPRESSIONS, "addresses": ["*"]}], {WHERE, "c"}),
        (
            [
                {"name": "m", "namespaces": ALLOWED, "addresses": ["*"]},
                {"name": "n", "namespaces": EXPRESSIONS, "addresses": ["*"]},
            ],
            {WHERE, "a", "c"},
        ),
    ],
)
def test_the_namespaces_that_may_have_a_login_reach_the_listeners(
    allowed: list[Manifest] | None, expected: set[str] | None
) -> None:
    spec: dict[str, Any] = {} if allowed is None else {"allowedSenders": allowed}
    policy = policy_of(**spec)
    everybody = {one.namespace for one in PEERS}
    found = {one.namespace for one in PEERS if reaches(policy, one, SUBMISSION)}
    assert found == (everybody if expected is None else expected)
    assert not reaches(policy, Peer(), SUBMISSION)
    # Nobody who is admitted is kept out by the network.
    for peer in PEERS:
        one = sender(namespace=peer.namespace)
        seen = facts(relay(**spec), one, namespaces={peer.namespace: dict(peer.labels)})
        (status,) = statuses(plan(seen), "MailSender")
        (accepted,) = (c for c in status["status"]["conditions"] if c["type"] == "Accepted")
        if accepted["status"] == "True":
            assert reaches(policy, peer, SUBMISSION)


def test_the_admin_port_is_for_the_operator_monitoring_and_named_clients() -> None:
    place = Place(operator_namespace="mail-system", monitoring_namespaces=("monitoring",))
    policy = policy_of(
        place,
        allowedSenders=[{"name": "n", "namespaces": {"from": "All"}, "addresses": ["*"]}],
    )
    for namespace, expected in (
        ("mail-system", True),
        ("monitoring", True),
        (WHERE, False),
        ("tenant", False),
    ):
        assert reaches(policy, Peer(namespace=namespace), ADMIN) is expected
    assert not reaches(policy, Peer(), ADMIN)


def test_no_other_port_is_open() -> None:
    policy = policy_of()
    for port in (22, 587, 8026, 8027, 10025):
        assert not any(reaches(policy, one, port) for one in (*PEERS, Peer()))


@pytest.mark.parametrize("type_", ["LoadBalancer", "NodePort"])
def test_a_service_for_the_outside_is_reached_from_there(type_: str) -> None:
    policy = policy_of(service={"type": type_})
    assert reaches(policy, Peer(), SUBMISSION)
    assert not reaches(policy, Peer(), ADMIN)


@pytest.mark.parametrize("pods_have_addresses", [True, False])
def test_clients_without_a_login_are_pods_for_every_enforcer(*, pods_have_addresses: bool) -> None:
    listener = {
        "name": "devices",
        "port": 2525,
        "tls": {"mode": "None"},
        "authentication": {"mode": "None", "clientCIDRs": ["10.0.0.0/8", "2001:db8::/32"]},
    }
    policy = policy_of(listeners=[listener])
    for peer, expected in (
        (Peer(namespace="any", address="10.1.2.3"), True),
        (Peer(address="10.1.2.3"), True),
        (Peer(address="2001:db8::7"), True),
        (Peer(address="192.0.2.1"), False),
    ):
        found = reaches(policy, peer, 2525, pods_have_addresses=pods_have_addresses)
        assert found is expected


def test_the_policy_selects_the_gateways_and_nothing_else() -> None:
    made = plan(facts(relay()))
    (policy,) = applied(made, "NetworkPolicy")
    (stateful_set,) = applied(made, "StatefulSet")
    selector = policy["spec"]["podSelector"]
    assert selects(selector, stateful_set["spec"]["template"]["metadata"]["labels"])
    assert not selects(selector, {"app.kubernetes.io/name": "mailrelay"})
    assert not selects(selector, {})
    assert policy["spec"]["policyTypes"] == ["Ingress"]

"""Who may reach the pods (NetworkPolicy), and how many may be evicted at once
(PodDisruptionBudget). Pure.

Egress is unrestricted on purpose: smarthosts are names whose addresses change, and a NetworkPolicy
matches addresses only.
"""

from __future__ import annotations

from mailrelay_gateway.contract.documents import ADMIN_PORT
from mailrelay_operator.api.listeners import Listener
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.metadata import LabelSelector
from mailrelay_operator.api.names import (
    disruption_budget_name,
    network_policy_name,
    selector_labels,
)
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.manifests.metadata import child
from mailrelay_operator.plan.manifests.services import by_port
from mailrelay_operator.plan.objects import Manifest, name_of

#: The label that the API server sets on every namespace.
LABEL_NAMESPACE = "kubernetes.io/metadata.name"


def network_policy(relay: Manifest, spec: MailRelaySpec, place: Place) -> Manifest:
    """Listeners for the relay's own and the admitted namespaces; the admin port for the operator,
    Prometheus and admin clients."""
    rules = [_listener_rule(listener, spec) for listener in by_port(spec.listeners)]
    rules.append(_admin_rule(spec, place))
    name = name_of(relay)
    return child(
        relay,
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        name=network_policy_name(name),
    ) | {
        "spec": {
            "podSelector": {"matchLabels": selector_labels(name)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        }
    }


def disruption_budget(relay: Manifest) -> Manifest:
    """One pod at a time; a pod that is not ready does not block a node's drain."""
    name = name_of(relay)
    return child(
        relay,
        api_version="policy/v1",
        kind="PodDisruptionBudget",
        name=disruption_budget_name(name),
    ) | {
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector_labels(name)},
        }
    }


def _listener_rule(listener: Listener, spec: MailRelaySpec) -> Manifest:
    rule: Manifest = {"ports": [{"protocol": "TCP", "port": listener.pod_port}]}
    if spec.service.type != "ClusterIP":
        return rule  # clients connect from outside, with arbitrary addresses
    peers: list[Manifest] = [{"podSelector": {}}]
    if listener.authentication.mode == "None":
        # Cilium never matches an ipBlock against pods. The gateway itself refuses clients outside
        # clientCIDRs.
        cidrs = listener.authentication.client_cidrs
        blocks: list[Manifest] = [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]
        return rule | {"from": [{"namespaceSelector": {}}, *blocks]}
    for entry in spec.allowed_senders:
        match entry.namespaces.from_:
            case "All":
                peers.append({"namespaceSelector": {}})
            case "Selector" if entry.namespaces.selector is not None:
                peers.append({"namespaceSelector": _selector(entry.namespaces.selector)})
            case _:
                pass  # Same: the relay's own namespace, which is already included
    return rule | {"from": [peer for n, peer in enumerate(peers) if peer not in peers[:n]]}


def _admin_rule(spec: MailRelaySpec, place: Place) -> Manifest:
    """The operator reads /status, Prometheus scrapes, and the ServiceAccounts in `admin` use the
    queue API. The kubelet's probes come from the node, which a NetworkPolicy does not block."""
    namespaces = {
        place.operator_namespace,
        *place.monitoring_namespaces,
        *(one.namespace for one in spec.admin.service_accounts),
    }
    named = {"key": LABEL_NAMESPACE, "operator": "In", "values": sorted(namespaces)}
    return {
        "ports": [{"protocol": "TCP", "port": ADMIN_PORT}],
        "from": [{"namespaceSelector": {"matchExpressions": [named]}}],
    }


def _selector(selector: LabelSelector) -> Manifest:
    found: Manifest = {}
    if selector.match_labels:
        found["matchLabels"] = dict(selector.match_labels)
    if selector.match_expressions:
        found["matchExpressions"] = [
            {"key": one.key, "operator": one.operator}
            | ({"values": list(one.values)} if one.values else {})
            for one in selector.match_expressions
        ]
    return found

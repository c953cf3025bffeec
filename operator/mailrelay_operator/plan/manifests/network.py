"""PURE: who may reach the pods (NetworkPolicy), and how many of them may be taken at once
(PodDisruptionBudget).

Egress is left open on purpose: smarthosts are names whose addresses change, and a NetworkPolicy
knows addresses only.
"""

from __future__ import annotations

from mailrelay_gateway.config import ADMIN_PORT
from mailrelay_operator.api.listeners import Listener
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.metadata import LabelSelector
from mailrelay_operator.api.names import (
    disruption_budget_name,
    network_policy_name,
    selector_labels,
)
from mailrelay_operator.plan.manifests.metadata import child
from mailrelay_operator.plan.objects import Manifest, name_of


def network_policy(relay: Manifest, spec: MailRelaySpec) -> Manifest:
    """Listeners for the namespaces that the relay admits, and its own; the admin port for all."""
    rules = [_listener_rule(listener, spec) for listener in spec.listeners]
    # /metrics and the probes are open, the rest asks for a token; a kubelet's probes come from the
    # node anyway.
    rules.append({"ports": [{"protocol": "TCP", "port": ADMIN_PORT}]})
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
    """One pod at a time; a pod that is not ready holds up no node's drain."""
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
        return rule  # clients come from outside, with addresses that say nothing
    peers: list[Manifest] = [{"podSelector": {}}]
    if listener.authentication.mode == "None":
        cidrs = listener.authentication.client_cidrs
        return rule | {"from": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]}
    for entry in spec.allowed_senders:
        match entry.namespaces.from_:
            case "All":
                peers.append({"namespaceSelector": {}})
            case "Selector" if entry.namespaces.selector is not None:
                peers.append({"namespaceSelector": _selector(entry.namespaces.selector)})
            case _:
                pass  # Same: our own namespace, which is there already
    return rule | {"from": [peer for n, peer in enumerate(peers) if peer not in peers[:n]]}


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
